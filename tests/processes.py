"""Processes of tests: how quickly they compile, and the environment of the project's own commands."""

import os
from importlib import metadata

# Tests run many tiny programs a few times each, so compiling is what takes the time: optimise less, and do not cut a
# tiny module up for several threads.
QUICK = (
    '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true '
    '--xla_cpu_parallel_codegen_split_count=1'
)
# JAX 0.10 can emit fusions as LLVM code and not by way of MLIR, in a fifth of the time; later ones cannot.
if metadata.version('jaxlib').startswith('0.10.'):
    QUICK += ' --xla_cpu_use_fusion_emitters=false'


def environment():
    """As a user has it, one device and no strictness of the tests; only compiled faster, and less well."""
    dropped = ('JAX_NUMPY_DTYPE_PROMOTION', 'NPROC')
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': QUICK}
