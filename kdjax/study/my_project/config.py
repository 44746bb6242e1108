"""A teacher, a student, and four ways to teach it.

Commands: kdjax plan  --config=my_project/config.py         what `sweep` would run, and what it costs; trains nothing
          kdjax run   --config=my_project/config.py         trains and reports; again, and it goes on where it was
          kdjax sweep --config=my_project/config.py         the rows of `sweep` below, in a folder of their own
Cost:     about three minutes of one CPU core
Arguments: quick (2 seeds, few steps: a look at the machinery, not a result)
"""

from ml_collections import ConfigDict

from kdjax.configs import base
from kdjax.study.sweep import rows


def get_config(arg: str = '') -> ConfigDict:
    """What runs, locked."""
    arguments = base.arguments(arg, quick=False)
    config = base.config()
    # Change here: every field is explained by `kdjax run --config=my_project/config.py --help`.
    config.title = 'my_project'
    config.seeds = 5
    config.data.source = 'my_project.data:data'
    config.data.transfer_sizes = (100,)  # examples that students see; () for all. The teacher sees all
    with config.ignore_type():
        config.teacher.net, config.teacher.args = 'my_project.nets:conv_net', ConfigDict({'widths': (32, 64)})
        config.student.net, config.student.args = 'my_project.nets:conv_net', ConfigDict({'widths': (8, 16)})
    config.terms.hint = ConfigDict({'kind': 'fitnets.Hint', 'layer': 'block2'})
    config.terms.attention = ConfigDict({'kind': 'attention.AttentionTransfer', 'layers': ('block1', 'block2')})
    config.terms.contrast = ConfigDict(
        {'kind': 'crd.ContrastiveRepresentation', 'layer': 'embedding', 'negatives': 64, 'width': 32}
    )
    config.terms.sure = ConfigDict({'kind': 'my_project.terms:SureTargets', 'temperature': 4.0})
    config.fits = ConfigDict(
        {
            'baseline': base.fit(hard=1.0),
            'combined': base.fit(hard=0.1, soft=0.9),
            'sure': base.fit(hard=0.1, sure=0.9),
            'hint': base.fit(hint=0.01),
            'features': base.fit(hard=0.1, soft=0.9, attention=10.0, contrast=0.02),
        }
    )
    config.methods = ConfigDict(
        {
            'hard labels': ('baseline',),
            'combined': ('combined',),
            'sure': ('sure',),
            'hint, then features': ('hint', 'features'),  # the second fit starts from the student of the first
        }
    )
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.steps = 20 if arguments['quick'] else 400
        fit.learning_rate = fit.terms_learning_rate = 1e-2
    config.run.layout = 'map'  # convolutions on a CPU: one cell after the other
    if arguments['quick']:
        config.seeds = 2
    return config.lock()


def sweep(arg: str = '') -> list[rows.Row]:
    """The baseline, and soft labels of three temperatures."""
    warmer = rows.product(rows.axis('method', 'combined'), rows.axis('terms.soft.temperature', 2.0, 4.0, 8.0))
    return rows.chained(rows.axis('method', 'hard labels'), warmer)
