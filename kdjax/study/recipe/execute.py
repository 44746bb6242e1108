"""Carrying out a plan: one process, one workdir, every stage at most once."""

import contextlib
import errno
import fcntl
import functools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from kdjax import jit_cache
from kdjax.cpu import onednn
from kdjax.errors import Interrupted, UsageError
from kdjax.study.recipe import plan
from kdjax.study.recipe.context import Artifact, Context
from kdjax.study.recipe.recipe import Execution, Fit
from kdjax.train import distributed, layout, ledger, parallel, storage
from kdjax.train.screen import Screen
from kdjax.train.storage import ARTIFACT, MANIFEST

LOCK = '.lock'


def execute(todo: list[plan.Stage], context: Context, workdir: Path) -> None:
    """Runs the stages whose artifact is not there yet, and records what each left in `context.done`."""
    for stage in todo:
        if asked := context.stop.agreed():
            raise Interrupted(f'stopped by {asked.name} before stage {stage.name!r}; all before it is saved')
        _note_origin(stage.name, workdir / stage.folder, context)
        # As the first process of a job sees it: it may have written the artifact before another one looks.
        if distributed.gathered(done(stage, workdir))[0]:
            context.screen.stage(stage.name)
            context.screen.finished()
        else:
            _carry_out(stage, context, workdir / stage.folder)
            jit_cache.let_go()  # a sweep of many unlike programs outlives none of them
        context.done[stage.name] = _finished(stage, workdir)


def _carry_out(stage: plan.Stage, context: Context, folder: Path) -> None:
    """Runs a stage and writes its artifact."""
    start = time.perf_counter()
    if folder.parent.is_dir() and not os.access(folder.parent, os.W_OK):  # see `locked`
        raise UsageError(f'workdir {folder.parent} cannot be written, and stage {stage.name!r} is not done there')
    distributed.by_first(lambda: storage.clean(folder))
    distributed.by_first(lambda: write_manifest(folder, stage, context))
    result = stage.run(stage.inputs, context, folder, stage.key)
    seconds = round(time.perf_counter() - start, 2)
    written = {'key': stage.key, 'seconds': seconds, 'result': result}
    distributed.by_first(
        lambda: storage.write_json(folder / ARTIFACT, {**written, 'files': storage.fingerprints(folder)})
    )
    context.screen.finished(seconds)


def _finished(stage: plan.Stage, workdir: Path) -> Artifact:
    folder = workdir / stage.folder
    stored = artifact(folder / ARTIFACT, stage.key)
    if stored is None:
        raise UsageError(f'{folder / ARTIFACT} was written and is not there; does something else change this workdir?')
    return Artifact(folder, stored['result'], stored['seconds'])


def write_manifest(folder: Path, stage: plan.Stage, context: Context) -> None:
    """What the stage depends on and ran with, beside what it leaves."""
    manifest = {
        'stage': stage.name,
        'key': stage.key,
        'reads': stage.reads,
        'needs': stage.needs,
        **_code(),
        'earlier': _origins(folder),
        'machine': ledger.machine(),
        'data_checksum': context.datasets.checksum(stage.inputs.data),
    }
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / MANIFEST, manifest, indent=1, allow_nan=True)


@functools.cache
def _code() -> dict[str, Any]:
    """What runs."""
    return {'versions': ledger.versions(), 'git_commit': ledger.git_commit()}


def read_manifest(path: Path) -> dict[str, Any]:
    """What a manifest says.

    Raises:
      UsageError: it is damaged.
    """
    return storage.read_json(path, storage.of_stage(path.parent), versions=dict, reads=dict)


def _origins(folder: Path) -> list[dict[str, Any]]:
    """All code and libraries that a stage has been at work with so far, other than those that run."""
    if not (folder / MANIFEST).exists():
        return []
    said = read_manifest(folder / MANIFEST)
    own = {name: said.get(name) for name in _code()}
    return [origin for origin in (*said.get('earlier', ()), own) if origin != _code()]


def earlier(folder: Path) -> dict[str, str]:
    """What differed in the code and the libraries that a stage was at work with before: {'jax': '0.10.1'}."""
    now, found = _flat(_code()), {}
    for origin in map(_flat, _origins(folder)):
        found.update({name: value for name, value in origin.items() if now.get(name) != value})
    return found


def _flat(code: Mapping[str, Any]) -> dict[str, str]:
    return {**code['versions'], 'git commit': (code['git_commit'] or 'none')[:12]}


def _note_origin(name: str, folder: Path, context: Context) -> None:
    """Says once where a stage was begun by other code or libraries, and keeps it for the report."""
    differs = earlier(folder)
    if differs and differs not in context.earlier.values():
        now = _flat(_code())
        said = ', '.join(f'{what} {value} (now {now.get(what)})' for what, value in sorted(differs.items()))
        context.screen.show(f'{name} was begun with {said}')
    if differs:
        context.earlier[name] = differs


@contextlib.contextmanager
def locked(workdir: Path, shared: bool = False) -> Iterator[None]:
    """Holds `workdir` for this job, or for all that share it; the lock goes with the process, however it ends.

    A folder that is there and cannot be written needs no lock: what is finished in it can be shown, and no more.

    Raises:
      UsageError: the folder cannot be made, or another process has it.
    """
    with contextlib.ExitStack() as stack:
        distributed.by_first(lambda: stack.enter_context(_held(workdir, shared)))
        if not all(distributed.gathered(workdir.is_dir())):
            raise UsageError(f'workdir {workdir} is not the same for all processes of the job; choose a shared folder')
        yield


@contextlib.contextmanager
def _held(workdir: Path, shared: bool) -> Iterator[None]:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = (workdir / LOCK).open('a')
    except OSError as error:
        if workdir.is_dir() and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            yield
            return
        raise UsageError(f'workdir {workdir} cannot be written: {error.strerror}') from error
    with handle:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f'workdir {workdir} is in use by another process; wait or choose another') from error
        yield


def about(workdir: Path, execution: Execution, fits: Iterable[Fit]) -> str:
    """The first line of what takes long: where, on what, and how to watch."""
    devices = parallel.all_devices()
    several = len(devices) > 1
    one = several and parallel.chosen(execution.runner, devices, len(devices), len(devices)) == 'single'
    used = f'{1 if one else len(devices)} of {len(devices)}' if several else '1'
    more = f' (runner {execution.runner!r}{_left_alone(execution, fits) if not one else ""})' if several else ''
    board = f'tensorboard --logdir {workdir}' if execution.tensorboard else f'tail -f {workdir}/*/ledger.jsonl'
    return f'workdir {workdir}, devices: {used} x {devices[0].device_kind}{more}; watch: {board}'


def _left_alone(execution: Execution, fits: Iterable[Fit]) -> str:
    """Fits whose batches do not divide over the devices, and what follows for them."""
    if execution.runner != parallel.AUTO:
        return ''
    count = len(parallel.all_devices())
    odd = {fit.batch_size for fit in fits if (fit.batch_size // fit.spec.accumulate) % count}
    sizes = ', '.join(map(str, sorted(odd)))
    return f'; batches of {sizes} do not divide over them, and are split by cells alone' if odd else ''


def prepare_process(screen: Screen) -> None:
    """What holds from here on: compiled programs are kept for the next process.

    They are kept in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR says where. Says where convolutions will
    be slower than they need to be.
    """
    if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        jax.config.update('jax_compilation_cache_dir', str(layout.user_cache() / 'xla'))
    # Of everything, however short: a run has many small programs, and reading one back is faster than making it.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    if onednn.outdated():
        screen.show(f"convolutions are XLA's: the library is of another kdjax or jaxlib; rebuild it: {onednn.BUILD}")


def artifact(path: Path, key: str) -> dict[str, Any] | None:
    """What a finished stage wrote, or None where there is none of this key."""
    stored = read_artifact(path) if path.exists() else None
    return stored if stored and stored['key'] == key else None


def read_artifact(path: Path) -> dict[str, Any]:
    """What a finished stage wrote.

    Raises:
      UsageError: it is damaged.
    """
    return storage.read_json(path, storage.of_stage(path.parent), key=str, seconds=(int, float), result=dict)


def done(stage: plan.Stage, workdir: Path) -> bool:
    return artifact(workdir / stage.folder / ARTIFACT, stage.key) is not None
