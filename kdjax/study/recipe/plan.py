"""The plan: which stages a recipe has, in which order, under which address, at what cost."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdjax import trees
from kdjax.cost import check_memory
from kdjax.dataset import Dataset
from kdjax.errors import UsageError
from kdjax.study.config.check import cache_name, folds_name, weights_file
from kdjax.study.recipe import build, caching, changes, dry_run, evaluation, feeding, shapes, stages
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.inputs import (
    CachedTeacher,
    Evaluated,
    FoldedTeacher,
    GivenTeacher,
    ImportedTeacher,
    Inputs,
    Teacher,
    TeacherTeam,
    TeachingNetwork,
    TrainedStudents,
    TrainedTeacher,
    new_modules,
)
from kdjax.study.recipe.recipe import ALL, BucketSpec, Fit, GridCell, Recipe, TeacherSpec
from kdjax.types import Tree

VERSION = 1  # of the stages' meaning; a change makes older artifacts unknown
# What makes a teacher.
TEACHING: Mapping[type, Callable[..., dict[str, Any]]] = {
    TrainedTeacher: stages.train_teacher,
    ImportedTeacher: stages.read_teacher,
    TeacherTeam: stages.join_teachers,
    GivenTeacher: caching.read_outputs,
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """A step of the recipe.

    Its key hashes all that it reads, the keys of what it needs, and VERSION: the teacher's key does not mention the
    student, so no change of the student trains the teacher again.
    """

    name: str
    inputs: Any  # of one of the classes of `inputs`
    needs: tuple[str, ...]
    run: Callable[..., dict[str, Any]]  # (inputs, context, folder, key) -> result
    key: str

    @functools.cached_property
    def reads(self) -> Mapping[str, Any]:
        """What its address hashes of its inputs."""
        return self.inputs.reads()

    @property
    def folder(self) -> str:
        """Name of the folder inside the workdir."""
        return self.name if self.name == 'report' else f'{self.name}-{self.key}'


def stages_of(recipe: Recipe, taps: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, Stage]:
    """All stages but the report, by name, in an order in which each comes after what it needs.

    Args:
      recipe: of the run.
      taps: features that the cache of a network that teaches keeps, by the key of that network; those that the fits of
        this recipe read, if left out.
    """
    result: dict[str, Stage] = {}

    def add(name: str, inputs: Any, needs: tuple[str, ...], run: Callable[..., dict[str, Any]]) -> None:
        # A cache keeps what the teacher says: which features it keeps for others changes nothing for a student.
        origins = [result[_origin(result[need])].key for need in needs]
        result[name] = Stage(name, inputs, needs, run, trees.digest([name, inputs.reads(), origins, VERSION]))

    teachers: dict[str, Teacher] = {}
    for name, spec in recipe.teachers.items():
        teachers[name] = inputs = _teacher_inputs(recipe, spec, teachers)
        above = (spec.fit.teacher, spec.pretrained) if isinstance(inputs, TrainedTeacher) else spec.team
        needs = tuple(dict.fromkeys(one for one in above if one in teachers))
        add(name, inputs, needs, TEACHING[type(inputs)])
    caches: dict[str, CachedTeacher] = {}
    for name, spec in sorted(recipe.teachers.items(), key=lambda item: (item[0] != 'teacher', item[0])):
        if spec.mode == 'cached' and recipe.taught_by(name):
            kept = (taps or {}).get(result[name].key) or recipe.teacher_taps(name)
            folded = _folded(spec, teachers[name])
            if folded is not None:
                add(folds_name(name), folded, result[name].needs, stages.train_folds)
            caches[name] = _cache_inputs(recipe, spec, teachers[name], folded, kept)
            add(cache_name(name), caches[name], (folds_name(name) if folded else name,), caching.cache_teacher)
    fits: dict[tuple[str, ...], TrainedStudents] = {}
    for method in recipe.methods:
        for chain in recipe.chains(method):
            fit = recipe.fits[chain[-1]]
            source = caches.get(fit.teacher) or teachers.get(fit.teacher)
            before = fits.get(chain[:-1])
            named = recipe.pretrained if recipe.pretrained in teachers else 'teacher' if recipe.start else ''
            parent = '' if before else named
            fits[chain] = _students_inputs(recipe, chain, source, before, teachers.get(parent))
            origin = () if source is None else ((cache_name if fit.teacher in caches else str)(fit.teacher),)
            earlier = (stage_name(chain[:-1]),) if before else ()
            started = (parent,) if parent and parent not in origin else ()
            add(stage_name(chain), fits[chain], (*origin, *earlier, *started), stages.train_students)
    ends = {method: fits[chain] for method, chain in recipe.methods.items()}
    compared = Evaluated(methods=recipe.methods, baseline=recipe.baseline, teacher=teachers['teacher'], ends=ends)
    names = dict.fromkeys(map(stage_name, recipe.methods.values()))
    add('evaluate', compared, ('teacher', *names), evaluation.evaluate)
    return result


def stage_name(chain: tuple[str, ...]) -> str:
    """Name of the stage that ends a chain of fits."""
    return '+'.join(chain)


def _origin(stage: Stage) -> str:
    if not isinstance(stage.inputs, CachedTeacher):
        return stage.name
    return folds_name(stage.inputs.name) if stage.inputs.folded else stage.inputs.name


def _teacher_inputs(recipe: Recipe, spec: TeacherSpec, known: Mapping[str, Teacher]) -> Teacher:
    """What a network that teaches depends on: how it is trained, or the weights that it has already."""
    if spec.outputs:
        common: dict[str, Any] = {**_common(recipe, recipe.column), 'column': recipe.column}
        return GivenTeacher(**common, name=spec.name, outputs=_content_of(spec.outputs), path=spec.outputs)
    common = _common(recipe, spec.column, spec.fit)
    data = common['data']._replace(preprocess=spec.preprocess) if spec.preprocess else common['data']
    data = data._replace(args={**data.args, **spec.data_args}) if spec.data_args else data
    common |= {'data': data, 'name': spec.name, 'network': spec.network, 'column': spec.column}
    parent = known.get(spec.pretrained)
    if spec.team:
        return TeacherTeam(
            data=data, seed=recipe.seed, precision=recipe.precision, task=common['task'], buckets=common['buckets'],
            name=spec.name, column=spec.column, team=tuple(_network(known[one]) for one in spec.team),
        )  # fmt: skip
    path = spec.weights or ('' if parent else spec.pretrained)
    content = _content_of(path)
    if spec.weights:
        return ImportedTeacher(**common, weights=content, path=path)
    return TrainedTeacher(
        **common, members=spec.members, augment=spec.augment, views=spec.views, fit=spec.fit,
        validate_every=recipe.validate_every, teaching=_teaching(recipe, spec.fit), source=known.get(spec.fit.teacher),
        pretrained=content, path=path, parent=parent, new=new_modules(recipe, spec.fit, parent),
    )  # fmt: skip


def _network(teacher: Teacher) -> TeachingNetwork:
    assert not isinstance(teacher, GivenTeacher)  # the config is checked for it
    return teacher


def _content_of(path: str) -> str:
    """Hash of the weights that lie at a path; '' of none."""
    if not path:
        return ''
    file = weights_file(path)
    return _content(str(file), file.stat().st_mtime_ns)


def _common(recipe: Recipe, column: str, fit: Fit | None = None) -> dict[str, Any]:
    """What every stage that trains reads, of a network that reads a column. Buckets are of the widths of 'inputs'."""
    learns = recipe.upstream if fit is not None and fit.upstream and recipe.upstream else recipe
    return {
        'data': learns.data, 'seed': recipe.seed, 'precision': recipe.precision, 'task': learns.task,
        'buckets': recipe.buckets if column == 'inputs' else BucketSpec(),
    }  # fmt: skip


def _folded(spec: TeacherSpec, teacher: Teacher) -> FoldedTeacher | None:
    return (
        FoldedTeacher(folds=spec.folds, teacher=teacher) if spec.folds and isinstance(teacher, TrainedTeacher) else None
    )


def _cache_inputs(
    recipe: Recipe, spec: TeacherSpec, teacher: Teacher, folded: FoldedTeacher | None, taps: tuple[str, ...]
) -> CachedTeacher:
    views = recipe.views
    kept = () if build.task(teacher.task).has_questions else taps  # a network that answers questions is asked for them
    return CachedTeacher(
        name=spec.name, augment=views.augment, views=views.views, taps=kept, precision=spec.precision, keep=spec.keep,
        bound=spec.bound, teacher=teacher, folded=folded,
    )  # fmt: skip


def _students_inputs(
    recipe: Recipe,
    chain: tuple[str, ...],
    source: Teacher | CachedTeacher | None,
    before: TrainedStudents | None,
    parent: Teacher | None,
) -> TrainedStudents:
    fit = recipe.fits[chain[-1]]
    sparse: dict[str, Any] = {'keep': source.keep, 'bound': source.bound} if isinstance(source, CachedTeacher) else {}
    path = '' if recipe.pretrained in recipe.teachers else recipe.pretrained
    start: dict[str, Any] = {} if before else {
        'start': recipe.start, 'parent': parent, 'pretrained': _content_of(path), 'path': path,
    }  # fmt: skip
    start |= {'new': new_modules(recipe, fit, before or parent)}
    drawn: dict[str, Any] = {'transfer_sizes': (ALL,)} if fit.upstream else {
        'transfer_sizes': recipe.transfer_sizes, 'draw': recipe.draw, 'classes': recipe.classes,
        'label_noise': recipe.label_noise,
    }  # fmt: skip
    return TrainedStudents(
        **_common(recipe, recipe.column, fit), column=recipe.column, views=recipe.views, fit=fit, order=recipe.order,
        validate_every=recipe.validate_every,
        teaching=_teaching(recipe, fit), chain=chain, student=recipe.student, seeds=recipe.seeds,
        gradient_every=recipe.gradient_every, source=source, before=before, **sparse, **start, **drawn,
    )  # fmt: skip


def _teaching(recipe: Recipe, fit: Fit) -> str:
    """The precision in which the teacher of a fit teaches, where it has one of its own."""
    spec = recipe.teachers.get(fit.teacher)
    return spec.precision if spec else ''


def check_shapes(recipe: Recipe, dataset: Dataset) -> dict[str, dry_run.Traced]:
    """Traces every fit once, so that what its shapes forbid is met before anything trains; returns costs by fit.

    Args:
      recipe: of the run.
      dataset: its data; others, that a network learns from first or a teacher has to itself, are loaded.

    Raises:
      UsageError: the first error met, naming the fit.
    """
    costs: dict[str, dry_run.Traced] = {}
    feeding.check_drawn(dataset, recipe)

    others = Datasets()

    def data_of(inputs: Inputs) -> Dataset:
        return dataset if inputs.data[:2] == recipe.data[:2] else others(inputs.data)

    for stage in stages_of(recipe).values():
        inputs = stage.inputs
        if isinstance(inputs, ImportedTeacher):
            dry_run.check_weights(inputs, data_of(inputs))
        if isinstance(inputs, GivenTeacher):
            dry_run.check_outputs(inputs, dataset)
        if not isinstance(inputs, TrainedTeacher | TrainedStudents):
            continue
        try:
            dry_run.check_start(inputs, data_of)
            if inputs.fit.name in costs and not changes.made(inputs):  # what is changed has other shapes in every chain
                continue
            before = inputs.before if isinstance(inputs, TrainedStudents) else None
            earlier = costs[before.fit.name].terms if before and not inputs.new else None
            cells, runner = cells_of(inputs), recipe.execution.runner
            costs[inputs.fit.name] = cost = traced(inputs, data_of(inputs), earlier, cells, runner)
            kept = len(cells) * cost.kept(runner)
            check_memory(f'the state of {len(cells)} cells', kept, shapes.device_bytes(), 'lower seeds')
        except UsageError as error:
            raise UsageError(f'fit {inputs.fit.name!r}: {error}') from error
    return costs


def traced(
    inputs: TrainedTeacher | TrainedStudents,
    dataset: Dataset,
    earlier: Tree | None,
    cells: Sequence[GridCell],
    runner: str,
) -> dry_run.Traced:
    """What a step of a fit costs, whose cells all have examples to see.

    Raises:
      UsageError: the data are not for the task, a cell has no examples, its state is more than a device has memory for,
        or whatever its shapes forbid.
    """
    train, task = dataset.splits['train'], build.task(inputs.task)
    task.check(dataset)
    if isinstance(inputs, TrainedStudents):
        streams = feeding.streams(
            task, train, cells, inputs.seed, inputs.classes, inputs.draw, inputs.fit, inputs.order
        )
        feeding.buckets(inputs.buckets, train, streams, inputs.fit.batch_size, inputs.seed)
    check_examples(inputs.fit, train.size)
    cost = dry_run.trace(inputs, dataset, earlier)
    check_memory(
        'the state of a student and its optimiser', cost.kept(runner), shapes.device_bytes(),
        "choose a smaller one, or cut it over devices: run.runner='fsdp'",
    )  # fmt: skip
    return cost


def cells_of(inputs: TrainedTeacher | FoldedTeacher | TrainedStudents) -> list[GridCell]:
    """The cells that a stage trains side by side: of a network that teaches, its members or those of its folds."""
    if isinstance(inputs, TrainedStudents):
        return inputs.fit.cells(inputs.transfer_sizes, inputs.seeds)
    count = inputs.folds if isinstance(inputs, FoldedTeacher) else inputs.members
    return [GridCell(0, seed, {}) for seed in range(count)]


def check_examples(fit: Fit, count: int) -> None:
    """Terms that remember something of every example must have room for all of them."""
    for name, term in fit.objective.terms:
        room = getattr(term, 'examples', count)
        if room < count:
            raise UsageError(f'term {name!r}: examples is {room}, but the data set has {count}')


@functools.cache
def _content(path: str, modified: int) -> str:
    """Hash of a file that was last written at this moment."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()[:16]
