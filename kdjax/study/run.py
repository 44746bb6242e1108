"""One run: its recipe is carried out, judged, tried again where it falls short, and reported."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from kdjax import trees
from kdjax.errors import UsageError, unknown
from kdjax.study.recipe import acceptance, evaluation, execute, plan, plan_table, students
from kdjax.study.recipe.context import Context, Datasets
from kdjax.study.recipe.inputs import BY_KEY, Addressed
from kdjax.study.recipe.recipe import DataSource, Recipe
from kdjax.study.report import records, report
from kdjax.study.report.records import Acceptance, Attempt, Criterion, Results
from kdjax.study.sweep import collect
from kdjax.train import distributed, grid, parallel
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals


def run(config: ConfigDict, workdir: Path, command: str, train: bool = True) -> bool:
    """Runs the recipe and shows its table; returns whether the acceptance bars were met.

    Args:
      config: what to run.
      workdir: where everything is kept; what is there and still valid is not done again.
      command: how the user called, for the report.
      train: whether stages that are not done yet are; if not, what is finished is shown.

    Raises:
      UsageError: anything in the config or the workdir that cannot be used; nothing done so far is lost.
      Interrupted: a stop was asked for.
    """
    datasets = Datasets()
    attempts = list(acceptance.attempts(config, datasets))
    for _, recipe in attempts:
        _check_processes(recipe)
    paper = collect.paper(config)
    checked = False
    with execute.locked(workdir), StopSignals() as stop, Screen(quiet=not distributed.first()) as screen:
        execute.prepare_process(screen)
        tried: list[Attempt] = []
        contexts: list[Context] = []
        earlier: dict[str, Mapping[str, str]] = {}  # see `Context`
        for place, (override, recipe) in enumerate(attempts):
            context = Context(recipe.execution, screen, stop, datasets=datasets, earlier=earlier)
            todo = [stage for name, stage in plan.stages_of(recipe).items() if name != 'evaluate']
            if not checked and not all(execute.done(stage, workdir) for stage in todo):
                _check_allowed(todo, workdir, train)
                for _, later in attempts[place:]:  # all that may be trained, before anything is
                    plan.check_shapes(later, datasets(later.data))
                checked = True
            if not place:
                screen.note(execute.about(workdir, recipe.execution, recipe.all_fits().values()))
            screen.count(len(todo) + 2 + bool(recipe.config.accept.file))
            execute.execute(todo, context, workdir)
            if recipe.config.accept.file:
                execute.execute([acceptance.file_stage(recipe)], context, workdir)
            criteria = acceptance.judge(recipe, context.done)
            contexts.append(context)
            met = all(criterion.met for criterion in criteria)
            tried.append(Attempt(override, tuple(Criterion(**criterion._asdict()) for criterion in criteria), met))
            if criteria:
                screen.show(f'attempt {len(tried)} ({_named(override)}): {acceptance.shortfall(criteria)}')
            if met:
                break
        reported = max(range(len(tried)), key=lambda k: acceptance.score([vars(one) for one in tried[k].criteria]))
        recipe, context = attempts[reported][1], contexts[reported]
        last = plan.stages_of(recipe)['evaluate']
        execute.execute([last], context, workdir)
        results = dataclasses.replace(
            records.from_json(Results, evaluation.results(recipe, context, command)),
            acceptance=_acceptance(recipe, tried, reported),
            published=paper,
        )
        execute.execute([report_stage(recipe, last, results)], context, workdir)
    screen.show(report.terminal(results))
    screen.show(f'report: {workdir / "report" / "report.html"}')
    judged = recipe.config.accept.method
    screen.show(f'the student of {judged!r}:\n{students.lines(workdir, judged)}')
    return tried[reported].met


def _check_allowed(todo: list[plan.Stage], workdir: Path, train: bool) -> None:
    if not train:
        left = [stage.name for stage in todo if not execute.done(stage, workdir)]
        raise UsageError(f'this run is not finished in {workdir}: stage {left[0]!r} is not done; train it: --mode=run')


def show_plan(config: ConfigDict, workdir: Path) -> None:
    """Prints what `run` would do and what it would cost; trains nothing."""
    datasets = Datasets()
    (_, recipe), *_ = acceptance.checked(config, datasets)
    collect.paper(config)  # whatever cannot be read is met here, not after training
    Screen().show(plan_table.table(recipe, datasets(recipe.data), workdir))


@dataclasses.dataclass(frozen=True)
class Reported(Addressed):
    """The results that a report is made of."""

    data: DataSource = dataclasses.field(metadata=BY_KEY)
    results: Results = dataclasses.field(metadata=BY_KEY)


def report_stage(recipe: Recipe, evaluated: plan.Stage, results: Results) -> plan.Stage:
    """The last stage: pages, tables and figures of `results`."""

    def write(inputs: Reported, context: Context, folder: Path, key: str) -> dict[str, Any]:
        context.screen.stage('report')
        distributed.by_first(lambda: report.write(inputs.results, folder))
        return {'evaluated': evaluated.folder, 'judged': recipe.config.accept.method}

    stable = {name: value for name, value in dataclasses.asdict(results).items() if name != 'provenance'}
    key = trees.digest(['report', stable, evaluated.key, plan.VERSION])
    return plan.Stage('report', Reported(recipe.data, results), ('evaluate',), write, key)


def _acceptance(recipe: Recipe, attempts: list[Attempt], reported: int) -> Acceptance:
    size = acceptance.judged_size(recipe)
    return Acceptance(recipe.config.accept.method, size, attempts[reported].met, reported, tuple(attempts))


def _check_processes(recipe: Recipe) -> None:
    """Meets what several processes of a job cannot share."""
    runner = parallel.chosen(recipe.execution.runner, parallel.all_devices(), 1, 1)
    parallel.check_processes(runner, parallel.all_devices())
    if distributed.several() and recipe.execution.layout not in grid.LAYOUTS:
        raise unknown('grid layout', recipe.execution.layout, grid.LAYOUTS, ' for several processes')


def _named(override: Mapping[str, float]) -> str:
    return ', '.join(f'{name} {value:g}' for name, value in override.items()) or 'as configured'
