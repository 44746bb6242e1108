"""How much a compiler of programs for a CPU tries: of a run of few steps compiling is what takes the time."""

from collections.abc import MutableMapping
from importlib import metadata

FLAGS = 'XLA_FLAGS'  # of the environment, which XLA reads once, before it compiles anything


def little() -> tuple[str, ...]:
    """Flags of XLA with which compiling takes a fraction of the time, and what is compiled runs slower."""
    found = ('--xla_backend_optimization_level=0', '--xla_llvm_disable_expensive_passes=true')
    # JAX 0.10 can emit fusions as LLVM code and not by way of MLIR, in a fifth of the time; later ones cannot.
    older = metadata.version('jaxlib').startswith('0.10.')
    return (*found, '--xla_cpu_use_fusion_emitters=false') if older else found


def save(environment: MutableMapping[str, str]) -> None:
    """Has XLA try little, but for what its flags in `environment` say already; to be called before JAX is used."""
    said = environment.get(FLAGS, '')
    own = [flag for flag in little() if flag.partition('=')[0] not in said]
    environment[FLAGS] = ' '.join([*own, said]).strip()
