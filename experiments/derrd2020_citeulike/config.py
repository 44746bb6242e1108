"""The CiteULike table of DE-RRD and IR-RRD (Kang et al., 2020, 2021): what a small recommender gains from a large one.

Command:  KDJAX_DATA=folder python run.py --config=experiments/derrd2020_citeulike/config.py:short --mode=sweep
          (the folder has recsys/ with the published split); without :short the authors' recipe
Cost:     see README.md
Expected: expected.json, best epoch: H@5 of .4486 alone, .4698 RRD, .4947 IR-RRD, .4773 DE
Arguments: short (30 epochs of larger batches for students, 40 for the teacher), methods=NAME+NAME+... (of METHODS),
    width=N (of the student), split=loo|topology, seeds=N, epochs=N, teacher_epochs=N, batch=N, teacher_batch=N (that of
    the students), every=N (of so many interactions of a batch one asks about its user and item; 1 for all),
    experts=N (of so many experts look at one), topologies=N (of so many one is in the topology; 1,024 of a batch if
    left out), three=NAME+NAME+... (of METHODS, of three seeds alone), looks=N (validations)
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import base, citeulike
from kdjax.errors import unknown
from kdjax.study.sweep import rows

EXPECTED = 'experiments/derrd2020_citeulike/expected.json'
EXPERTS = {'kind': 'de_rrd.DistillationExperts', 'experts': 30, 'temperature': 1.0}
TERMS: Mapping[str, Mapping[str, Any]] = {
    'bpr': {'kind': 'bpr.PairwiseRanking'},
    'position': {'kind': 'rd.CandidatePosition', 'decay': 10.0, 'once': 'user'},
    'drawn': {'kind': 'de_rrd.CandidateRanking', 'interesting': 'interesting', 'once': 'user'},
    'first': {'kind': 'de_rrd.CandidateRanking', 'interesting': 'first', 'once': 'user'},
    'users': {'kind': 'ir_rrd.ItemSideRanking', 'interesting': 'first_users', 'once': 'item'},
    'soft': {'kind': 'cd.CollaborativeDistillation', 'once': 'user'},
    'dual': {'kind': 'dcd.DualCorrection', 'once': 'user'},
    'experts_users': {**EXPERTS, 'layer': 'user_vector'},
    'experts_items': {**EXPERTS, 'layer': 'item_vectors', 'each': True},
    'full': {'kind': 'topology.FullTopology', 'columns': ('user', 'items')},
    'groups': {'kind': 'topology.HierarchicalTopology', 'columns': ('user', 'items')},
}
# By name in the table: the weights beside that of BPR, 1. Those of DE, RRD, IR-RRD and the topologies are the authors',
# those of RD and DCD ours, untried; that of CD had the highest validation of 0.001 to 1 after 30 epochs of one seed.
METHODS: Mapping[str, Mapping[str, float]] = {
    'alone': {},
    'RD': {'position': 1e-3},
    'RRD': {'first': 1e-3},
    'RRD_drawn': {'drawn': 1e-3},
    'IR-RRD': {'first': 1e-3, 'users': 5e-4},
    'DE': {'experts_users': 0.01, 'experts_items': 0.01},
    'CD': {'soft': 0.1},
    'DCD': {'dual': 1e-3},
    'FTD': {'full': 1e-3},
    'HTD': {'groups': 1e-3},
}
# As long as the authors trained: until 20 epochs after the best, of their logs.
EPOCHS = {'alone': 396, 'RRD': 385, 'RRD_drawn': 385, 'IR-RRD': 194, 'DE': 273}
BATCH = 1024  # the authors'; of so many interactions they sum over pairs
TOPOLOGIES = ('full', 'groups')
EVERY = ('experts_users', 'experts_items', *TOPOLOGIES)  # terms that look at the first of every so many
GROUPS = {
    'position': ('first',), 'drawn': ('interesting', 'uninteresting'), 'first': ('first', 'uninteresting'),
    'users': ('first_users', 'uninteresting_users'), 'soft': ('interesting',), 'dual': ('first', 'uninteresting'),
}  # fmt: skip
NONE = dict.fromkeys(('first', 'uninteresting', 'first_users', 'uninteresting_users'), 0)


def get_config(arg: str = '') -> ConfigDict:
    """The base that the rows change, locked."""
    given = _arguments(arg)
    batch = given['batch'] or (4096 if given['short'] else BATCH)
    config = citeulike.get_config(f'split={given["split"]},width={given["width"]},seeds={given["seeds"]}')
    methods = _methods(given)
    lengths = {method: citeulike.steps(_epochs(method, given), batch) for method in methods}
    used = [term for method in methods for term in METHODS[method]]
    ranked = [term for term in used if 'interesting' not in GROUPS.get(term, ())]
    with config.unlocked(), config.ignore_type():
        config.title = 'DE-RRD on CiteULike'
        config.expected = '' if given['short'] else EXPECTED  # which is of the authors' recipe
        config.task = ConfigDict({'kind': 'recommendation.Recommendation', **(_groups(ranked) or _groups(used))})
        config.terms = ConfigDict({name: TERMS[name] for name in ('bpr', *used)})
        if given['every'] > 1:
            config.task.asked_every = given['every']
        for name in {*used} & {*EVERY}:
            fewer = _fewer(given, batch)
            some = fewer if name in TOPOLOGIES else given['experts'] or given['every']
            if some > 1:
                config.terms[name].every = some
            if name == 'groups' and given['experts'] > 1:
                config.terms.groups.experts_every = given['experts']
            if name == 'groups' and fewer * BATCH > batch:  # its distances are no sums over others
                config.terms.groups.topology = _longer(given, batch) / (1 + _longer(given, batch))
        for name in ('experts_users', 'experts_items'):
            if name in used:  # ever sharper
                config.terms[name].schedules = (('temperature', 1.0, 1e-3, lengths['DE'], 'linear'),)
        taught = given['teacher_epochs'] or (40 if given['short'] else 100)
        if not _groups(used):  # what is asked is then the embeddings of a batch, which no table would hold
            config.teacher.mode = 'online'
        rows = given['teacher_batch'] or batch
        config.teacher.fit = _fit(rows, citeulike.steps(taught, rows), {})
        config.fits = ConfigDict({
            _name(method): _fit(batch, lengths[method], _weights(method, given, batch)) for method in methods
        })  # fmt: skip
        for method in methods:
            if 'interesting' in _groups(METHODS[method]):
                config.fits[_name(method)].task = ConfigDict({**NONE, **_groups(METHODS[method])})
        config.methods = ConfigDict({method: (_name(method),) for method in methods})
        config.baseline, config.accept.method = 'alone', 'alone'
        looks = given['looks'] or (3 if given['short'] else 40)
        longest = max(lengths.values())
        config.run.update({'chunk': 28, 'validate_every': max(1, longest // looks), 'save_every': longest})
    return config


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every method, from several seeds."""
    given = _arguments(arg)
    methods, few = _methods(given), given['three'].split('+') if given['three'] else []
    if unused := {*few} - {*methods}:
        raise unknown('method', min(unused), methods, ' of three seeds')
    seeds = [{'seed': seed} for seed in range(3)]
    return [rows.Row({'method': method, **seed}, {'method': method, **seed})
            for method in methods for seed in (seeds if method in few else [{}])]  # fmt: skip


def _epochs(method: str, given: Mapping[str, Any]) -> int:
    return given['epochs'] or (30 if given['short'] else EPOCHS.get(method, 400))


def _fewer(given: Mapping[str, Any], batch: int) -> int:
    """Of how many interactions of a batch one is in the topology; by itself 1,024 are, as the authors'."""
    return given['topologies'] or max(1, batch // BATCH)


def _longer(given: Mapping[str, Any], batch: int) -> float:
    """How many times longer the authors' sums over all others of a topology are."""
    return max(1.0, _fewer(given, batch) * BATCH / batch)


def _weights(method: str, given: Mapping[str, Any], batch: int) -> dict[str, float]:
    """Those of METHODS; of topologies larger where their sums are shorter than the authors'."""
    longer = _longer(given, batch)
    more = {'full': longer, 'groups': (1 + longer) / 2}
    return {term: weight * more.get(term, 1.0) for term, weight in METHODS[method].items()}


def _fit(batch: int, steps: int, weights: Mapping[str, float]) -> ConfigDict:
    return citeulike.fit(batch, steps, bpr=1.0, **weights)


def _name(method: str) -> str:
    return 'baseline' if method == 'alone' else method.lower()


def _groups(used: Sequence[str]) -> dict[str, int]:
    """What users are asked about, beside what BPR needs: 40 of each, and 20 users of an item."""
    found = {group: 20 if group.endswith('users') else 40 for term in used for group in GROUPS.get(term, ())}
    drawn = 'interesting' in found
    return {**found, 'pool': 150 if drawn else 50} if found else {}


def _methods(given: Mapping[str, Any]) -> list[str]:
    names = given['methods'].split('+')
    for name in names:
        if name not in METHODS:
            raise unknown('method', name, METHODS)
    return ['alone', *(name for name in names if name != 'alone')]


def _arguments(arg: str) -> dict[str, Any]:
    return base.arguments(arg, short=False, methods='RRD+IR-RRD+DE', width=20, split='loo', seeds=5, epochs=0,
                          teacher_epochs=0, batch=0, teacher_batch=0, every=1, experts=0, topologies=0,
                          three='', looks=0)  # fmt: skip
