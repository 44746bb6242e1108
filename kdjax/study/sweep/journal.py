"""The trials of a tuning on disk: optuna's study in a file that only grows, and a note of how it begins."""

import hashlib
import warnings
from pathlib import Path
from typing import Any

from kdjax.errors import UsageError
from kdjax.metrics import Metric
from kdjax.train import storage

JOURNAL, SEAL = 'tune.journal', 'tune.seal.json'


def opened(workdir: Path, metric: Metric) -> Any:
    """The study of a workdir, in a journal: a file that is appended to, which a crash cannot corrupt.

    Raises:
      UsageError: optuna is not installed, or the journal is not as it was written.
    """
    path = workdir / JOURNAL
    if (workdir / SEAL).exists():
        noted = storage.read_json(workdir / SEAL, size=int, sha256=str)
        if not path.exists() or noted['sha256'] != _digest(path, noted['size']):
            raise _damaged(workdir, 'not as it was written')
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise UsageError("tuning needs optuna: pip install 'kdjax[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
        backend = JournalFileBackend(str(path))
    try:
        return optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name='kdjax',
            direction='maximize' if metric.better == 'higher' else 'minimize',
            load_if_exists=True,
        )
    except (ValueError, KeyError, TypeError) as error:  # what reading lines that are none may raise
        raise _damaged(workdir, type(error).__name__) from error


def seal(workdir: Path) -> None:
    """Notes how the journal begins: it only grows."""
    size = (workdir / JOURNAL).stat().st_size
    storage.write_json(workdir / SEAL, {'size': size, 'sha256': _digest(workdir / JOURNAL, size)})


def _digest(path: Path, size: int) -> str:
    with path.open('rb') as file:
        return hashlib.sha256(file.read(size)).hexdigest()


def _damaged(workdir: Path, reason: str) -> UsageError:
    places = f'{workdir / JOURNAL} and {workdir / SEAL}'
    return UsageError(f'{workdir / JOURNAL} is damaged ({reason}); delete {places}: trials start anew, and those that '
                      'are trained need not train again')  # fmt: skip
