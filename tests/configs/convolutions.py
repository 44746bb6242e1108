"""A small run whose networks are convolutional: a teacher, its soft labels and one method."""

from configs import base


def get_config(arg=''):
    """One method, one seed, a few steps."""
    base.arguments(arg)
    config = base.config()
    config.title = 'Convolutions'
    config.seeds = 1
    config.data.source = 'blobs:blobs'
    config.data.transfer_sizes = (60,)
    for network, width in ((config.student, 4), (config.teacher, 8)):
        network.net = 'cnn.cnn'
        network.args.widths = (width,)
    with config.ignore_type():
        config.methods = {'combined': ('combined',)}
    config.baseline = 'combined'
    for fit in (config.teacher.fit, config.fits.combined):
        fit.steps, fit.learning_rate = 4, 1e-2
    config.run.chunk, config.run.validate_every, config.run.save_every = 2, 2, 4
    return config.lock()
