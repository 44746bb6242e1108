"""A state dict of PyTorch: weights by the names and in the layout of the published implementations.

In PyTorch: `model.load_state_dict(safetensors.torch.load_file('student.torch.safetensors'))`, for a model of the family
that the network is of. `student.safetensors` has the same weights; this has what PyTorch asks for beside them. Neither
needs PyTorch to be written.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from kdjax.errors import UsageError
from kdjax.export import bundle, weights
from kdjax.export.program import Program, unnamed
from kdjax.export.ranges import rounded
from kdjax.nets import torch_weights

COUNTER, VARIANCE = 'num_batches_tracked', 'running_var'


def write(program: Program, path: Path) -> None:
    """Writes the file.

    Raises:
      UsageError: the student has what PyTorch's networks have no names for: ranges of rounded numbers, or two weights
        that they call alike.
    """
    student = program.student
    if rounded(student):
        raise UsageError('a state dict has no place for the ranges of a rounded student')
    leaves = weights.paths(student.variables)
    names = {place: weights.name(place, student.about['network']['net'], student.net.names) for place in leaves}
    if len(set(names.values())) < len(names):
        raise UsageError('this network has no state dict: PyTorch would call two of its weights alike')
    state = {names[place]: weights.laid_out(leaf, place) for place, leaf in leaves.items()}
    for name in [name for name in state if name.endswith(VARIANCE)]:
        state[name.removesuffix(VARIANCE) + COUNTER] = np.zeros((), np.int64)
    from safetensors.numpy import save_file

    save_file(state, path, {'format': 'pt'})


def session(path: Path) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """What answers with the weights of a file, in the network that the `student.json` beside it names."""
    student = bundle.read(path.parent)
    variables = torch_weights.load(path, student.variables, student.net.names)

    @jax.jit
    def run(inputs: Mapping[str, np.ndarray]) -> jax.Array:
        return student.net.apply(variables, unnamed(inputs), train=False, key=None)[0].logits

    return lambda inputs: np.asarray(run(dict(inputs)))
