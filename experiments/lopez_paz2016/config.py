"""Unifying distillation and privileged information (Lopez-Paz, Bottou, Scholkopf, Vapnik, 2016), section 5.

Teachers are shown what students are not: the clean label of a point, its clean features, the features that count, or
digits at 28x28 pixels where the student sees 7x7. Is what they say worth learning from? 100 data sets of each of the
four settings, drawn anew, and 10 of 300 and of 500 digits.

Command:  KDJAX_DATA=FOLDER python run.py --config=experiments/lopez_paz2016/config.py --mode=sweep
          where FOLDER has the original files of MNIST in a folder 'mnist'
Cost:     see README.md
Expected: expected.json
Arguments: quick (few draws, few steps: a look at the machinery)
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base
from experiments.lopez_paz2016 import sets
from kdjax.study.sweep import rows

HERE = 'experiments.lopez_paz2016'
DRAWS = {'points': 100, 'digits': 10}
EXAMPLES = (300, 500)  # digits
BATCHES = {300: 100, 500: 125}  # 50 times through all of them is 150 and 200 steps
HIDDEN = (20, 20)
TEMPERATURES = (1, 2, 5, 10, 20, 50)
IMITATION = tuple(tenth / 10 for tenth in range(1, 11))  # lambda; 0 is the student alone
TIMES = tuple(temperature**2 for temperature in TEMPERATURES)  # what the code multiplies the loss of soft labels with
# What a student learns from softened answers: its name in the report -> the form of `hinton.SoftTargets`.
FORMS = {'as in the paper': 'lopez_paz', 'as in the code': 'lopez_paz_code', 'as in Hinton et al.': 'paper'}
ALONE, DISTILLED = 'alone', 'distilled'


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    draws = _draws(arg)['points']
    config = base.config()
    config.title = 'Distillation of privileged information'
    config.seeds = 1  # draws are what is repeated
    with config.ignore_type():
        config.task = ConfigDict({'kind': f'{HERE}.apart:Draws'})
        config.data.source = f'{HERE}.sets:synthetic'
        config.data.args = ConfigDict({'setting': 'clean labels', 'draws': draws})
        config.data.transfer_sizes = (sets.SIZES['train'],)
        for net in (config.student, config.teacher):
            net.net, net.args = f'{HERE}.apart:networks', ConfigDict({'widths': ()})
        config.terms = ConfigDict({name: config.terms[name] for name in ('hard', 'soft')})
        config.terms.soft.form, config.terms.soft.temperature = 'lopez_paz', 1.0
        config.fits = ConfigDict({'alone': _fit(arg, hard=1.0), 'distilled': _fit(arg, hard=0.0, soft=1.0)})
        config.methods = ConfigDict({ALONE: ('alone',), DISTILLED: ('distilled',)})
    config.teacher.inputs = 'teacher_inputs'
    config.teacher.fit = _fit(arg, hard=1.0)
    config.baseline, config.accept.method = ALONE, DISTILLED
    config.run.layout, config.run.cells = 'vmap', len(TEMPERATURES) * len(IMITATION)
    config.run.chunk, config.run.validate_every, config.run.save_every = 500, 10**6, 10**6
    return config.lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Both students of every setting; of digits every temperature and imitation in every form, and students alone whose
    loss is multiplied as the code multiplies that of soft labels."""
    draws = _draws(arg)
    methods = rows.axis('method', ALONE, DISTILLED)
    points = [
        rows.Row({'data': name}, {'data.args': {'setting': name, 'draws': draws['points']}}) for name in sets.SETTINGS
    ]
    return rows.chained(
        rows.product(points, [rows.Row({}, _weights(draws['points'], 1.0))], methods),
        *(_digits(arg, examples) for examples in EXAMPLES),
    )


def _digits(arg: str, examples: int) -> list[rows.Row]:
    draws, batch = _draws(arg)['digits'], BATCHES[examples]
    steps = 2 if _arguments(arg)['quick'] else 50 * examples // batch
    of_fits = {name: value for fit in ('fits.alone', 'fits.distilled', 'teacher.fit')
               for name, value in ((f'{fit}.steps', steps), (f'{fit}.batch_size', batch))}  # fmt: skip
    data = [rows.Row({'data': f'{examples} digits'}, {
        'data.source': f'{HERE}.sets:digits', 'data.args': {'examples': examples, 'draws': draws},
        'data.transfer_sizes': (examples,), 'student.args.widths': HIDDEN, 'teacher.args.widths': HIDDEN, **of_fits,
    })]  # fmt: skip
    scaled = [
        rows.Row({'loss times': times}, {**_weights(draws, 1.0), 'fits.alone.weights.hard': float(draws * times)})
        for times in TIMES
    ]
    alone = rows.product(rows.axis('method', ALONE), scaled)
    forms = [rows.Row({'form': name}, {'terms.soft.form': form}) for name, form in FORMS.items()]
    imitation = [rows.Row({'imitation': share}, _weights(draws, share)) for share in IMITATION]
    softened = rows.axis('terms.soft.temperature', *map(float, TEMPERATURES))
    taught = rows.product(rows.axis('method', DISTILLED), forms, softened, imitation)
    return rows.product(data, rows.chained(alone, taught))


def _weights(draws: int, imitation: float) -> dict[str, Any]:
    """Each network trains as it does by itself."""
    return {
        'teacher.fit.weights.hard': float(draws), 'fits.alone.weights.hard': float(draws),
        'fits.distilled.weights.hard': draws * (1 - imitation), 'fits.distilled.weights.soft': draws * imitation,
    }  # fmt: skip


def _fit(arg: str, **weights: float) -> ConfigDict:
    """1,000 times through 200 points."""
    fit = base.fit(**weights)
    fit.steps, fit.batch_size, fit.learning_rate = 2 if _arguments(arg)['quick'] else 2000, 100, 1e-3
    fit.optim = ConfigDict({'name': 'rmsprop', 'schedule': 'constant', 'b2': 0.9, 'eps': 1e-6})
    return fit


def _draws(arg: str) -> dict[str, int]:
    return dict.fromkeys(DRAWS, 2) if _arguments(arg)['quick'] else DRAWS


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, quick=False)
