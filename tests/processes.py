"""Commands of the project in processes of their own."""

import os


def environment():
    """As a user has it, one device and no strictness of the tests; only compiled faster, and less well."""
    dropped = ('JAX_NUMPY_DTYPE_PROMOTION', 'NPROC')
    quick = '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': quick}
