"""A sweep in small: what takes the tests seconds. Arguments: kills (many short steps, saved often)."""

from configs import base
from kdjax.study.sweep import rows


def get_config(arg=''):
    """Three methods, two seeds; two cells a grid."""
    arguments = base.arguments(arg, kills=False)
    config = base.config()
    config.title = 'Tiny sweep'
    config.seeds = 2
    config.student.args.widths = (8,)
    config.teacher.args.widths = (32,)
    config.data.transfer_sizes = (50,)
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.steps = 200 if arguments['kills'] else 30
        fit.learning_rate = 1e-2
    config.fits.finetune.steps = 20
    config.run.chunk, config.run.validate_every, config.run.save_every, config.run.cells = 10, 10, 20, 4
    return config.lock()


def sweep(arg=''):
    """A temperature axis for two methods, and the baseline."""
    methods = rows.product(
        rows.axis('method', 'combined', 'soft, then hard'), rows.axis('terms.soft.temperature', 2, 4, 8)
    )
    return rows.chained(rows.axis('method', 'hard labels'), methods)
