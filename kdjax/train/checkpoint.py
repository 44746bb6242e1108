"""Checkpoints by orbax: the latest state (to resume) and the best variables (to use) apart; each write is atomic.

Two managers, because one that keeps the best may delete the newest step, without which nothing resumes.

All processes of a job save and restore together. As every one has all arrays whole, on its host, the first writes them,
and what it writes does not depend on how many there are: a run goes on with another number of processes.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.train import distributed, storage
from kdjax.types import Tree

ADVICE = 'delete that folder to resume from an earlier step'


class Checkpoints:
    """Saves and restores the states of one run in `folder`/latest and `folder`/best.

    `identity` names the run; a checkpoint written under another identity is refused.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity
        self._latest, self._best = _manager(folder, 'latest', 2), _manager(folder, 'best', 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._latest.close()
        self._best.close()

    def save(self, step: int, state: Tree, log: Mapping[str, Any]) -> None:
        """Starts to write `state` and what was measured so far, JSON-able; returns before it is on disk.

        The newest two are kept.
        """
        self._save(self._latest, step, state, log)

    def save_best(self, step: int, variables: Tree) -> None:
        """Starts to write the best student variables so far."""
        self._save(self._best, step, variables, {})

    def latest_step(self) -> int | None:
        """The newest step that is wholly on disk, or None."""
        return self._latest.latest_step()

    def restore(self, like: Tree) -> tuple[Tree, dict[str, Any]]:
        """The newest state, with the structure of `like`, and what had been measured.

        Raises:
          UsageError: the checkpoint is of another run, has another structure, cannot be read, or is not as it was
            written.
        """
        step = self._latest.latest_step()
        path = self._folder / 'latest' / str(step)
        meta = self._read(path, lambda: self._latest.restore(step, args=_parts(meta=_orbax().args.JsonRestore())))
        said = meta['meta']
        if said.get('identity') != self._identity:
            raise UsageError(
                f'checkpoint {path} belongs to run {said.get("identity")!r}, not to {self._identity!r}; '
                'give this run another workdir'
            )
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like)
        state = self._read(
            path, lambda: self._latest.restore(step, args=_parts(state=_orbax().args.StandardRestore(shapes)))
        )['state']
        if 'log' not in said:
            raise UsageError(f'checkpoint {path} is of an earlier version; delete {self._folder} to train anew')
        if said.get('fingerprint') != _fingerprint(state, said['log']):
            raise UsageError(f'checkpoint {path} is not as it was written; {ADVICE}')
        return state, said['log']

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          UsageError: it cannot be written.
        """
        with writing(self._folder):
            self._latest.wait_until_finished()
            self._best.wait_until_finished()

    def _save(self, manager: Any, step: int, tree: Tree, log: Mapping[str, Any]) -> None:
        if step in manager.all_steps():
            return
        # Detached: the write goes on while the next step overwrites the donated buffers.
        args, state = _orbax().args, trees.detached(tree)
        meta = {'identity': self._identity, 'log': log, 'fingerprint': _fingerprint(state, log)}
        items = _parts(state=args.StandardSave(state), meta=args.JsonSave(meta))
        with writing(self._folder):
            manager.save(step, args=items)

    def _read(self, path: Path, restore: Any) -> Any:
        try:
            return restore()
        except Exception as error:  # orbax, tensorstore and json each raise their own kinds
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UsageError(f'checkpoint {path} cannot be read ({reason[:200]}); {ADVICE}') from error


def _fingerprint(state: Tree, log: Mapping[str, Any]) -> str:
    """Hash of all that a checkpoint holds."""
    return trees.digest([trees.fingerprint(jax.tree.leaves(state)), log])


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what a full or failing disk makes orbax, tensorstore or Python raise into one line."""
    try:
        yield
    except UsageError:  # it says what is wrong
        raise
    except (ValueError, OSError, RuntimeError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        reason = 'no space left on device' if 'RESOURCE_EXHAUSTED' in said else said[:200]
        raise UsageError(f'{folder} cannot be written: {reason}; what is complete there stays good') from error


def save_variables(folder: Path, variables: Tree) -> None:
    """Writes the variables of a network alone, without optimiser, terms or teacher; replaces what was there."""
    distributed.by_first(lambda: _clear(folder))
    with writing(folder), _orbax().StandardCheckpointer() as saver:
        saver.save(folder.absolute(), trees.detached(variables))


def load_variables(folder: Path) -> Tree:
    """Variables as numpy arrays, with the structure they were saved with.

    Raises:
      UsageError: nothing readable is there, or what a stage left is not as it was written.
    """
    storage.intact(folder)
    try:
        with _orbax().StandardCheckpointer() as loader:
            metadata = loader.metadata(folder.absolute()).item_metadata
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), metadata.tree)
            return jax.device_get(loader.restore(folder.absolute(), shapes))
    except Exception as error:  # orbax, tensorstore and json each raise their own kinds
        raise UsageError(f'no readable variables in {folder}: {json.dumps(str(error)[:200])}') from error


def _clear(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _manager(folder: Path, name: str, keep: int) -> Any:
    """What writes `folder`/`name` and keeps the newest few."""
    ocp = _orbax()
    # Both managers write at once: without a name of its own each would take the other's barriers for its own.
    processes = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=name)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, enable_async_checkpointing=True, create=True, multiprocessing_options=processes
    )
    return ocp.CheckpointManager(folder.absolute() / name, options=options)


def _parts(**items: Any) -> Any:
    return _orbax().args.Composite(**items)


def _orbax() -> Any:
    """Orbax, loaded when something is saved or read: a plan, a list and an error need neither."""
    import orbax.checkpoint

    return orbax.checkpoint
