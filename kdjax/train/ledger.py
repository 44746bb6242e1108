"""What a run writes down while it goes: scalars and events as JSON lines, a manifest, TensorBoard events."""

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from kdjax.errors import UsageError

PACKAGES = ('kdjax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'scikit-learn', 'ml-collections')


class Ledger:
    """Appends to `folder`/ledger.jsonl, one JSON object a line, and mirrors scalars to TensorBoard (and wandb).

    A line has 'kind' ('train', 'validation', ...) and most have 'step'. Numbers that are not finite become null.
    """

    def __init__(self, folder: Path, *, wandb: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._wandb = _wandb(folder) if wandb else None  # before anything is open: it may not be installed
        self.path = folder / 'ledger.jsonl'
        self._file = self.path.open('a')
        # A queue that never fills: on a full disk its writer dies, and waiting for it would hang the run.
        writer, self._summary = _tensorboard()
        self._events = writer(str(folder / 'tensorboard'), max_queue=1_000_000)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()
        self._events.close()
        if self._wandb is not None:
            self._wandb.finish()

    def write(self, kind: str, **fields: Any) -> None:
        """Appends one line."""
        self._file.write(json.dumps({'kind': kind, **plain(fields)}, allow_nan=False) + '\n')

    def scalars(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """One line, mirrored as the mean over cells. Values: numbers or one array of cells each."""
        self.write(kind, step=step, **values)
        read = {f'{kind}/{name}': _mean(value) for name, value in values.items()}
        means = {name: mean for name, mean in read.items() if math.isfinite(mean)}
        shown = [self._summary.Value(tag=name, simple_value=mean) for name, mean in means.items()]
        self._events.add_summary(self._summary(value=shown), step)
        if self._wandb is not None:
            self._wandb.log(means, step=step)

    def flush(self) -> None:
        """Hands everything written so far to the operating system."""
        self._file.flush()

    def rewind(self, step: int) -> None:
        """Forgets lines after `step` and a line cut short: a resumed run writes them anew."""
        self._file.close()
        kept = [line for line in read(self.path) if line.get('step', 0) <= step]
        replace(self.path, ''.join(json.dumps(line) + '\n' for line in kept))
        self._file = self.path.open('a')


class Reader(Ledger):
    """The ledger of a process that writes none: it reads the one of the process that does."""

    def __init__(self, folder: Path, *, wandb: bool = False) -> None:
        self.path = folder / 'ledger.jsonl'

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        pass

    def write(self, kind: str, **fields: Any) -> None:
        """Nothing; nor do the others."""

    def scalars(self, kind: str, step: int, values: Mapping[str, Any]) -> None: ...

    def flush(self) -> None: ...

    def rewind(self, step: int) -> None: ...


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger; one that a crash cut short, which can only be the last, is left out."""
    lines = path.read_text().splitlines() if path.exists() else []
    for number, line in enumerate(lines):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines) - 1:
                raise UsageError(f'{path} line {number + 1} is not JSON: {line[:80]!r}') from error


def replace(path: Path, content: str | bytes) -> None:
    """Writes a file that is either the old or the new one, whatever happens."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.partial')  # of this process: others may write it too
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


def plain(value: Any) -> Any:
    """`value` as JSON can say it: arrays as lists, numbers that are not finite as None, paths as text."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, '__array__'):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return float(f'{value:.7g}') if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {'python': platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = 'not installed'
    return found


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import jax

    from kdjax.cpu import onednn

    devices = jax.devices()
    return {
        'system': platform.system(),
        'processor': _processor(),
        'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
        'devices': f'{len(devices)} x {devices[0].device_kind}',
        'convolutions': onednn.by(),
    }


def git_commit() -> str | None:
    """The commit of the code that runs, with '+' where it was changed since; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, 'rev-parse', 'HEAD')
        return commit + ('+' if _git(here, 'status', '--porcelain', '--untracked-files=no') else '')
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(['git', *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    information = Path('/proc/cpuinfo')
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def _tensorboard() -> tuple[Any, Any]:
    """The writer of TensorBoard's files, and what is written: loaded by a run that trains, nobody else needs it.

    tensorboardX loads PyTorch where it is installed, for the graphs of its networks: seconds, for nothing.
    """
    apart = 'torch' not in sys.modules
    if apart:
        sys.modules['torch'] = None  # type: ignore[assignment]  # to whoever imports it, it is not there
    try:
        from tensorboardX import FileWriter
        from tensorboardX.proto.summary_pb2 import Summary
    finally:
        if apart:
            del sys.modules['torch']
    return FileWriter, Summary


def _mean(value: Any) -> float:
    array = np.asarray(value, np.float64)
    finite = array[np.isfinite(array)]
    return float(finite.mean()) if finite.size else math.nan


def _wandb(folder: Path) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UsageError("track.wandb is set but wandb is not installed: pip install 'kdjax[wandb]'") from error
    return wandb.init(project='kdjax', dir=str(folder), resume='allow', id=folder.name)
