"""The plan: which stages a config means, in which order, under which address, at what cost."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from rich.table import Table

from kdjax import trees
from kdjax.data.base import Dataset
from kdjax.errors import UsageError, unknown
from kdjax.study.recipe import build, context, dry_run, evaluation, fit_grid, stages
from kdjax.train import parallel, probes

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


def stages_of(config: ConfigDict, taps: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, Stage]:
    """All stages but the report, by name, in an order in which each comes after what it needs.

    Args:
      config: of the run.
      taps: features that the cache of a network that teaches keeps, by the key of that network; those that the fits of
        this config read, if left out.

    Raises:
      UsageError: a method without fits, a fit that does not exist, or a baseline that is not a method.
    """
    found: dict[str, Stage] = {}
    caches: dict[str, str] = {}

    def add(name: str, reads: Mapping[str, Any], needs: tuple[str, ...], run: Callable[..., dict[str, Any]]) -> None:
        plain = context.plain_config(reads)
        # A cache keeps what the teacher says: which features it keeps for others changes nothing for a student.
        origins = [found[found[need].reads['name'] if need in caches else need].key for need in needs]
        key = trees.digest([name, plain, origins, VERSION])
        found[name] = Stage(name, plain, needs, run, key)

    data = [config.data[name] for name in ('source', 'args', 'preprocess')]
    shared = {'data': data, 'seed': config.seed, 'precision': config.run.precision}
    seen = {'augment': config.data.augment, 'views': config.data.views}
    shown = {**seen, 'mix': config.data.mix, 'consistent': config.data.consistent}
    known = build.teachers(config)
    students = [fit for name, fit in fits(config).items() if name not in known]
    used = {fit.teacher for fit in students if build.needs_teacher(config, fit)}
    for name in taught_order(config):
        spec = known[name]
        reads = {**shared, 'name': name, **_teacher_reads(config, spec)}
        add(name, reads, () if spec.weights else taught_by(config, spec.fit), stages.make_teacher)
    caches = {context.cache_stage(name): name for name in known if name in used and known[name].mode == 'cached'}
    for stage, name in caches.items():
        kept = (taps or {}).get(found[name].key) or teacher_taps(config, name)
        teaching = {'precision': known[name].precision} if known[name].precision else {}
        add(stage, {**seen, 'name': name, 'taps': kept, **teaching}, (name,), stages.cache_teacher)
    for method in build.methods(config):
        for chain in chains(config, method):
            add_chain(config, chain, {**shared, **shown}, add)
    ends = tuple(context.stage_name(chains(config, method)[-1]) for method in build.methods(config))
    reads = {'methods': config.methods, 'baseline': _baseline(config), 'version': evaluation.VERSION}
    add('evaluate', reads, ('teacher', *dict.fromkeys(ends)), evaluation.evaluate)
    return found


def add_chain(config: ConfigDict, chain: tuple[str, ...], shared: Mapping[str, Any], add: Callable[..., None]) -> None:
    """Adds the stage of a chain's last fit."""
    fit = config.fits[chain[-1]]
    before = (context.stage_name(chain[:-1]),) if len(chain) > 1 else ()
    source = taught_by(config, fit)
    if source and build.teachers(config)[fit.teacher].mode == 'cached':
        source = (context.cache_stage(fit.teacher),)
    reads = {
        **shared,
        **_fit_reads(config, fit),
        'chain': chain,
        'student': config.student,
        'seeds': config.seeds,
        'transfer_sizes': config.data.transfer_sizes,
        # Only where they are set: what they add is worth another run, their absence is not.
        **({'classes': config.data.classes} if config.data.classes else {}),
        **({'label_noise': config.data.label_noise} if config.data.label_noise else {}),
        **({'anatomy_every': config.run.anatomy_every} if config.run.anatomy_every else {}),
    }
    add(context.stage_name(chain), reads, (*source, *before), stages.train_students)


def taught_by(config: ConfigDict, fit: ConfigDict) -> tuple[str, ...]:
    """The network that teaches a fit, if another one does.

    Raises:
      UsageError: there is no such network, or no average that could teach.
    """
    if not build.needs_teacher(config, fit):
        return ()
    if fit.teacher == build.AVERAGE:
        if not fit.optim.get('ema'):
            raise UsageError("teacher 'average' is the moving average of the student: set optim.ema, such as 0.99")
        return ()
    if fit.teacher not in build.teachers(config):
        raise unknown('teacher', fit.teacher, (*build.teachers(config), build.AVERAGE), ' of a fit')
    return (fit.teacher,)


def taught_order(config: ConfigDict) -> list[str]:
    """The networks that teach, each after the one that teaches it.

    Raises:
      UsageError: networks that teach each other, or an assistant with the name of something else.
    """
    known, ordered = build.teachers(config), dict.fromkeys(['teacher'])
    taken = {build.AVERAGE, 'evaluate', 'report', *config.fits, *map(context.cache_stage, known)}
    for name in config.assistants:
        path = [name]
        if name in taken or name == 'teacher':
            raise UsageError(f'assistant {name!r} has the name of a stage; call it something else')
        while path[-1] not in ordered and (above := taught_by(config, known[path[-1]].fit)):
            if above[0] in path:
                raise UsageError(f'assistants {path} teach each other in a circle')
            path.append(above[0])
        ordered.update(dict.fromkeys(reversed(path)))
    return list(ordered)


def chains(config: ConfigDict, method: str) -> list[tuple[str, ...]]:
    """The prefixes of a method's fits: ('distill',), ('distill', 'finetune')."""
    fits = tuple(config.methods[method])
    if not fits:
        raise UsageError(f'method {method!r} has no fits; there are: {", ".join(config.fits)}')
    for fit in fits:
        if fit not in config.fits:
            raise unknown('fit', fit, config.fits, f' of method {method!r}')
    return [fits[: length + 1] for length in range(len(fits))]


def teacher_taps(config: ConfigDict, name: str = 'teacher') -> tuple[str, ...]:
    """Features of a teacher that any fit of students reads, to be cached beside its logits."""
    used = sorted({fit for method in build.methods(config) for fit in chains(config, method)[-1]})
    taught = [config.fits[fit] for fit in used if config.fits[fit].teacher == name]
    terms = [term for fit in taught for _, term in build.objective(config, fit).terms]
    return tuple(dict.fromkeys(tap for term in terms for tap in term.taps().teacher))


def check(config: ConfigDict) -> None:
    """Meets the errors that the config alone can show.

    Raises:
      UsageError: the first error met.
    """
    known = build.teachers(config)
    for name, value in (
        ('seeds', config.seeds),
        *((f'run.{name}', config.run[name]) for name in ('chunk', 'validate_every', 'save_every')),
        ('data.views', config.data.views),
        *((f'{name}.{what}', spec[what]) for name, spec in known.items() for what in ('views', 'members')),
        *((f'peers of fit {name!r}', fit.peers) for name, fit in config.fits.items()),
        *((f'data.transfer_sizes entry {k}', size) for k, size in enumerate(config.data.transfer_sizes)),
    ):
        if not isinstance(value, int) or value < 1:
            raise UsageError(f'{name} must be an integer >= 1, got {value!r}')
    if not 0 <= config.data.label_noise <= 1:
        raise UsageError(f'data.label_noise must be in [0, 1], got {config.data.label_noise}')
    for name in ('anatomy_every', 'profile'):
        if config.run[name] < 0:
            raise UsageError(f'run.{name} must be >= 0 (0: never), got {config.run[name]}')
    if not config.data.transfer_sizes:
        raise UsageError('data.transfer_sizes is empty; give at least one number of examples')
    if config.run.layout not in fit_grid.layouts():
        raise unknown('grid layout', config.run.layout, fit_grid.layouts())
    parallel.axis_of(config.run.runner)
    for name, spec in known.items():
        if spec.mode not in ('cached', 'online'):
            raise unknown(f'{name}.mode', spec.mode, ('cached', 'online'))
        if spec.weights and not Path(spec.weights).is_file():
            raise UsageError(f'{name}.weights: no file {spec.weights!r}')
        if spec.weights and spec.members > 1:
            raise UsageError(f'{name}.weights are of one network, and {name}.members is {spec.members}')
        if len(choices := build.candidates(config, spec.fit)) > 1:
            raise UsageError(f'{name}.fit must have one value for each knob, got several for {", ".join(choices[0])}')
        if spec.fit.peers > 1:
            raise UsageError(f'peers of {name}.fit must be 1, got {spec.fit.peers}; for several teachers set members')
    _check_accept(config)
    _check_shown(config)
    if build.needs_teacher(config, config.teacher.fit):
        raise UsageError('teacher.fit uses a term that itself needs a teacher; give it task terms only')
    stages_of(config)
    for fit in fits(config).values():
        build.objective(config, fit)
        build.optimiser(fit)
        _check_decay(config, fit)
    for method in build.methods(config):
        for later in chains(config, method)[-1][1:]:
            if config.fits[later].peers > 1:
                raise UsageError(f'fit {later!r} of method {method!r} has peers, so it must be the first of its method')


def check_shapes(config: ConfigDict, dataset: Dataset) -> dict[str, dry_run.Traced]:
    """Traces every fit once, so that what its shapes forbid is met before anything trains; returns costs by fit.

    Raises:
      UsageError: the first error met, naming the fit.
    """
    build.streams(config, dataset.splits['train'].labels, build.cells(config, config.teacher.fit))
    found: dict[str, dry_run.Traced] = {}
    before = {chain[-1]: chain[-2] for method in build.methods(config) for chain in chains(config, method)[1:]}
    for name, fit in fits(config).items():
        network = build.teachers(config).get(name, config.student)
        try:
            check_examples(config, fit, dataset)
            earlier = found[before[name]].terms if name in before else None
            found[name] = dry_run.fit(config, dataset, network, fit, earlier)
        except UsageError as error:
            raise UsageError(f'fit {name!r}: {error}') from error
    return found


def check_examples(config: ConfigDict, fit: ConfigDict, dataset: Dataset) -> None:
    """Terms that remember something of every example must have room for all of them."""
    count = len(dataset.splits['train'].labels)
    for name, term in build.objective(config, fit).terms:
        if getattr(term, 'examples', count) < count:
            raise UsageError(f'term {name!r}: examples is {term.examples}, but the data set has {count}')  # type: ignore[attr-defined]


def fits(config: ConfigDict) -> dict[str, ConfigDict]:
    """Every fit that runs, by name; those of networks that teach are called as they are."""
    used = dict.fromkeys(name for method in build.methods(config) for name in chains(config, method)[-1])
    teaching = {name: spec.fit for name, spec in build.teachers(config).items()}
    return {**teaching, **{name: config.fits[name] for name in used}}


def table(config: ConfigDict, dataset: Dataset, workdir: Path) -> Table:
    """What would run: stages in order, their cells, steps and cost."""
    costs, shown = check_shapes(config, dataset), Table(title=config.title, title_justify='left')
    for column in ('stage', 'needs', 'cells', 'steps', 'GFLOP', 'MB of state', 'programs', 'state'):
        shown.add_column(column, justify='left' if column in ('stage', 'needs', 'state') else 'right')
    for stage in stages_of(config).values():
        done = 'done' if (workdir / stage.folder / context.ARTIFACT).exists() else 'to run'
        fit = stage.name.split('+')[-1]
        if fit not in costs:
            shown.add_row(stage.name, ', '.join(stage.needs), '', '', '', '', '', done)
            continue
        known = build.teachers(config)
        cells = known[fit].members if fit in known else len(build.cells(config, fits(config)[fit]))
        steps, cost = stage.reads['fit']['steps'], costs[fit]
        shown.add_row(
            stage.name, ', '.join(stage.needs), str(cells), str(steps), f'{cells * steps * cost.flops / 1e9:.3g}',
            f'{cells * cost.bytes / 1e6:.3g}', '1', done,
        )  # fmt: skip
    return shown


def _check_decay(config: ConfigDict, fit: ConfigDict) -> None:
    """What a term takes over is not trained, and must not be shrunk either."""
    heirs = [name for name, term in build.objective(config, fit).terms if term.adopts]
    if heirs and any(build.knob_values(fit.terms_weight_decay, 'terms_weight_decay')):
        raise UsageError(
            f'terms_weight_decay must be 0, got {fit.terms_weight_decay}: it would shrink what {heirs} take over'
        )


def _check_accept(config: ConfigDict) -> None:
    accept = config.accept
    if accept.method not in config.methods:
        raise unknown('method', accept.method, config.methods, ' in accept.method')
    if accept.transfer_size and accept.transfer_size not in config.data.transfer_sizes:
        raise UsageError(
            f'accept.transfer_size must be one of data.transfer_sizes {config.data.transfer_sizes} or 0, '
            f'got {accept.transfer_size}'
        )
    if not 0 <= accept.accuracy <= 1:
        raise UsageError(f'accept.accuracy must be in [0, 1], got {accept.accuracy}')


def _check_shown(config: ConfigDict) -> None:
    """What students see must be something that their teachers can speak of."""
    data, known = config.data, build.teachers(config)
    if not isinstance(data.consistent, bool):
        raise UsageError(f'data.consistent must be True or False, got {data.consistent!r}')
    if not data.consistent and data.views < 2:
        raise UsageError('data.consistent=False needs data.views >= 2: of one view there is no other')
    for name, fit in fits(config).items():
        if name in known or not build.needs_teacher(config, fit):
            continue
        if len(data.mix) and fit.teacher in known and known[fit.teacher].mode == 'cached':
            raise UsageError(
                f'data.mix makes new examples in every step, so what {fit.teacher!r} tells fit {name!r} cannot be '
                f"cached: set mode='online' of {fit.teacher!r}"
            )
        asked = {tap for _, term in build.objective(config, fit).terms for tap in term.taps().teacher}
        drawn = sorted(asked & {tap for probe in probes.PROBES for tap in probe.taps})
        if drawn and not data.consistent:
            raise UsageError(f'fit {name!r} compares {drawn} at the pixels of the student: set data.consistent=True')


def _baseline(config: ConfigDict) -> str:
    if config.baseline not in config.methods:
        raise unknown('method', config.baseline, config.methods, ' in baseline')
    return config.baseline


def _fit_reads(config: ConfigDict, fit: ConfigDict) -> dict[str, Any]:
    spec = build.teachers(config).get(fit.teacher) if build.needs_teacher(config, fit) else None
    taught = {'teaching': spec.precision} if spec is not None and spec.precision else {}
    return {'fit': fit, 'terms': build.terms_of(config, fit), 'validate_every': config.run.validate_every, **taught}


def _teacher_reads(config: ConfigDict, spec: ConfigDict) -> dict[str, Any]:
    """What a network that teaches depends on: how it is trained, or the weights that it has already."""
    if not spec.weights:
        return {**_fit_reads(config, spec.fit), **_without(spec, 'fit', 'mode', 'weights', 'precision')}
    content = _content(spec.weights, Path(spec.weights).stat().st_mtime_ns)
    # No step is trained, which is what a plan counts.
    return {'net': spec.net, 'args': spec.args, 'members': 1, 'weights': content, 'fit': {'steps': 0}}


@functools.cache
def _content(path: str, modified: int) -> str:
    """Hash of a file that was last written at this moment."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()[:16]


def _without(config: ConfigDict, *names_: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names_}
