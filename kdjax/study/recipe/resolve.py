"""From a config to a recipe, once: everything is built and checked here, and errors are reported together."""

import contextlib
import dataclasses
import graphlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from kdjax.data.stream import training_feed
from kdjax.errors import Problems, UsageError, unknown
from kdjax.resolve import construct
from kdjax.resolve import resolve as resolve_name
from kdjax.study.config import check
from kdjax.study.config.check import KNOBS, RATES
from kdjax.study.config.search import combinations, number
from kdjax.study.recipe import build, caching, changes, feeding
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.from_data import filled
from kdjax.study.recipe.inputs import plain
from kdjax.study.recipe.recipe import (
    AVERAGE,
    BEFORE,
    DENSE,
    OWN,
    BucketSpec,
    DataSource,
    Execution,
    Fit,
    FitSpec,
    NetSpec,
    Recipe,
    TaskSpec,
    TeacherSpec,
    Upstream,
    Views,
)
from kdjax.tasks.base import Task
from kdjax.techniques.base import Term
from kdjax.train import grid, layout, parallel
from kdjax.train.objective import Objective

Candidates = Mapping[str, tuple[float, ...]]  # config.search, without stars


def resolve(config: ConfigDict, datasets: Datasets | None = None) -> Recipe:
    """The recipe that a config means.

    Args:
      config: of the run.
      datasets: know what the data are; their own are loaded again if left out.

    Raises:
      UsageError: all that is wrong with it, as far as neither the data nor shapes are needed to see it, one a line.
    """
    check.check(config)
    datasets, given = datasets or Datasets(), config
    with contextlib.suppress(UsageError):  # a term or data that do not exist are met below, with all else
        config = filled(config, datasets)
    if config is not given:
        check.check(config)
    searched = config.search.candidates(config)
    problems = Problems()
    teachers: dict[str, TeacherSpec] = {}
    fits: dict[str, Fit] = {}
    for name, spec in check.teachers(config).items():
        with problems.collected(f'fit {name!r}'):
            teachers[name] = _teacher(config, name, spec)
    for name in dict.fromkeys(fit for method in config.methods.values() for fit in method):
        with problems.collected(f'fit {name!r}'):
            fits[name] = _fit(config, name, config.fits[name], searched)
    with problems.collected():
        _check_search(searched, config)
    with problems.collected():
        build.task(task_of(config))
    if config.upstream.task:
        with problems.collected('upstream'):
            build.task(task_of(config.upstream))
    problems.report()
    with problems.collected():
        teachers = _ordered(config, teachers)
    recipe = _recipe(config, teachers, fits, datasets)
    for spec in teachers.values():
        with problems.collected():
            caching.check_together(recipe, spec)
    for fit in recipe.all_fits().values():
        with problems.collected():
            caching.check_source(recipe, fit)
    for fit in fits.values():
        with problems.collected():
            caching.check_views(recipe, fit)
    with problems.collected():
        _check_execution(recipe)
    problems.report()
    return recipe


def _recipe(
    config: ConfigDict, teachers: Mapping[str, TeacherSpec], fits: Mapping[str, Fit], datasets: Datasets
) -> Recipe:
    run, data = config.run, config.data
    arguments = data.args.to_dict()
    execution = Execution(
        run.runner, run.layout, run.cells, run.memory, run.chunk, run.save_every, run.profile, data.stream,
        run.tflops, config.track.tensorboard, config.track.wandb, plain(config.to_dict()),
    )  # fmt: skip
    return Recipe(
        config=config,
        title=config.title,
        seed=config.seed,
        seeds=config.seeds,
        task=task_of(config),
        buckets=_buckets(config),
        data=DataSource(data.source, arguments, data.preprocess.to_dict(), datasets.content(data.source, arguments)),
        upstream=_upstream(config, datasets),
        views=Views(_plain(data.augment), data.views, data.mix.to_dict(), data.consistent),
        transfer_sizes=tuple(data.transfer_sizes),
        draw=data.draw,
        order=data.order,
        classes=tuple(data.classes),
        label_noise=data.label_noise,
        teachers=teachers,
        student=_network(config.student),
        # A row of a sweep may give a whole network, of its name and arguments alone.
        column=config.student.get('inputs', 'inputs'),
        pretrained=config.student.get('pretrained', ''),
        start=dict(config.student.get('start', {})),
        fits=fits,
        methods=_methods(config),
        baseline=config.baseline,
        precision=run.precision,
        validate_every=execution.rounded(run.validate_every),
        gradient_every=execution.rounded(run.anatomy_every),
        execution=execution,
    )


def task_of(config: ConfigDict) -> TaskSpec:
    """The task, with the score that is given in the place of its own."""
    arguments = config.task.to_dict()
    return TaskSpec(arguments.pop('kind'), arguments)


def _upstream(config: ConfigDict, datasets: Datasets) -> Upstream | None:
    """The data set that fits upstream learn from; what is left out is as of `data`."""
    spec = config.upstream
    if not spec.source:
        return None
    arguments, preprocess = spec.args.to_dict(), (spec.preprocess or config.data.preprocess).to_dict()
    data = DataSource(spec.source, arguments, preprocess, datasets.content(spec.source, arguments))
    return Upstream(data, task_of(spec if spec.task else config), tuple(spec.new))


def _buckets(config: ConfigDict) -> BucketSpec:
    widths = tuple(config.data.buckets)
    return BucketSpec(widths, config.data.bucket_run) if widths else BucketSpec()


def _methods(config: ConfigDict) -> dict[str, tuple[str, ...]]:
    """The fits of every method, by name; the baseline first (a ConfigDict knows no order but the alphabet's)."""
    ordered = sorted(config.methods, key=lambda name: (name != config.baseline, name))
    return {name: tuple(config.methods[name]) for name in ordered}


def _network(spec: ConfigDict) -> NetSpec:
    return NetSpec(spec.net, spec.args.to_dict())


def _plain(spec: Any) -> Any:
    """Part of a config, or several, as dictionaries."""
    if isinstance(spec, ConfigDict):
        return spec.to_dict()
    return dict(spec) if isinstance(spec, Mapping) else [_plain(one) for one in spec]


def _teacher(config: ConfigDict, name: str, spec: ConfigDict) -> TeacherSpec:
    fit = _fit(config, name, spec.fit, {})
    if fit.teacher in (BEFORE, DENSE):
        raise UsageError(f'teacher {fit.teacher!r} is of students, and {name} has no fit before')
    if spec.weights and (fit.spec.change or fit.spec.optim.get('pruning')):
        raise UsageError(f'{name}.weights teach as they are; to prune or to change them, start from them: set '
                         f'{name}.pretrained')  # fmt: skip
    if name == 'teacher' and fit.teacher:
        raise UsageError('teacher.fit uses a term that itself needs a teacher; give it task terms only')
    return TeacherSpec(
        name, _network(spec), spec.weights, spec.pretrained, spec.outputs, tuple(spec.team), spec.members,
        _plain(spec.augment), spec.views, fit, spec.mode, spec.precision, spec.inputs, spec.preprocess.to_dict(),
        spec.folds, spec.keep, spec.bound, spec.data_args.to_dict(),
    )  # fmt: skip


def _fit(config: ConfigDict, name: str, spec: ConfigDict, searched: Candidates) -> Fit:
    """A fit with its terms, each of them built with every candidate, so that a bad one is met here."""
    place = f'fits.{name}'
    terms = {term: _term_spec(config, term, searched) for term in spec.weights}
    rates = {rate: searched.get(f'{place}.{rate}', (spec[rate],)) for rate in KNOBS}
    weights = {term: searched.get(f'{place}.weights.{term}', (spec.weights[term],)) for term in spec.weights}
    build.optimiser(spec.optim.to_dict(), spec.steps)
    used = changes.knobs(spec, rates)
    knobs = {**_floats({rate: rates[rate] for rate in (*RATES, *used)}), **_knobs(config, terms, weights)}
    for rate in RATES:
        if min(knobs[rate]) < 0:
            raise UsageError(f'{rate} must be >= 0, got {knobs[rate]}')
    objectives = [_objective(terms, {**{k: v[0] for k, v in knobs.items()}, **c}) for c in combinations(knobs)]
    asks = bool(spec.blockwise) or any(term.TEACHER for _, term in objectives[0].terms)
    reads = asks or _own_task(config, spec).reads_teacher
    teacher = spec.teacher if reads else ''
    _check_teacher(config, spec, teacher)
    _check_decay(objectives[0], knobs['terms_weight_decay'])
    _check_answer(objectives[0], spec)
    given: dict[str, Any] = {**spec.to_dict(), **rates, 'weights': weights}
    fit = FitSpec(**given)
    return Fit(name, fit, terms, objectives[0], knobs, teacher)


def _term_spec(config: ConfigDict, name: str, searched: Candidates) -> dict[str, Any]:
    """A term as the config says it, its knobs with all their candidates."""
    spec = config.terms[name].to_dict()
    kind = term_class(spec['kind'])
    for knob in knob_fields(kind):
        place = f'terms.{name}.{knob}'
        if knob in spec:
            number(place, spec[knob])
            spec[knob] = (spec[knob],)
        if place in searched:
            spec[knob] = searched[place]
    return spec


def term_class(kind: str) -> type[Term]:
    """The class that a term's 'kind' names."""
    result = resolve_name('kdjax.techniques', kind, 'term')
    if not (isinstance(result, type) and issubclass(result, Term)):
        raise UsageError(f'{kind!r} is not a distillation term')
    return result


def knob_fields(kind: type[Term]) -> list[str]:
    """Fields of a term that are knobs."""
    return [field.name for field in dataclasses.fields(kind) if 'knob' in field.metadata]


def _knobs(
    config: ConfigDict, terms: Mapping[str, Mapping[str, Any]], weights: Mapping[str, tuple[float, ...]]
) -> dict[str, tuple[float, ...]]:
    """All numbers of every knob of terms that is given, by dotted name."""
    result: dict[str, tuple[float, ...]] = {}
    for name, spec in terms.items():
        result[f'{name}.weight'] = weights[name]
        result.update({f'{name}.{knob}': spec[knob] for knob in knob_fields(term_class(spec['kind'])) if knob in spec})
    return _floats(result)


def _floats(knobs: Mapping[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(map(float, values)) for name, values in knobs.items()}


def _objective(terms: Mapping[str, Mapping[str, Any]], values: Mapping[str, float]) -> Objective:
    """The terms of a fit, with one number for each knob."""
    built = []
    for name, spec in terms.items():
        knobs = knob_fields(term_class(spec['kind']))
        arguments = {field: value for field, value in spec.items() if field != 'kind' and field not in knobs}
        arguments |= {knob: values[f'{name}.{knob}'] for knob in knobs if f'{name}.{knob}' in values}
        built.append((name, construct('kdjax.techniques', spec['kind'], arguments, 'term')))
    return Objective(tuple(built))


def _check_teacher(config: ConfigDict, spec: ConfigDict, teacher: str) -> None:
    """A fit that needs a teacher must have one that is there."""
    if teacher == AVERAGE and not spec.optim.get('ema'):
        raise UsageError("teacher 'average' is the moving average of the student: set optim.ema, such as 0.99")
    known = check.teachers(config)
    if teacher and teacher not in (*known, *OWN):
        raise unknown('teacher', teacher, (*known, *OWN), ' of a fit')
    if teacher == DENSE and spec.peers > 1:
        raise UsageError(f"teacher 'dense' is of one student, and the fit has {spec.peers} peers")


def _own_task(config: ConfigDict, spec: ConfigDict) -> Task:
    """The task as a fit has it."""
    whole, own = task_of(config), spec.task.to_dict()
    able = build.task(whole).OF_FITS
    for name in own:
        if name not in able:
            raise unknown('attribute', name, able, f' of {whole.kind} that a fit may have for itself')
    return build.fitted_task(whole, own)


def _check_decay(objective: Objective, decay: tuple[float, ...]) -> None:
    """What a term takes over is not trained, and must not be shrunk either."""
    heirs = [name for name, term in objective.terms if term.adopts]
    if heirs and any(decay):
        raise UsageError(f'terms_weight_decay must be 0, got {decay}: it would shrink what {heirs} take over')


def _check_answer(objective: Objective, spec: ConfigDict) -> None:
    """What answers in the student's place is a term of the fit, of a kind whose paper says so."""
    if not spec.answer:
        return
    able = [name for name, term in objective.terms if type(term).answer is not Term.answer]
    if spec.answer not in able:
        raise unknown('term', spec.answer, able, ' that can answer in the place of the student of a fit')
    if spec.peers > 1:
        raise UsageError(f'answer {spec.answer!r} is of one student, and the fit has {spec.peers} peers')


def _check_search(searched: Candidates, config: ConfigDict) -> None:
    """Only knobs are searched: a grid of candidates is one compiled program."""
    for field in searched:
        part, name, *rest = field.split('.')
        if part == 'terms':
            knobs = knob_fields(term_class(config.terms[name].kind))
            if rest[0] not in knobs:
                raise unknown('knob', rest[0], knobs, f' of term {name!r} in config.search')
        elif rest[0] not in KNOBS and rest[0] != 'weights':
            raise unknown('knob', rest[0], (*KNOBS, 'weights'), f' of fit {name!r} in config.search')


def _ordered(config: ConfigDict, teachers: Mapping[str, TeacherSpec]) -> dict[str, TeacherSpec]:
    """The networks that teach, each after the one that teaches it and the one that it starts as."""
    above = {name: [one for one in (spec.fit.teacher, spec.pretrained, *spec.team) if one in teachers]
             for name, spec in teachers.items()}  # fmt: skip
    try:
        ordered = [*graphlib.TopologicalSorter(above).static_order()]
    except graphlib.CycleError as error:
        raise UsageError(f'assistants {error.args[1]} teach each other in a circle, or start as each other') from error
    for name in config.assistants:
        source = teachers.get(teachers[name].fit.teacher)
        if source and source.outputs and not teachers[name].outputs:
            raise UsageError(f'{name} asks its teacher in every step, and {source.name}.outputs can only be looked up')
    return {name: teachers[name] for name in ordered}


def _check_execution(recipe: Recipe) -> None:
    training_feed(recipe.execution.stream)
    parallel.axis_of(recipe.execution.runner)
    devices = parallel.all_devices()
    runner, fits = parallel.chosen(recipe.execution.runner, devices, 1, 1), recipe.all_fits().values()
    parallel.check_batches(runner, devices, [fit.batch_size for fit in fits])
    split, task = len(devices) if runner in parallel.BY_EXAMPLES else 1, build.task(recipe.task)
    for fit in fits:
        feeding.check_parts(task, fit.batch_size, split * fit.spec.accumulate)
    choices = (*grid.LAYOUTS, layout.CELLS, layout.AUTO)
    if recipe.execution.layout not in choices:
        raise unknown('grid layout', recipe.execution.layout, choices)
