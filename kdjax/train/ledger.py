"""What a run writes down while it goes: scalars and events as JSON lines, and what they are numbers of."""

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from kdjax.errors import UsageError

PACKAGES = ('kdjax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'scikit-learn', 'ml-collections')


class Logger(Protocol):
    """What a run writes its scalars and events to, and finds those of before in, when it goes on."""

    path: Path  # of the lines

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None: ...

    def write(self, kind: str, **fields: Any) -> None:
        """Appends one line."""

    def scalars(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Appends the values of a step: numbers, or one array of cells each."""

    def flush(self) -> None:
        """Hands everything written so far to the operating system."""

    def rewind(self, step: int) -> None:
        """Forgets what is later than `step`."""


class Ledger:
    """Appends to `folder`/ledger.jsonl, one JSON object a line, and mirrors scalars where that is asked for.

    A line has 'kind' ('train', 'validation', ...) and most have 'step'. Numbers that are not finite become null.

    Args:
      folder: is made where it is not there.
      tensorboard: whether to mirror to TensorBoard's files in `folder`/tensorboard (extra 'tensorboard').
      wandb: what to tell Weights & Biases (extra 'wandb') of the run, to mirror to it: {'name', 'config'}.

    Raises:
      UsageError: a mirror's package is not installed.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False, wandb: Mapping[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Before anything is open: they may not be installed.
        self._mirrors: list[_Mirror] = [_TensorBoard(folder)] if tensorboard else []
        if wandb is not None:
            self._mirrors.append(_WeightsAndBiases(folder, wandb))
        self.path = folder / 'ledger.jsonl'
        self._file = self.path.open('a')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()
        for mirror in self._mirrors:
            mirror.close()

    def write(self, kind: str, **fields: Any) -> None:
        """Appends one line."""
        self._file.write(json.dumps({'kind': kind, **plain(fields)}, allow_nan=False) + '\n')

    def scalars(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """One line, mirrored as the mean over cells. Values: numbers or one array of cells each."""
        self.write(kind, step=step, **values)
        if self._mirrors:
            read = {f'{kind}/{name}': _mean(value) for name, value in values.items()}
            means = {name: mean for name, mean in read.items() if math.isfinite(mean)}
            for mirror in self._mirrors:
                mirror.log(step, means)

    def flush(self) -> None:
        """Hands everything written so far to the operating system."""
        self._file.flush()

    def rewind(self, step: int) -> None:
        """Forgets lines after `step` and a line cut short: a resumed run writes them anew."""
        self._file.close()
        kept = [line for line in read(self.path) if line.get('step', 0) <= step]
        replace(self.path, ''.join(json.dumps(line) + '\n' for line in kept))
        self._file = self.path.open('a')


class NullLogger:
    """Writes nothing: of a process that reads the ledger which another process of its job writes.

    Args:
      folder: of that ledger.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / 'ledger.jsonl'

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Has nothing to close."""

    def write(self, kind: str, **fields: Any) -> None:
        """Writes nothing."""

    def scalars(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def flush(self) -> None:
        """Has nothing to hand on."""

    def rewind(self, step: int) -> None:
        """Forgets nothing; the process that writes does."""


class _Mirror(Protocol):
    """Another place that shows the curves."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    """TensorBoard's files, of tensorboardX."""

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import FileWriter
            from tensorboardX.proto.summary_pb2 import Summary
        except ImportError as error:
            raise _missing('tensorboard', 'tensorboardX') from error
        # A queue that never fills: on a full disk its writer dies, and waiting for it would hang the run.
        self._events, self._summary = FileWriter(str(folder / 'tensorboard'), max_queue=1_000_000), Summary

    def log(self, step: int, values: Mapping[str, float]) -> None:
        shown = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._events.add_summary(self._summary(value=shown), step)

    def close(self) -> None:
        self._events.close()


class _WeightsAndBiases:
    """A run of Weights & Biases, known by its folder."""

    def __init__(self, folder: Path, told: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing('wandb', 'wandb') from error
        self._run = wandb.init(project='kdjax', dir=str(folder), resume='allow', id=folder.name,
                               **{name: plain(value) for name, value in told.items()})  # fmt: skip

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


def _missing(extra: str, package: str) -> UsageError:
    return UsageError(f"track.{extra} is set but {package} is not installed: pip install 'kdjax[{extra}]'")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger; one that a crash cut short, which can only be the last, is left out.

    Raises:
      UsageError: it is no ledger any more; names the line.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines):
        try:
            said = json.loads(line)
        except ValueError as error:
            if number < len(lines) - 1:
                raise _damaged(path, number, line) from error
            return
        if not isinstance(said, dict) or not isinstance(said.get('step', 0), int):
            raise _damaged(path, number, line)
        yield said


def _damaged(path: Path, number: int, line: bytes) -> UsageError:
    return UsageError(f'{path} line {number + 1} is damaged: {line[:80]!r}; delete that file: curves, which no result '
                      'depends on')  # fmt: skip


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
    result = {'python': platform.python_version()}
    for package in PACKAGES:
        try:
            result[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            result[package] = 'not installed'
    return result


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


def _mean(value: Any) -> float:
    array = np.asarray(value, np.float64)
    finite = array[np.isfinite(array)]
    return float(finite.mean()) if finite.size else math.nan
