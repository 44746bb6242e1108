"""Results of studies that nobody ran: every number is known, and any shape of study is cheap."""

import dataclasses
import itertools

import numpy as np

from kdjax.metrics import Metric
from kdjax.study.report.records import (
    Cost,
    Failure,
    GradientStats,
    Provenance,
    Results,
    Run,
    Teacher,
    Validation,
)

BASELINE = 'hard labels'
STEPS = (0, 50, 100, 150, 200)
TEACHER = Teacher({'accuracy': 0.96, 'nll': 0.12, 'ece': 0.01}, Cost(85_002, 340_008, 900_000, {'1': 0.9, '128': 12.0}))
EXHIBIT = {
    'image': np.eye(8).tolist(),
    'label': 1,
    'class_names': ['zero', 'one', 'two'],
    'logits': [1.0, 5.0, -2.0],
    'temperatures': [1, 2, 4],
}
PROVENANCE = Provenance(
    config_hash='c0ffee',
    versions={'jax': '0.10.2'},
    machine={'processor': 'some', 'cores': 2, 'convolutions': {'float32': 'oneDNN 3.2.0', 'bfloat16': 'XLA'}},
    git_commit=None,
    data_checksum='f00d',
    seconds={'teacher': 1.5, 'distill': 20.25},
    command='python run.py --config=configs/sweeps/toy.py',
)


def cost(width=64):
    """Of a student so many units wide."""
    params = 130 * width
    return Cost(params, 4 * params, 9 * params, {'1': 0.1 + width / 1000, '128': 1.0})


def record(method, seed, point=None, accuracy=0.9, *, size=250, status='done', steps=len(STEPS), **more):
    """One run; a run that is not done has what such a run has."""
    ended = status == 'done'
    metrics = {'accuracy': accuracy, 'nll': 1.2 - accuracy, 'ece': 0.05, 'agreement': accuracy - 0.01, 'kl': 0.2}
    history = tuple(
        Validation(step, {'accuracy': accuracy * (0.3 + 0.7 * (1 - np.exp(-step / 60))), 'nll': 1.0})
        for step in STEPS[: 0 if status == 'missing' else steps]
    )
    filled = {
        'failure': Failure(120, 'soft') if status == 'failed' else None,
        'last': metrics if ended else None,
        'best': {**metrics, 'accuracy': min(accuracy + 0.002, 1)} if ended else None,
        'best_step': 150 if ended else None,
        'history': history,
        'gradients': (),
        'cost': cost() if ended else None,
        'teacher': 'teacher',
        'stages': ('distill',),
        'chosen': {},
    }
    return Run(method, seed, size, {'method': method, **(point or {})}, status, **(filled | more))


def gradients(rng):
    """Gradient norms that shrink and cosines that wander, of two terms."""
    return tuple(
        GradientStats(
            step,
            {'hard': 2 * np.exp(-step / 80) * rng.uniform(0.9, 1.1), 'soft': 9 * np.exp(-step / 120)},
            {'hard|soft': float(np.tanh(0.6 - step / 300 + 0.1 * rng.normal()))},
        )
        for step in STEPS
    )


def results(runs, axes, **more):
    """A study of these runs."""
    study = Results(
        title='A <made-up> sweep',
        baseline=BASELINE,
        axes=tuple(axes),
        runs=tuple(runs),
        teachers={'teacher': TEACHER},
        exhibits={'teacher': EXHIBIT},
        provenance=PROVENANCE,
        config={'data': {'name': 'toy | <b>'}},
    )
    return dataclasses.replace(study, **more)


def changed(study, place, **fields):
    """A study with one of its runs changed."""
    runs = list(study.runs)
    runs[place] = dataclasses.replace(runs[place], **fields)
    return dataclasses.replace(study, runs=tuple(runs))


def temperatures(seeds=20, values=(1, 2, 4, 6, 8, 10, 15, 20), methods=('kd', 'dist'), axis='temperature'):
    """Techniques at many temperatures and hard labels, which have none: gains rise to a peak and fall below zero."""
    rng = np.random.default_rng(0)
    luck = 0.012 * rng.standard_normal(seeds)
    runs = [record(BASELINE, seed, accuracy=0.9 + luck[seed] + 0.004 * rng.normal()) for seed in range(seeds)]
    for (place, method), value, seed in itertools.product(enumerate(methods), values, range(seeds)):
        gain = 0.025 - 0.012 * (np.log2(value) - 1.5 - place) ** 2
        accuracy = 0.9 + luck[seed] + gain + 0.005 * rng.normal()
        runs.append(record(method, seed, {axis: value}, float(accuracy), gradients=gradients(rng)))
    return results(runs, ['method', axis])


def grid(seeds=4, temperatures=(1, 4, 16), weights=(0.1, 0.5, 0.9), widths=(32, 64), methods=('kd', 'dist')):
    """Three numeric axes; hard labels have a width only, and cost differs with it."""
    rng = np.random.default_rng(1)
    runs = []
    for width, seed in itertools.product(widths, range(seeds)):
        base = 0.8 + 0.03 * np.log2(width / 16) + 0.01 * rng.normal()
        runs.append(record(BASELINE, seed, {'width': width}, float(base), cost=cost(width)))
        for method, temperature, weight in itertools.product(methods, temperatures, weights):
            gain = 0.02 - 0.02 * (weight - 0.5) ** 2 - 0.004 * abs(np.log2(temperature) - 2) + 0.005 * rng.normal()
            point = {'temperature': temperature, 'weight': weight, 'width': width}
            runs.append(record(method, seed, point, float(base + gain), cost=cost(width)))
    return results(runs, ['method', 'temperature', 'weight', 'width'])


def many(count=80, seeds=5):
    """As many methods as there are techniques in the literature, and nothing else varied."""
    rng = np.random.default_rng(2)
    luck = 0.01 * rng.standard_normal(seeds)
    gains = {BASELINE: 0.0, **{f'technique {place:02}': 0.015 * rng.normal() for place in range(count)}}
    return results(
        [
            record(method, seed, accuracy=float(0.9 + luck[seed] + gain + 0.005 * rng.normal()))
            for method, gain in gains.items()
            for seed in range(seeds)
        ],
        ['method'],
    )


def half(seeds=10):
    """A sweep seen half-way: some arms are done, some runs failed, some are under way, most have not begun."""
    runs = list(temperatures(seeds).runs)
    order = np.random.default_rng(3).permutation(len(runs))
    for rank, place in enumerate(order):
        share = rank / len(order)
        status = 'done' if share < 0.45 else 'failed' if share < 0.5 else 'running' if share < 0.6 else 'missing'
        if status != 'done':
            runs[place] = record(runs[place].method, runs[place].seed, runs[place].point, status=status, steps=3)
    return results(runs, ['method', 'temperature'])


def errors(study):
    """The same study of a task that is judged by an error rate, in place of the accuracy: the lower the better."""
    wer = Metric('wer', 'word error rate', '%', 'lower')

    def turned(metrics):
        rest = {name: value for name, value in (metrics or {}).items() if name != 'accuracy'}
        return metrics and {'wer': 1 - metrics['accuracy'], **rest}

    runs = [
        dataclasses.replace(
            run, last=turned(run.last), best=turned(run.best),
            history=tuple(Validation(line.step, turned(line.metrics)) for line in run.history),
        )
        for run in study.runs
    ]  # fmt: skip
    teachers = {key: dataclasses.replace(one, metrics=turned(one.metrics)) for key, one in study.teachers.items()}
    metrics = (wer, *study.metrics[1:])
    return dataclasses.replace(study, runs=tuple(runs), teachers=teachers, metrics=metrics, score='wer')
