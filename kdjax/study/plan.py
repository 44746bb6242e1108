"""The plan: which stages a config means, in which order, under which address, at what cost."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from rich.table import Table

from kdjax import names, trees
from kdjax.data.base import Dataset
from kdjax.names import UsageError
from kdjax.study import build, outcome, stages, trace
from kdjax.train import grid, parallel

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
        # A cache keeps what the teacher says: which features it keeps for others changes nothing for a student.
        origins = [found['teacher' if need == 'cache' else need].key for need in needs]
        key = trees.digest([name, plain, origins, VERSION])
        found[name] = Stage(name, plain, needs, run, key)

    shared = {'source': config.data.source, 'seed': config.seed, 'precision': config.run.precision}
    teacher = config.teacher
    seen = {'augment': config.data.augment, 'views': config.data.views}
    reads = {**shared, **_fit_reads(config, teacher.fit), **_without(teacher, 'fit', 'mode')}
    add('teacher', reads, (), stages.train_teacher)
    if teacher.mode == 'cached':
        add('cache', {**seen, 'taps': teacher_taps(config)}, ('teacher',), stages.cache_teacher)
    for method in build.methods(config):
        for chain in chains(config, method):
            add_chain(config, chain, {**shared, **seen}, add)
    ends = tuple(stages.stage_name(chains(config, method)[-1]) for method in build.methods(config))
    reads = {'methods': config.methods, 'baseline': _baseline(config)}
    add('evaluate', reads, ('teacher', *dict.fromkeys(ends)), outcome.evaluate)
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
    fits = {name for method in build.methods(config) for name in chains(config, method)[-1]}
    terms = [term for name in sorted(fits) for _, term in build.objective(config, config.fits[name]).terms]
    return tuple(dict.fromkeys(tap for term in terms for tap in term.taps().teacher))


def check(config: ConfigDict) -> None:
    """Meets the errors that the config alone can show.

    Raises:
      UsageError: the first error met.
    """
    for name, value in (
        ('seeds', config.seeds),
        *((f'run.{name}', config.run[name]) for name in ('chunk', 'validate_every', 'save_every')),
        ('data.views', config.data.views),
        ('teacher.views', config.teacher.views),
        *((f'data.transfer_sizes entry {k}', size) for k, size in enumerate(config.data.transfer_sizes)),
    ):
        if not isinstance(value, int) or value < 1:
            raise UsageError(f'{name} must be an integer >= 1, got {value!r}')
    if not config.data.transfer_sizes:
        raise UsageError('data.transfer_sizes is empty; give at least one number of examples')
    if config.run.layout not in grid.LAYOUTS:
        raise names.unknown('grid layout', config.run.layout, grid.LAYOUTS)
    parallel.axis_of(config.run.runner)
    if config.teacher.mode not in ('cached', 'online'):
        raise names.unknown('teacher.mode', config.teacher.mode, ('cached', 'online'))
    _check_accept(config)
    if build.needs_teacher(config, config.teacher.fit):
        raise UsageError('teacher.fit uses a term that itself needs a teacher; give it task terms only')
    if len(choices := build.candidates(config, config.teacher.fit)) > 1:
        raise UsageError(f'teacher.fit must have one value for each knob, got several for {", ".join(choices[0])}')
    stages_of(config)
    for fit in fits(config).values():
        build.objective(config, fit)
        build.optimiser(fit)


def check_shapes(config: ConfigDict, dataset: Dataset) -> dict[str, trace.Traced]:
    """Traces every fit once, so that what its shapes forbid is met before anything trains; returns costs by fit.

    Raises:
      UsageError: the first error met, naming the fit.
    """
    build.streams(config, dataset.splits['train'].labels, build.cells(config, config.teacher.fit))
    found = {}
    for name, fit in fits(config).items():
        try:
            found[name] = trace.fit(config, dataset, config.teacher if name == 'teacher' else config.student, fit)
        except UsageError as error:
            raise UsageError(f'fit {name!r}: {error}') from error
    return found


def fits(config: ConfigDict) -> dict[str, ConfigDict]:
    """Every fit that runs, by name; the teacher's is called 'teacher'."""
    used = dict.fromkeys(name for method in build.methods(config) for name in chains(config, method)[-1])
    return {'teacher': config.teacher.fit, **{name: config.fits[name] for name in used}}


def table(config: ConfigDict, dataset: Dataset, workdir: Path) -> Table:
    """What would run: stages in order, their cells, steps and cost."""
    costs, shown = check_shapes(config, dataset), Table(title=config.title, title_justify='left')
    for column in ('stage', 'needs', 'cells', 'steps', 'GFLOP', 'MB of state', 'programs', 'state'):
        shown.add_column(column, justify='left' if column in ('stage', 'needs', 'state') else 'right')
    for stage in stages_of(config).values():
        done = 'done' if (workdir / stage.folder / stages.ARTIFACT).exists() else 'to run'
        fit = stage.name.split('+')[-1]
        if fit not in costs:
            shown.add_row(stage.name, ', '.join(stage.needs), '', '', '', '', '', done)
            continue
        cells = 1 if fit == 'teacher' else len(build.cells(config, fits(config)[fit]))
        steps, cost = fits(config)[fit].steps, costs[fit]
        shown.add_row(
            stage.name, ', '.join(stage.needs), str(cells), str(steps), f'{cells * steps * cost.flops / 1e9:.3g}',
            f'{cells * cost.bytes / 1e6:.3g}', '1', done,
        )  # fmt: skip
    return shown


def _check_accept(config: ConfigDict) -> None:
    accept = config.accept
    if accept.method not in config.methods:
        raise names.unknown('method', accept.method, config.methods, ' in accept.method')
    if accept.transfer_size and accept.transfer_size not in config.data.transfer_sizes:
        raise UsageError(
            f'accept.transfer_size must be one of data.transfer_sizes {config.data.transfer_sizes} or 0, '
            f'got {accept.transfer_size}'
        )
    if not 0 <= accept.accuracy <= 1:
        raise UsageError(f'accept.accuracy must be in [0, 1], got {accept.accuracy}')


def _baseline(config: ConfigDict) -> str:
    if config.baseline not in config.methods:
        raise names.unknown('method', config.baseline, config.methods, ' in baseline')
    return config.baseline


def _fit_reads(config: ConfigDict, fit: ConfigDict) -> dict[str, Any]:
    return {'fit': fit, 'terms': build.terms_of(config, fit), 'validate_every': config.run.validate_every}


def _without(config: ConfigDict, *names_: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names_}
