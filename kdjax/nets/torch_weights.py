"""Weights that PyTorch saved, for networks whose layers have the names of the published implementations.

Nothing here needs PyTorch, and nothing that a file says is executed: a pickle may name tensors and dictionaries only.
"""

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.errors import UsageError
from kdjax.types import Names, Tree

# Where checkpoints keep the weights beside other things.
WRAPPERS = ('state_dict', 'model_state_dict', 'model', 'net')
HEADS = ('fc', 'linear', 'classifier', 'classifier.0')  # what implementations call the head
LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}
STORAGES = {
    'DoubleStorage': np.float64, 'FloatStorage': np.float32, 'HalfStorage': np.float16, 'BFloat16Storage': jnp.bfloat16,
    'LongStorage': np.int64, 'IntStorage': np.int32, 'ShortStorage': np.int16, 'CharStorage': np.int8,
    'ByteStorage': np.uint8, 'BoolStorage': np.bool_,
}  # fmt: skip
LISTED = 5  # names of each kind in an error


def load(path: str | Path, like: Tree, names: Names | None = None) -> Tree:
    """Variables of a network, from a file of PyTorch weights.

    For networks of `resnet_cifar`, `resnet`, `wide_resnet`, `vgg`, `mobilenetv2`, `shufflenet` and `deit`, whose layers
    are called as in RepDistiller, mdistiller, torchvision and timm, and for those that say how files call theirs, such
    as those of `bert`. The weights may be nested under one of WRAPPERS, beside numbers and words, and their names may
    begin with anything that they have in common ('module.', '_orig_mod.', 'model.', 'module.student.'), beside weights
    of others.

    Args:
      path: a '.safetensors' file (needs the extra `torch-weights`), or what `torch.save` writes since PyTorch 1.6.
      like: variables of the network or their shapes, as `jax.eval_shape(net.init, key, inputs)` gives them.
      names: the network's, `net.names`.

    Returns:
      A tree of numpy arrays with the structure, shapes and dtypes of `like`.

    Raises:
      UsageError: no such file, a format that is not read, or weights of another network: says which are missing,
        unexpected or of another shape.
    """
    return _read(path, like, names or PUBLISHED, fresh=())


def start(path: str | Path, initial: Tree, names: Names | None = None) -> Tree:
    """Initial variables of a network that goes on from a file of weights: those of the file, but a head of its own.

    Args:
      path, names: as of `load`.
      initial: variables as `net.init` gives them; those under `names.fresh` that the file does not have stay.

    Raises:
      UsageError: as `load`.
    """
    names = names or PUBLISHED
    return _read(path, initial, names, names.fresh)


def _read(path: str | Path, like: Tree, names: Names, fresh: tuple[str, ...]) -> Tree:
    try:
        return variables(state_dict(path), like, names, fresh)
    except UsageError as error:
        raise UsageError(f'weights {str(path)!r}: {error}') from error


def state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The weights in a file by their names in PyTorch, in PyTorch's layout; see `load`."""
    path = Path(path)
    if not path.is_file():
        raise UsageError('there is no such file')
    return _unwrapped(_safetensors(path) if path.suffix == '.safetensors' else _zipped(path))


def variables(
    state: Mapping[str, np.ndarray], like: Tree, names: Names | None = None, fresh: tuple[str, ...] = ()
) -> Tree:
    """The variables that `state` has for the tree `like`; see `load` and, of what is `fresh`, `start`."""
    names = names or PUBLISHED
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    paths = {jax.tree_util.keystr(keys, simple=True, separator='/'): leaf for keys, leaf in leaves}
    state = _under_prefix(state, paths, names, fresh)
    given, unexpected = _given(state, names)
    missing: list[str] = []
    misshapen, filled = [], []
    for keys, leaf in leaves:
        path = jax.tree_util.keystr(keys, simple=True, separator='/')
        key = given.pop(names.published(path), None)
        if key is None:
            missing += [] if path.startswith(fresh) else [path]
            filled.append(leaf)
            continue
        array = _laid(state[key], path)
        if array.shape != leaf.shape:
            misshapen.append(f'{key} {array.shape} for {path} {leaf.shape}')
        filled.append(np.asarray(array, leaf.dtype))
    unexpected = [*(key for name, key in given.items() if not name.startswith(names.spare)), *unexpected]
    faults = {'missing': missing, 'unexpected': unexpected, 'of another shape': misshapen}
    if any(faults.values()):
        found = '; '.join(f'{kind}: {_listed(listed)}' for kind, listed in faults.items() if listed)
        raise UsageError(f'they are not of this network; {found}')
    return jax.tree_util.tree_unflatten(structure, filled)


def _under_prefix(
    state: Mapping[str, np.ndarray], like: Mapping[str, Any], names: Names, fresh: tuple[str, ...]
) -> Mapping[str, np.ndarray]:
    """The weights without what all their names begin with; where that is nothing, as they are.

    What begins otherwise is of others (a loss, a counter, another network), where the weights are all there.

    Raises:
      UsageError: two networks of this kind are there.
    """
    wanted = {names.published(path) for path in like}
    if not wanted.isdisjoint(map(names.plain, state)):
        return state
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, value in state.items():
        for place, letter in enumerate(key):
            if letter == '.':
                found.setdefault(key[: place + 1], {})[key[place + 1 :]] = value
    # The longest prefix of those that have the same.
    shared = {prefix: len(wanted & set(map(names.plain, own))) for prefix, own in sorted(found.items())}
    fitting = [prefix for prefix in shared if shared[prefix] and _fits(found[prefix], like, names, fresh)]
    if len(fitting) > 1:
        raise UsageError(f'there are several networks of this kind, under {", ".join(map(repr, fitting))}; in PyTorch: '
                         f'torch.save({{k.removeprefix({fitting[0]!r}): v for k, v in weights.items() '
                         f'if k.startswith({fitting[0]!r})}}, path)')  # fmt: skip
    if fitting:
        return found[fitting[0]]
    best = max(shared, key=lambda prefix: shared[prefix], default='')
    if not best or not shared[best]:
        return state
    others = {key: value for key, value in state.items() if not key.startswith(best)}
    return {**found[best], **others}


def _fits(state: Mapping[str, np.ndarray], like: Mapping[str, Any], names: Names, fresh: tuple[str, ...]) -> bool:
    """Whether these are all weights of a network, and no others."""
    given, doubled = _given(state, names)
    for path, leaf in like.items():
        key = given.pop(names.published(path), None)
        if key is None and not path.startswith(fresh):
            return False
        if key is not None and _laid(state[key], path).shape != leaf.shape:
            return False
    return not doubled and all(name.startswith(names.spare) for name in given)


def _given(state: Mapping[str, np.ndarray], names: Names) -> tuple[dict[str, str], list[str]]:
    """The names in a file by their plain form, and those whose plain form another has."""
    given: dict[str, str] = {}
    doubled = []
    for key in state:
        if key.rpartition('.')[2] == 'num_batches_tracked':  # of use only without a momentum
            continue
        if given.setdefault(names.plain(key), key) != key:
            doubled.append(key)
    return given, doubled


def _plain(key: str) -> str:
    """A name in PyTorch as `_published` gives it: 'layer1.0.shortcut.0.weight' -> 'layer1_0_downsample_0_weight'."""
    module, dot, leaf = key.rpartition('.')
    module = 'head' if module in HEADS else module.replace('shortcut', 'downsample')
    return f'{module}{dot}{leaf}'.replace('.', '_')


def _published(path: str) -> str:
    """What PyTorch calls the leaf at a path of variables: 'params/layer1_0/conv1/kernel' -> 'layer1_0_conv1_weight'."""
    *module, leaf = path.split('/')[1:]
    return '_'.join([*module, LEAVES.get(leaf, leaf)])


PUBLISHED = Names(_published, _plain)


def _laid(array: np.ndarray, path: str) -> np.ndarray:
    """Kernels as they are here: (O, I, H, W) -> (H, W, I, O) and (O, I) -> (I, O)."""
    if not path.endswith('kernel'):
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _listed(names: Sequence[str]) -> str:
    rest = f' and {len(names) - LISTED} more' if len(names) > LISTED else ''
    return ', '.join(names[:LISTED]) + rest


def _unwrapped(found: Any) -> dict[str, np.ndarray]:
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not any(isinstance(value, np.ndarray) for value in found.values()):
        names = ', '.join(map(repr, found)) if isinstance(found, Mapping) else type(found).__name__
        under = ', '.join(map(repr, WRAPPERS))
        raise UsageError(f'no weights by name, nor any under {under}; there is: {names}')
    other = [f'{key!r} is {type(value).__name__}' for key, value in found.items() if not isinstance(value, np.ndarray)]
    if other:
        raise UsageError(f'beside weights there is what are none: {_listed(other)}; save them without it')
    return dict(found)


def _safetensors(path: Path) -> Any:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise UsageError('.safetensors needs the package safetensors: pip install "kdjax[torch-weights]"') from error
    try:
        return load_file(path)
    except Exception as error:  # the library raises several kinds of its own
        raise UsageError(f'not a readable safetensors file ({error})') from error


def _zipped(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        raise UsageError('not in the format of PyTorch 1.6 and later; there: torch.save(torch.load(path), path)')
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith('/data.pkl')]
        if len(names) != 1:
            raise UsageError('a zip file without the data.pkl that torch.save writes')
        folder = names[0].removesuffix('data.pkl')
        if f'{folder}byteorder' in archive.namelist() and archive.read(f'{folder}byteorder') != b'little':
            raise UsageError('saved on a big-endian machine, which is not read')
        try:
            with archive.open(names[0]) as stream:
                return _Unpickler(stream, archive, folder).load()
        except UsageError:
            raise
        except Exception as error:  # a damaged pickle may raise anything
            raise UsageError(f'damaged ({type(error).__name__}: {error})') from error


class _Unpickler(pickle.Unpickler):
    """Reads tensors as numpy arrays, and refuses to import anything that a pickle names."""

    def __init__(self, stream: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(stream)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        known = {
            'collections.OrderedDict': OrderedDict,
            'torch._utils._rebuild_tensor_v2': _tensor,
            'torch._utils._rebuild_parameter': _parameter,
            # Numbers of numpy beside the weights, such as an accuracy; the module has had two names.
            **{f'numpy.{core}.multiarray.scalar': _number for core in ('core', '_core')},
            'numpy.dtype': _Dtype,
            '_codecs.encode': _encoded,
            **{f'torch.{storage}': storage for storage in STORAGES},
        }
        if f'{module}.{name}' not in known:
            raise UsageError(
                f'holds {module}.{name}, and only tensors are read; in PyTorch: torch.save(model.state_dict(), path)'
            )
        return known[f'{module}.{name}']

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, storage, key, _, count = pid
        return np.frombuffer(self._archive.read(f'{self._folder}data/{key}'), STORAGES[storage], count)


class _Dtype:
    """What a pickle says of the dtype of a number."""

    def __init__(self, name: str, *_: Any) -> None:
        if not re.fullmatch('[biufc][0-9]{1,2}', name):
            raise UsageError(f'holds a number of numpy of dtype {name!r:.20}, which is not read')
        self.name, self.order = name, '<'

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.order = '>' if state[1] == '>' else '<'


def _number(dtype: Any, content: Any) -> Any:
    """A number of numpy's, as one of Python's."""
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
        raise UsageError('holds a number of numpy that is not one')
    return np.frombuffer(content, dtype.order + dtype.name, 1)[0].item()


def _encoded(text: Any, encoding: Any) -> bytes:
    """How older pickles hold bytes."""
    if not isinstance(text, str) or encoding != 'latin1':
        raise UsageError('holds text that is encoded, and only tensors are read')
    return text.encode('latin1')


def _tensor(storage: np.ndarray, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any) -> np.ndarray:
    """A view of a storage, as a copy; strides are in elements."""
    if min(shape, default=1) == 0:
        return np.zeros(tuple(shape), storage.dtype)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides)) < 0 or last >= storage.size:
        raise UsageError(f'damaged: a tensor {tuple(shape)} reaches beyond its {storage.size} numbers')
    view = np.lib.stride_tricks.as_strided(
        storage[offset:], tuple(shape), [stride * storage.itemsize for stride in strides]
    )
    return view.copy()


def _parameter(data: np.ndarray, *_: Any) -> np.ndarray:
    return data
