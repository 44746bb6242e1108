"""Whether what lies on disk is what was written there: fingerprints of files, and JSON whose errors name its file."""

import functools
import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.train.ledger import replace

ARTIFACT = 'artifact.json'  # written last: a stage that has one is done
SEAL = 'fingerprint'  # of a JSON file: of all else in it
SETTLED = 2.0  # seconds after which a file that is written again has another time
MANIFEST = 'manifest.json'  # what a stage ran with
# What a stage may leave that nothing later reads, or that has fingerprints of its own.
UNSEALED = ('checkpoints', 'ledger.jsonl', 'layout.json', MANIFEST, 'profile', 'tables', 'tensorboard', 'wandb',
            ARTIFACT)  # fmt: skip


def write_json(path: Path, value: Mapping[str, Any], indent: int | None = None, allow_nan: bool = False) -> None:
    """Writes an object with its fingerprint."""
    plain = json.loads(json.dumps(value, allow_nan=allow_nan))
    replace(path, json.dumps({**plain, SEAL: trees.digest(plain)}, indent=indent))


def read_json(path: Path, advice: str = '', kind: type = dict, **fields: type | tuple[type, ...]) -> Any:
    """What a JSON file says, without its fingerprint.

    Args:
      path: of the file.
      advice: what to do where it is damaged; to delete it, if left out.
      kind: what it must be.
      fields: what an object must have, and of which types.

    Raises:
      UsageError: it cannot be read, is something else, or is not as it was written; names the file.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise _damaged(path, error.strerror or type(error).__name__, advice) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f'no JSON: {error}'[:100], advice) from error
    if not isinstance(value, kind):
        raise _damaged(path, f'{type(value).__name__} in the place of {kind.__name__}', advice)
    if isinstance(value, dict):
        seal = value.pop(SEAL, None)  # earlier versions wrote none
        if seal is not None and seal != trees.digest(value):
            raise _damaged(path, 'not as it was written', advice)
        for name, wanted in fields.items():
            if not isinstance(value.get(name), wanted):
                raise _damaged(path, f'without {name!r}', advice)
    return value


def of_stage(folder: Path) -> str:
    """The advice for what lies in the folder of a stage."""
    return f'delete {folder} to have that stage run again'


def fingerprints(folder: Path) -> dict[str, str]:
    """Hashes of what a stage left for later ones, by the path of the file in its folder."""
    found = (path.relative_to(folder) for path in sorted(folder.rglob('*')) if path.is_file())
    return {path.as_posix(): sha256(folder / path) for path in found
            if path.parts[0] not in UNSEALED and not path.name.startswith('.')}  # fmt: skip


def intact(place: Path) -> Path:
    """`place`, a file or folder in the folder of a stage, which is as the stage left it; one that is not done may be.

    Raises:
      UsageError: a file is gone or is not as it was written.
    """
    folder, artifact = place.parent, place.parent / ARTIFACT
    if artifact.exists():
        known = read_json(artifact, of_stage(folder)).get('files', {})  # earlier versions wrote none
        own = {name: digest for name, digest in known.items() if Path(name).parts[0] == place.name}
        compare(folder, own, of_stage(folder))
    return place


def compare(folder: Path, files: Mapping[str, str], advice: str) -> None:
    """Holds files against their hashes.

    Raises:
      UsageError: one is gone or is not as it was written; names it.
    """
    for name, wanted in files.items():
        try:
            found = sha256(folder / name)
        except OSError as error:
            raise _damaged(folder / name, error.strerror or type(error).__name__, advice) from error
        if found != wanted:
            raise _damaged(folder / name, 'not as it was written', advice)


def sha256(path: Path) -> str:
    """Hash of a file; read once in a process while nobody touches it."""
    state = path.stat()
    if time.time() - max(state.st_mtime, state.st_ctime) < SETTLED:
        return _sha256.__wrapped__(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
    return _sha256(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


def clean(folder: Path) -> None:
    """Deletes what writers of earlier processes left half-written in a folder, which this process has to itself."""
    for path in folder.glob('.*.partial'):
        path.unlink(missing_ok=True)
    for path in folder.glob('*.orbax-checkpoint-tmp*'):
        shutil.rmtree(path, ignore_errors=True)


@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, modified: int, changed: int, node: int) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _damaged(path: Path, reason: str, advice: str) -> UsageError:
    return UsageError(f'{path} is damaged ({reason}); {advice or "delete it"}')
