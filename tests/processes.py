"""Processes of tests: how quickly they compile, and the environment of the project's own commands."""

import os

from kdjax.cpu import effort

# Tests run many tiny programs a few times each, so compiling is what takes the time: optimise less, and do not cut a
# tiny module up for several threads.
QUICK = ' '.join([*effort.little(), '--xla_cpu_parallel_codegen_split_count=1'])


def environment():
    """As a user has it, one device and no strictness of the tests; only compiled faster, and less well."""
    dropped = ('JAX_NUMPY_DTYPE_PROMOTION', 'NPROC')
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': QUICK}
