"""Results of sweeps that nobody ran: every number is known, and any shape of study is cheap."""

import itertools

import numpy as np

BASELINE = 'hard labels'
STEPS = (0, 50, 100, 150, 200)
TEACHER = {
    'accuracy': 0.96,
    'nll': 0.12,
    'ece': 0.01,
    'params': 85_002,
    'bytes': 340_008,
    'flops': 900_000,
    'latency_ms': {'1': 0.9, '128': 12.0},
    'dark_knowledge': {
        'image': np.eye(8).tolist(),
        'label': 1,
        'class_names': ['zero', 'one', 'two'],
        'logits': [1.0, 5.0, -2.0],
        'temperatures': [1, 2, 4],
    },
}
PROVENANCE = {
    'config': {'data': {'name': 'toy | <b>'}},
    'config_hash': 'c0ffee',
    'versions': {'jax': '0.10.2'},
    'machine': {'processor': 'some', 'cores': 2},
    'git_commit': None,
    'data_checksum': 'f00d',
    'seconds': {'teacher': 1.5, 'distill': 20.25},
    'command': 'python run.py --config=configs/sweeps/toy.py',
}


def cost(width=64):
    """Of a student so many units wide."""
    params = 130 * width
    return {
        'params': params, 'bytes': 4 * params, 'flops': 9 * params, 'latency_ms': {'1': 0.1 + width / 1000, '128': 1.0},
    }  # fmt: skip


def record(method, seed, point=None, accuracy=0.9, *, size=250, status='done', steps=len(STEPS), **more):
    """One run; a run that is not done has what such a run has."""
    ended = status == 'done'
    metrics = {'accuracy': accuracy, 'nll': 1.2 - accuracy, 'ece': 0.05, 'agreement': accuracy - 0.01, 'kl': 0.2}
    best = {**metrics, 'accuracy': min(accuracy + 0.002, 1), 'step': 150}
    history = [
        {'step': step, 'accuracy': accuracy * (0.3 + 0.7 * (1 - np.exp(-step / 60))), 'nll': 1.0}
        for step in STEPS[: 0 if status == 'missing' else steps]
    ]
    return {
        'point': {'method': method, **(point or {})},
        'method': method,
        'seed': seed,
        'transfer_size': size,
        'status': status,
        'failure': {'step': 120, 'term': 'soft'} if status == 'failed' else None,
        'history': history,
        'last': metrics if ended else None,
        'best': best if ended else None,
        'cost': cost() if ended else None,
        'anatomy': [],
        'teacher': 'teacher',
        **more,
    }


def anatomy(rng):
    """Gradient norms that shrink and cosines that wander, of two terms."""
    return [
        {
            'step': step,
            'norms': {'hard': 2 * np.exp(-step / 80) * rng.uniform(0.9, 1.1), 'soft': 9 * np.exp(-step / 120)},
            'cosines': {'hard|soft': float(np.tanh(0.6 - step / 300 + 0.1 * rng.normal()))},
        }
        for step in STEPS
    ]


def results(records, axes, **more):
    """A study of these runs."""
    return {
        'title': 'A <made-up> sweep',
        'baseline': BASELINE,
        'axes': list(axes),
        'records': list(records),
        'teachers': {'teacher': TEACHER},
        'expected': None,
        'provenance': PROVENANCE,
        **more,
    }


def temperatures(seeds=20, values=(1, 2, 4, 6, 8, 10, 15, 20), methods=('kd', 'dist'), axis='temperature'):
    """Techniques at many temperatures and hard labels, which have none: gains rise to a peak and fall below zero."""
    rng = np.random.default_rng(0)
    luck = 0.012 * rng.standard_normal(seeds)
    runs = [record(BASELINE, seed, accuracy=0.9 + luck[seed] + 0.004 * rng.normal()) for seed in range(seeds)]
    for (place, method), value, seed in itertools.product(enumerate(methods), values, range(seeds)):
        gain = 0.025 - 0.012 * (np.log2(value) - 1.5 - place) ** 2
        accuracy = 0.9 + luck[seed] + gain + 0.005 * rng.normal()
        runs.append(record(method, seed, {axis: value}, float(accuracy), anatomy=anatomy(rng)))
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
    whole = temperatures(seeds)
    order = np.random.default_rng(3).permutation(len(whole['records']))
    for rank, place in enumerate(order):
        share = rank / len(order)
        status = 'done' if share < 0.45 else 'failed' if share < 0.5 else 'running' if share < 0.6 else 'missing'
        run = whole['records'][place]
        if status != 'done':
            point = {axis: value for axis, value in run['point'].items() if axis != 'method'}
            whole['records'][place] = record(run['method'], run['seed'], point, status=status, steps=3)
    return whole
