"""Carrying out a plan: one process, one workdir, every stage at most once."""

import contextlib
import fcntl
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from kdjax import trees
from kdjax.names import Interrupted, UsageError, unknown
from kdjax.study import accept, build, catalogue, outcome, plan, report
from kdjax.study.context import ARTIFACT, Artifact, Context, Datasets
from kdjax.train import allocator, distributed, grid, layout, ledger, parallel
from kdjax.train.loop import StopSignals
from kdjax.train.screen import Screen

LOCK = '.lock'


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
    for _, changed in accept.attempts(config):
        plan.check(changed)
        _check_processes(changed)
    with locked(workdir), StopSignals() as stop, Screen(quiet=not distributed.first()) as screen:
        prepare_process()
        tried: list[dict[str, Any]] = []
        contexts: list[Context] = []
        datasets = Datasets()
        for override, changed in accept.attempts(config):
            context = Context(changed, screen, stop, datasets=datasets)
            todo = [stage for name, stage in plan.stages_of(changed).items() if name != 'evaluate']
            if not all(_done(stage, workdir) for stage in todo):
                plan.check_shapes(changed, context.dataset)
            execute(todo, context, workdir)
            bars = accept.judge(changed, context.done)
            contexts.append(context)
            met = all(bar.met for bar in bars)
            tried.append({'override': override, 'bars': [bar._asdict() for bar in bars], 'met': met})
            if bars:
                screen.show(f'attempt {len(tried)} ({_named(override)}): {accept.shortfall(bars)}')
            if met:
                break
        shown = max(range(len(tried)), key=lambda k: accept.score(tried[k]['bars']))
        context = contexts[shown]
        evaluation = plan.stages_of(context.config)['evaluate']
        execute([evaluation], context, workdir)
        results = outcome.results(context, tried, shown, command)
        execute([report_stage(evaluation, results)], context, workdir)
    screen.show(report.terminal_table(results))
    screen.show(f'report: {workdir / "report" / "report.html"}')
    return bool(tried[shown]['met'])


def show_plan(config: ConfigDict, workdir: Path) -> None:
    """Prints what `run` would do and what it would cost; trains nothing."""
    for _, changed in accept.attempts(config):
        plan.check(changed)
    dataset = build.dataset(config)
    Screen().show(plan.table(config, dataset, workdir))


def show_techniques() -> None:
    """Prints all distillation terms and the presets that use them."""
    from configs.sweeps.presets import presets as all_presets  # every preset, which only the list wants

    Screen().show(catalogue.listing(catalogue.presets_of(all_presets())))


def execute(todo: list[plan.Stage], context: Context, workdir: Path) -> None:
    """Runs the stages whose artifact is not there yet, and records what each left in `context.done`."""
    for stage in todo:
        if asked := context.stop.agreed():
            raise Interrupted(f'stopped by {asked.name} before stage {stage.name!r}; all before it is saved')
        # As the first process of a job sees it: it may have written the artifact before another one looks.
        if distributed.gathered(_done(stage, workdir))[0]:
            context.screen.stage(stage.name)
            context.screen.finished()
        else:
            _carry_out(stage, context, workdir / stage.folder)
        context.done[stage.name] = _finished(stage, workdir)


def _carry_out(stage: plan.Stage, context: Context, folder: Path) -> None:
    """Runs a stage and writes its artifact."""
    start = time.perf_counter()
    distributed.by_first(lambda: write_manifest(folder, stage, context))
    result = stage.run(context, folder, stage.key, stage.reads)
    seconds = round(time.perf_counter() - start, 2)
    written = json.dumps({'key': stage.key, 'seconds': seconds, 'result': result}, allow_nan=False)
    distributed.by_first(lambda: ledger.replace(folder / ARTIFACT, written))
    context.screen.finished(seconds)


def _finished(stage: plan.Stage, workdir: Path) -> Artifact:
    folder = workdir / stage.folder
    found = artifact(folder / ARTIFACT, stage.key)
    if found is None:
        raise UsageError(f'{folder / ARTIFACT} was written and is not there; does something else change this workdir?')
    return Artifact(folder, found['result'], found['seconds'])


def write_manifest(folder: Path, stage: plan.Stage, context: Context) -> None:
    """What the stage depends on and ran with, beside what it leaves."""
    manifest = {
        'stage': stage.name,
        'key': stage.key,
        'reads': stage.reads,
        'needs': stage.needs,
        'versions': ledger.versions(),
        'git_commit': ledger.git_commit(),
        'machine': ledger.machine(),
        'seed': context.config.seed,
        'seeds': context.config.seeds,
        'data_checksum': context.data_checksum,
    }
    folder.mkdir(parents=True, exist_ok=True)
    ledger.replace(folder / 'manifest.json', json.dumps(manifest, indent=1))


def report_stage(evaluation: plan.Stage, results: Mapping[str, Any]) -> plan.Stage:
    """The last stage: pages, tables and plots of `results`."""

    def write(context: Context, folder: Path, key: str, reads: Mapping[str, Any]) -> dict[str, Any]:
        context.screen.stage('report')
        distributed.by_first(lambda: report.write(results, folder))
        return {}

    stable = {name: value for name, value in results.items() if name != 'provenance'}
    key = trees.digest(['report', stable, evaluation.key, plan.VERSION])
    return plan.Stage('report', {}, ('evaluate',), write, key)


@contextlib.contextmanager
def locked(workdir: Path, shared: bool = False) -> Iterator[None]:
    """Holds `workdir` for this job, or for all that share it; the lock goes with the process, however it ends.

    Raises:
      UsageError: the folder cannot be written, or another process has it.
    """
    with contextlib.ExitStack() as stack:
        distributed.by_first(lambda: stack.enter_context(_held(workdir, shared)))
        if not all(distributed.gathered((workdir / LOCK).exists())):
            raise UsageError(f'workdir {workdir} is not the same for all processes of the job; choose a shared folder')
        yield


@contextlib.contextmanager
def _held(workdir: Path, shared: bool) -> Iterator[None]:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = (workdir / LOCK).open('a')
    except OSError as error:
        raise UsageError(f'workdir {workdir} cannot be written: {error.strerror}') from error
    with handle:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f'workdir {workdir} is in use by another process; wait or choose another') from error
        yield


def quiet_threads() -> None:
    """One line for what fails in a thread of a library: where it matters, the main thread meets it too and says why."""
    logging.getLogger('absl').setLevel(logging.CRITICAL)
    threading.excepthook = lambda failed: (
        sys.stderr.write(f'in the background: {str(failed.exc_value)[:200]}\n') and None
    )


def prepare_process() -> None:
    """What holds from here on: buffers are kept for the next step, and compiled programs for the next process.

    Programs are kept in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR says where.
    """
    allocator.keep_buffers(os.environ)
    if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        jax.config.update('jax_compilation_cache_dir', str(layout.user_cache() / 'xla'))
    # Of everything, however short: a run has many small programs, and reading one back is faster than making it.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def artifact(path: Path, key: str) -> dict[str, Any] | None:
    """What a finished stage wrote, or None where there is none of this key."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UsageError(f'{path} is corrupt ({error}); delete its folder to have the stage run again') from error
    return found if found.get('key') == key else None


def _done(stage: plan.Stage, workdir: Path) -> bool:
    return artifact(workdir / stage.folder / ARTIFACT, stage.key) is not None


def _check_processes(config: ConfigDict) -> None:
    """Meets what several processes of a job cannot share."""
    sizes = [fit.batch_size for fit in plan.fits(config).values()]
    parallel.check_processes(config.run.runner, parallel.all_devices(), sizes)
    if distributed.several() and config.run.layout not in grid.LAYOUTS:
        raise unknown('grid layout', config.run.layout, grid.LAYOUTS, ' for several processes')


def _named(override: Mapping[str, float]) -> str:
    return ', '.join(f'{name} {value:g}' for name, value in override.items()) or 'as configured'
