"""Measures what techniques cost, and how much of them is held against other projects' numbers.

Command: python experiments/techniques/measure.py [GOLDEN [PRESET...]]      (about 20 minutes on 2 CPU cores)

GOLDEN is the folder of golden vectors, by default that of the tests. Writes results/costs.json, results/golden.json
and, from them and from what the code says, README.md. A test holds README.md to these.
"""

import functools
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import jax
import jax.numpy as jnp
import numpy as np

from configs import preset
from configs.sweeps import presets as sweep
from kdjax import trees
from kdjax.cpu import onednn
from kdjax.study.recipe import build
from kdjax.study.recipe.recipe import Fit, GridCell, Recipe
from kdjax.study.recipe.resolve import resolve
from kdjax.study.report import technique_list
from kdjax.study.report.document import Heading, Table, Text, markdown
from kdjax.train import ledger, teachers
from kdjax.train.step import init_state, init_student

ROUNDS, STEPS = 9, 5  # the two programs take turns, so many steps at a time


class Program(NamedTuple):
    """A compiled training step and what it is called with."""

    step: Any
    state: Any
    batch: Any

    def counted(self, what: str) -> float:
        """What the compiler counts: 'flops' or 'bytes accessed'."""
        return float(self.step.cost_analysis()[what])

    def seconds(self) -> float:
        """Wall time of STEPS steps."""
        start, state = time.perf_counter(), self.state
        for _ in range(STEPS):
            state = self.step(state, self.batch)
        jax.block_until_ready(state)
        return time.perf_counter() - start


def on_digits() -> dict[str, preset.Preset]:
    """The presets of which it is asked what they cost, by name."""
    return {name: one for name, one in sweep.presets().items() if one.nets in preset.NETS}


@functools.cache
def dataset() -> Any:
    return build.dataset(resolve(preset.config(sweep.presets()['kd'])).data)


def program(recipe: Recipe, fit: Fit, earlier: Any) -> Program:
    """A fit's step on one batch that brings the teacher's outputs along; `earlier` is what terms have learned."""
    train, classes, size = dataset().splits['train'], len(dataset().classes), fit.batch_size
    net = build.trained_net(build.net(recipe.student, {'classes': classes}, recipe.precision, None), fit)
    batch = {
        'inputs': jnp.asarray(train.inputs[:size]),
        'labels': jnp.asarray(train.labels[:size]),
        'mask': jnp.ones(size),
        'id': jnp.arange(size),
        'view': jnp.zeros(size, jnp.int32),
    }
    variables: Any = {}
    teacher = teachers.none()
    if fit.teacher:
        teaching, taps = net, fit.taps()
        if not fit.own_average:
            spec = recipe.teachers[fit.teacher]
            one = build.net(spec.network, {'classes': classes}, spec.precision or recipe.precision, None)
            teaching = build.probed(build.ensemble((one,) * spec.members) if spec.members > 1 else one, taps)
        variables = jax.jit(functools.partial(init_student, net=teaching))(jnp.uint32(7), batch['inputs'])
        outputs = jax.jit(teachers.frozen(teaching))(variables, batch)
        shown = {'logits': outputs.logits, **{tap: outputs.features[tap] for tap in taps}}
        batch |= {teachers.PREFIX + name: leaf for name, leaf in shown.items()}
        teacher = teachers.cached()
    knobs = trees.take(build.knobs(fit, [GridCell(1, 0, {})], 0), 0)
    parts = {'net': net, 'teacher': teacher, 'objective': fit.objective}
    parts['tx'] = build.optimiser(fit.spec.optim, fit.steps)
    student = jax.jit(functools.partial(init_student, net=net))(jnp.uint32(0), batch['inputs'])
    state = jax.jit(functools.partial(init_state, **parts))(knobs, variables, batch, student, earlier)
    step = jax.jit(lambda state, batch: build.step_of(fit)(state, {}, batch, knobs, **parts)[0])
    return Program(step.lower(state, batch).compile(), state, batch)


@functools.cache
def baseline(nets: str) -> Program:
    """A step with the hard labels alone."""
    recipe = resolve(preset.job({}, nets))
    return program(recipe, recipe.fits['baseline'], {})


def preset_costs(one: preset.Preset) -> dict[str, dict[str, float]]:
    """Costs of the terms of a preset, by class; of a class in several fits those of the costlier."""
    recipe = resolve(preset.job({'own': one}, one.nets))
    plain, found, earlier = baseline(one.nets), {}, {}
    for number in range(1, len(one.chain) + 1):
        fit = recipe.fits[f'own_{number}']
        full = program(recipe, fit, earlier)
        earlier = {**earlier, **full.state.params['terms']}
        turns = [(plain.seconds(), full.seconds()) for _ in range(ROUNDS)]
        cost = {
            'mflop': (full.counted('flops') - plain.counted('flops')) / 1e6,
            'mbyte': (full.counted('bytes accessed') - plain.counted('bytes accessed')) / 1e6,
            'params': trees.count(full.state.params['terms']),
            'share': 1 - statistics.median(short / long for short, long in turns),
        }
        for term in fit.terms.values():
            kind = term['kind']
            if kind != preset.HARD['kind'] and cost['mflop'] > found.get(kind, {'mflop': -np.inf})['mflop']:
                found[kind] = cost
    return found


def costs() -> dict[str, Any]:
    """Costs by class of term; of a class in several presets those of the simplest, which has the fewest terms."""
    found: dict[str, Any] = {}
    ordered = sorted(on_digits().items(), key=lambda item: len(item[1].terms))
    for number, (name, one) in enumerate(ordered, start=1):
        print(f'cost of {name} ({number} of {len(ordered)})', file=sys.stderr)
        for kind, cost in preset_costs(one).items():
            found.setdefault(kind, {**cost, 'preset': name})
    return {'terms': dict(sorted(found.items())), 'machine': ledger.machine(), 'versions': ledger.versions()}


def held(folder: Path) -> dict[str, Any]:
    """Golden records by class of term and by peer's technique: how many match, and why the others are refused."""
    import golden
    import golden_map

    used: set[str] = set()
    known = {technique.kind for technique in technique_list.techniques()}

    class Watched(golden.Objective):
        """An objective that notes which classes it is made of."""

        def __post_init__(self) -> None:
            super().__post_init__()
            for _, term in self.terms:
                kinds = (f'{base.__module__.rpartition(".")[2]}.{base.__name__}' for base in type(term).__mro__)
                used.update(kind for kind in kinds if kind in known)

    golden.Objective = Watched  # type: ignore[misc]
    terms: dict[str, int] = defaultdict(int)
    peers: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(('records', 'matched', 'refused'), 0))
    refused: dict[str, str] = {}
    for record in golden.records(folder):
        used.clear()
        counts = peers[record['technique']]
        counts['records'] += 1
        mapping = golden_map.MAPPINGS.get(record['technique'])
        if mapping is None:
            continue
        with np.load(folder / record['file']) as arrays:
            try:
                wrong = golden.disagreements(mapping, record, dict(arrays))
            except golden.Refused as why:
                counts['refused'] += 1
                refused[f'{golden.peer_of(record)}'] = str(why)
                continue
        counts['matched'] += not wrong
        for kind in used if not wrong else ():
            terms[kind] += 1
    return {'terms': dict(sorted(terms.items())), 'peers': dict(peers), 'refused': refused}


def page(cost: dict[str, Any], golden: dict[str, Any]) -> str:
    """README.md."""
    machine, versions = cost['machine'], cost['versions']
    known, used = technique_list.techniques(), technique_list.presets_of(sweep.presets())
    counts = golden['peers'].values()
    matched, records = (sum(count[name] for count in counts) for name in ('matched', 'records'))
    return markdown([
        Heading('Distillation terms', 1),
        Text('Written by python experiments/techniques/measure.py from what each class says of itself and from '
             'results/; python run.py --mode=list prints the same list.'),
        technique_list.table(used),
        Text(f'{len(known)} terms of {len({one.paper for one in known})} papers.'),
        Heading('What they are held against'),
        Text('Losses, gradients and outputs computed by the code of other projects, compared in float64: '
             f'{matched} of {records} records match.'),
        golden_table(golden),
        *(Text(f'Not reproduced on purpose: {peer}: {why}') for peer, why in golden['refused'].items()),
        Heading('What they cost'),
        Text('A training step of the student of the presets on digits (batch of 64, teacher looked up) beyond a step '
             'with the hard labels alone: operations and memory traffic as the compiler counts them, trainable '
             'parameters of the terms, and their share of the wall time of the step. The student is tiny, so the '
             'shares are large; operations, bytes and parameters carry over. '
             f'{machine["processor"]}, {machine["cores"]} cores, JAX {versions["jax"]}, median of {ROUNDS} turns.'),
        cost_table(cost, golden),
    ])  # fmt: skip


def golden_table(golden: dict[str, Any]) -> Table:
    """Records by the technique that peers name."""
    rows = tuple(
        (name, *(str(count[what] or '–') for what in ('records', 'matched', 'refused')))
        for name, count in golden['peers'].items()
    )
    return Table('Golden records', 'lrrr', ('technique', 'records', 'matched', 'refused'), rows)


def cost_table(cost: dict[str, Any], golden: dict[str, Any]) -> Table:
    """Costs, and golden records that use a term, by class."""
    rows = []
    for technique in technique_list.techniques():
        own, matched = cost['terms'].get(technique.kind), golden['terms'].get(technique.kind, 0)
        numbers = ('–',) * 5 if own is None else (
            own['preset'], f'{own["mflop"]:.2f}', f'{own["mbyte"]:.2f}', str(own['params']), f'{100 * own["share"]:.0f}'
        )  # fmt: skip
        rows.append((technique.kind, str(matched or '–'), *numbers))
    header = ('term', 'golden records', 'in preset', '+ MFLOP', '+ MB moved', 'parameters', '% of step')
    return Table('Cost of a step', 'lrlrrrr', header, tuple(rows))


def renewed(names: Sequence[str]) -> dict[str, Any]:
    """What was measured, of these presets anew; on a machine of the same kind, as it is said once."""
    known = json.loads((HERE / 'results' / 'costs.json').read_text())
    here = {name: ledger.machine()[name] for name in known['machine']}
    if here != known['machine']:
        raise SystemExit(f'costs are of {known["machine"]}, and this is {here}: measure all of them anew')
    terms = {kind: cost for kind, cost in known['terms'].items() if cost['preset'] not in names}
    for name in names:
        for kind, cost in preset_costs(sweep.presets()[name]).items():
            terms.setdefault(kind, {**cost, 'preset': name})
    return {**known, 'terms': dict(sorted(terms.items()))}


def main(folder: Path, names: Sequence[str]) -> None:
    """Measures everything, or the costs of some presets by name, and writes it down."""
    os.environ[onednn.OPT_OUT] = 'xla'  # the compiler cannot count what a library does
    (HERE / 'results').mkdir(exist_ok=True)
    known = HERE / 'results' / 'golden.json'
    found = {
        'golden': json.loads(known.read_text()) if names else held(folder),
        'costs': renewed(names) if names else costs(),
    }
    for name, content in found.items():
        (HERE / 'results' / f'{name}.json').write_text(json.dumps(content, indent=1) + '\n')
    (HERE / 'README.md').write_text(page(found['costs'], found['golden']))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / 'shared' / 'golden'), sys.argv[2:])
