"""A small run for several processes: a teacher, its soft labels and one method, saved often."""

from configs import base


def get_config(arg=''):
    """One method, one seed, augmented views, a look at the gradients."""
    base.arguments(arg)
    config = base.config()
    config.title = 'Pair'
    config.seeds = 1
    config.student.args.widths = (8,)
    config.teacher.args.widths = (32,)
    config.data.source = 'blobs:blobs'
    config.data.transfer_sizes = (60,)
    config.data.views = 2
    with config.ignore_type():
        config.methods = {'combined': ('combined',)}
        config.data.augment = {'kind': 'augment.shift', 'pixels': 1}
    config.baseline = 'combined'
    config.teacher.fit.steps, config.fits.combined.steps = 30, 120
    for fit in (config.teacher.fit, config.fits.combined):
        fit.learning_rate = 1e-2
    config.run.runner = 'sharded'
    config.run.chunk, config.run.validate_every, config.run.save_every = 10, 30, 30
    config.run.anatomy_every = 60
    config.track.tensorboard = True
    return config.lock()
