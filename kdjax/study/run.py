"""One run: its recipe is carried out, judged, tried again where it falls short, and reported."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from kdjax import trees
from kdjax.errors import unknown
from kdjax.study.recipe import acceptance, build, evaluation, execute, plan
from kdjax.study.recipe.context import Context, Datasets
from kdjax.study.report import records, report
from kdjax.study.report.records import Acceptance, Attempt, Criterion, Results
from kdjax.study.sweep import collect
from kdjax.train import distributed, grid, parallel
from kdjax.train.loop import StopSignals
from kdjax.train.screen import Screen


def run(config: ConfigDict, workdir: Path, command: str) -> bool:
    """Runs the recipe and shows its table; returns whether the acceptance bars were met.

    Args:
      config: what to run.
      workdir: where everything is kept; what is there and still valid is not done again.
      command: how the user called, for the report.

    Raises:
      UsageError: anything in the config or the workdir that cannot be used; nothing done so far is lost.
      Interrupted: a stop was asked for.
    """
    for _, changed in acceptance.attempts(config):
        plan.check(changed)
        _check_processes(changed)
    paper = collect.paper(config)
    with execute.locked(workdir), StopSignals() as stop, Screen(quiet=not distributed.first()) as screen:
        execute.prepare_process()
        tried: list[Attempt] = []
        contexts: list[Context] = []
        datasets = Datasets()
        for override, changed in acceptance.attempts(config):
            context = Context(changed, screen, stop, datasets=datasets)
            todo = [stage for name, stage in plan.stages_of(changed).items() if name != 'evaluate']
            if not all(execute.done(stage, workdir) for stage in todo):
                plan.check_shapes(changed, context.dataset)
            execute.execute(todo, context, workdir)
            bars = acceptance.judge(changed, context.done)
            contexts.append(context)
            met = all(bar.met for bar in bars)
            tried.append(Attempt(override, tuple(Criterion(**bar._asdict()) for bar in bars), met))
            if bars:
                screen.show(f'attempt {len(tried)} ({_named(override)}): {acceptance.shortfall(bars)}')
            if met:
                break
        reported = max(range(len(tried)), key=lambda k: acceptance.score([vars(bar) for bar in tried[k].criteria]))
        context = contexts[reported]
        last = plan.stages_of(context.config)['evaluate']
        execute.execute([last], context, workdir)
        results = dataclasses.replace(
            records.from_json(Results, evaluation.results(context, command)),
            acceptance=_acceptance(context.config, tried, reported),
            published=paper,
        )
        execute.execute([report_stage(last, results)], context, workdir)
    screen.show(report.terminal(results))
    screen.show(f'report: {workdir / "report" / "report.html"}')
    return tried[reported].met


def show_plan(config: ConfigDict, workdir: Path) -> None:
    """Prints what `run` would do and what it would cost; trains nothing."""
    for _, changed in acceptance.attempts(config):
        plan.check(changed)
    dataset = build.dataset(config)
    Screen().show(plan.table(config, dataset, workdir))


def report_stage(evaluated: plan.Stage, results: Results) -> plan.Stage:
    """The last stage: pages, tables and figures of `results`."""

    def write(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
        context.screen.stage('report')
        distributed.by_first(lambda: report.write(results, folder))
        return {}

    stable = {name: value for name, value in dataclasses.asdict(results).items() if name != 'provenance'}
    key = trees.digest(['report', stable, evaluated.key, plan.VERSION])
    return plan.Stage('report', {}, ('evaluate',), write, key)


def _acceptance(config: ConfigDict, attempts: list[Attempt], reported: int) -> Acceptance:
    size = acceptance.judged_size(config)
    return Acceptance(config.accept.method, size, attempts[reported].met, reported, tuple(attempts))


def _check_processes(config: ConfigDict) -> None:
    """Meets what several processes of a job cannot share."""
    sizes = [fit.batch_size for fit in plan.fits(config).values()]
    parallel.check_processes(config.run.runner, parallel.all_devices(), sizes)
    if distributed.several() and config.run.layout not in grid.LAYOUTS:
        raise unknown('grid layout', config.run.layout, grid.LAYOUTS, ' for several processes')


def _named(override: Mapping[str, float]) -> str:
    return ', '.join(f'{name} {value:g}' for name, value in override.items()) or 'as configured'
