"""The main job in small: what takes the tests seconds. Arguments: kills (many short steps, saved often)."""

from configs import base


def get_config(arg=''):
    """Three methods, two seeds, two candidates, a size."""
    arguments = base.arguments(arg, kills=False)
    config = base.config()
    config.title = 'Tiny'
    config.seeds = 2
    config.student.args.widths = (8,)
    config.teacher.args.widths = (32,)
    config.data.transfer_sizes = (50,)
    config.search = base.Search({'terms.soft.temperature': (2.0, 4.0)})
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.steps = 300 if arguments['kills'] else 30
        fit.learning_rate = 1e-2
    config.run.chunk, config.run.validate_every, config.run.save_every = (
        (10, 50, 20) if arguments['kills'] else (10, 10, 20)
    )
    return config.lock()
