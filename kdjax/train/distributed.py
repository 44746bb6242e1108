"""One job in several processes: all compute in step, the first alone writes and speaks, the others read what it wrote.

Every process runs the same command on a shared workdir and takes the same decisions, so that collectives meet. What a
process could see differently (a file, a signal, a rounding) is therefore agreed upon before anything depends on it.
In a run of one process every function here is what its one process does.
"""

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from kdjax.errors import Interrupted, UsageError
from kdjax.types import Tree

AUTO = 'auto'
VARIABLES = ('KDJAX_COORDINATOR', 'KDJAX_PROCESSES', 'KDJAX_PROCESS')  # HOST:PORT, how many, which
FORM = 'HOST:PORT,COUNT,INDEX, such as node0:1234,4,0'
TOLD = 1000  # bytes of an error that the other processes are told
LEAVING = 2.0  # seconds


@contextlib.contextmanager
def job(text: str | None, environment: Mapping[str, str]) -> Iterator[None]:
    """Joins the processes of a job, before any computation.

    Args:
      text: 'auto' (the variables KDJAX_COORDINATOR, KDJAX_PROCESSES and KDJAX_PROCESS, or what JAX knows of Slurm, Open
        MPI, Kubernetes and TPU pods), 'HOST:PORT,COUNT,INDEX', or None for a process of its own.
      environment: variables.

    Raises:
      UsageError: `text` is malformed, or there is no job to join.
    """
    if text:
        _start(given(text, environment))
    try:
        yield
    except Interrupted:
        if first():
            raise
        sys.exit(130)  # the first process says it for all
    except (UsageError, OSError):
        if several() and first():
            time.sleep(LEAVING)  # the coordinator goes with this process, and all that have not left yet are aborted
        raise


def given(text: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of jax.distributed.initialize; none where JAX is to find them."""
    where = f'--distributed={text}'
    if text == AUTO:
        given = [environment.get(name) for name in VARIABLES]
        if not any(given):
            return {}
        if not all(given):
            missing = ', '.join(name for name, value in zip(VARIABLES, given, strict=True) if not value)
            raise UsageError(f'{where}: {missing} must be set as well; all of {", ".join(VARIABLES)} or none')
        text, where = ','.join(map(str, given)), ', '.join(VARIABLES)
    parts = re.fullmatch(r'([^,\s]+:\d+),(\d+),(\d+)', text)
    if not parts:
        raise UsageError(f'{where} is {text!r}; it must be {AUTO!r} or {FORM}')
    count, index = int(parts[2]), int(parts[3])
    if index >= count:
        raise UsageError(f'{where}: INDEX must be in 0 to {count - 1}, got {index}')
    # Nothing is left to find; looking would also hide devices that other processes of a cluster are taken to use.
    return {
        'coordinator_address': parts[1], 'num_processes': count, 'process_id': index,
        'cluster_detection_method': 'deactivate',
    }  # fmt: skip


def _start(arguments: Mapping[str, Any]) -> None:
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    # It would take SIGTERM for itself, which loop.StopSignals hears, together with Ctrl-C.
    jax.config.update('jax_enable_preemption_service', False)
    try:
        jax.distributed.initialize(**arguments)
    except (ValueError, RuntimeError) as error:
        if arguments:
            raise UsageError(f'cannot join {arguments["coordinator_address"]}: {str(error).splitlines()[0]}') from error
        raise UsageError(
            f'--distributed={AUTO} finds neither {", ".join(VARIABLES)} nor a cluster that JAX knows '
            f'({str(error).splitlines()[0]}); say {FORM}'
        ) from error


def several() -> bool:
    """Whether other processes compute with this one."""
    return jax.process_count() > 1


def first() -> bool:
    """Whether this is the process that writes and speaks."""
    return jax.process_index() == 0


def gathered(number: int) -> list[int]:
    """Every process's number, in their order. All must ask together."""
    if not several():
        return [number]
    return multihost_utils.process_allgather(np.int32(number)).tolist()


def of_first(tree: Tree) -> Tree:
    """The first process's arrays: kernels chosen for other machines may round others. All must ask together."""
    if not several():
        return tree
    return jax.tree.map(jnp.asarray, multihost_utils.broadcast_one_to_all(tree))


def by_first(action: Callable[[], Any]) -> None:
    """Has the first process do what must be done once; the others wait, and then find it done.

    Raises:
      UsageError: in every process, where the first could not.
    """
    if not several():
        action()
        return
    failed: Exception | None = None
    if first():
        try:
            action()
        except (UsageError, OSError) as error:
            failed = error
    told = np.zeros(TOLD, np.uint8)
    said = str(failed or '').encode()[:TOLD]
    told[: len(said)] = np.frombuffer(said, np.uint8)
    heard = bytes(multihost_utils.broadcast_one_to_all(told)).rstrip(b'\0').decode(errors='replace')
    if failed is not None:
        raise failed
    if heard:
        raise UsageError(heard)
