"""The plan: which stages a config means, in which order, under which address, at what cost."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from kdjax import names, trees
from kdjax.names import UsageError
from kdjax.study import build, stages

VERSION = 1  # of the stages' meaning; a change makes older artifacts unknown


@dataclasses.dataclass(frozen=True)
class Stage:
    """A step of the recipe.

    Its key hashes what it reads of the config, the keys of what it needs, and VERSION: the teacher's key does not
    mention the student, so no change of the student trains the teacher again.
    """

    name: str
    reads: Mapping[str, Any]
    needs: tuple[str, ...]
    run: Callable[..., dict[str, Any]]
    key: str

    @property
    def folder(self) -> str:
        """Name of the folder inside the workdir."""
        return self.name if self.name == 'report' else f'{self.name}-{self.key}'


def stages_of(config: ConfigDict) -> dict[str, Stage]:
    """All stages but the report, by name, in an order in which each comes after what it needs.

    Raises:
      UsageError: a method without fits, a fit that does not exist, or a baseline that is not a method.
    """
    found: dict[str, Stage] = {}

    def add(name: str, reads: Mapping[str, Any], needs: tuple[str, ...], run: Callable[..., dict[str, Any]]) -> None:
        plain = stages.plain_config(reads)
        key = trees.digest([name, plain, [found[need].key for need in needs], VERSION])
        found[name] = Stage(name, plain, needs, run, key)

    shared = {'data': _without(config.data, 'transfer_sizes'), 'seed': config.seed, 'precision': config.run.precision}
    teacher = config.teacher
    add(
        'teacher',
        {**shared, **_fit_reads(config, teacher.fit), 'net': teacher.net, 'args': teacher.args},
        (),
        stages.train_teacher,
    )
    if teacher.mode == 'cached':
        add('cache', {'taps': teacher_taps(config)}, ('teacher',), stages.cache_teacher)
    for method in config.methods:
        for chain in chains(config, method):
            add_chain(config, chain, shared, add)
    ends = tuple(stages.stage_name(chains(config, method)[-1]) for method in config.methods)
    reads = {'methods': config.methods, 'baseline': _baseline(config)}
    add('evaluate', reads, ('teacher', *dict.fromkeys(ends)), stages.evaluate)
    return found


def add_chain(config: ConfigDict, chain: tuple[str, ...], shared: Mapping[str, Any], add: Callable[..., None]) -> None:
    """Adds the stage of a chain's last fit."""
    fit = config.fits[chain[-1]]
    before = (stages.stage_name(chain[:-1]),) if len(chain) > 1 else ()
    source = ('cache' if config.teacher.mode == 'cached' else 'teacher',) if build.needs_teacher(config, fit) else ()
    reads = {
        **shared,
        **_fit_reads(config, fit),
        'chain': chain,
        'student': config.student,
        'seeds': config.seeds,
        'transfer_sizes': config.data.transfer_sizes,
    }
    add(stages.stage_name(chain), reads, (*source, *before), stages.train_students)


def chains(config: ConfigDict, method: str) -> list[tuple[str, ...]]:
    """The prefixes of a method's fits: ('distill',), ('distill', 'finetune')."""
    fits = tuple(config.methods[method])
    if not fits:
        raise UsageError(f'method {method!r} has no fits; there are: {", ".join(config.fits)}')
    for fit in fits:
        if fit not in config.fits:
            raise names.unknown('fit', fit, config.fits, f' of method {method!r}')
    return [fits[: length + 1] for length in range(len(fits))]


def teacher_taps(config: ConfigDict) -> tuple[str, ...]:
    """The teacher's features that any fit reads, to be cached beside its logits."""
    fits = {name for method in config.methods for name in chains(config, method)[-1]}
    terms = [term for name in sorted(fits) for _, term in build.objective(config, config.fits[name]).terms]
    return tuple(dict.fromkeys(tap for term in terms for tap in term.taps().teacher))


def check(config: ConfigDict) -> None:
    """Meets every error that can be met before anything trains, by building and tracing every stage abstractly.

    Raises:
      UsageError: the first error met.
    """
    for name, low in (('seeds', 1), ('data.views', 1), ('run.chunk', 1), ('run.validate_every', 1), ('run.save_every', 1)):
        value = config
        for part in name.split('.'):
            value = value[part]
        if value < low:
            raise UsageError(f'{name} must be >= {low}, got {value}')
    if config.teacher.mode not in ('cached', 'online'):
        raise names.unknown('teacher.mode', config.teacher.mode, ('cached', 'online'))
    if not config.data.transfer_sizes:
        raise UsageError('data.transfer_sizes is empty; give at least one number of examples')
    if config.accept.method not in config.methods:
        raise names.unknown('method', config.accept.method, config.methods, ' in accept.method')
    if build.needs_teacher(config, config.teacher.fit):
        raise UsageError('teacher.fit uses a term that itself needs a teacher; give it task terms only')
    stages_of(config)


def _baseline(config: ConfigDict) -> str:
    if config.baseline not in config.methods:
        raise names.unknown('method', config.baseline, config.methods, ' in baseline')
    return config.baseline


def _fit_reads(config: ConfigDict, fit: ConfigDict) -> dict[str, Any]:
    return {'fit': fit, 'terms': build.terms_of(config, fit), 'validate_every': config.run.validate_every}


def _without(config: ConfigDict, *names_: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names_}
