"""The seam between module libraries and kdjax: linen modules become `Net`s, and layers name what may be read."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError, unknown
from kdjax.jit_cache import shared
from kdjax.types import Array, Net, Outputs, Tree

TAPS = 'taps'
MASKS = 'masks'  # of taps that have padding of their own
ROWS = 'rows'  # stream of keys that all devices share, of which `layers.Dropout` makes one for each row
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def tap(module: nn.Module, name: str, x: Array, *masks: Array) -> Array:
    """Names `x` so that terms may read it; costs nothing where nobody does.

    Args:
      module: that has it.
      name: of the tap; 'logits' for what the network answers, which then only gets masks.
      x: leading axis B.
      masks: one (B, N) for each axis of `x` that has padding, in order: 1 for what is real.
    """
    if name != 'logits':
        module.sow(TAPS, name, x, init_fn=lambda: None, reduce_fn=lambda _, new: new)
    if masks:
        module.sow(MASKS, name, masks, init_fn=lambda: None, reduce_fn=lambda _, new: new)
    return x


@shared
def repeated(block: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """A module that is called as `block(x, *booleans)`, traced once for all of one structure, one shape and those."""
    return nn.jit(block, static_argnums=(2, 3))


def compute_dtype(precision: str) -> Any:
    """The dtype of activations; parameters, logits and losses stay float32.

    Raises:
      UsageError: `precision` is not in DTYPES.
    """
    if precision not in DTYPES:
        raise unknown('precision', precision, DTYPES)
    return DTYPES[precision]


def from_linen(
    module: nn.Module,
    taps: tuple[str, ...] = (),
    capture: Mapping[str, str] | None = None,
    axis: str | None = None,
) -> Net:
    """A linen module whose call is `module(inputs, train=...)` -> logits, as a Net.

    Args:
      module: reads batch statistics from the collection 'batch_stats' and its dropout key from 'dropout'. Masks of
        `layers.Dropout` do not depend on how many devices there are; those of flax's own do.
      taps: names that the module gives with `tap`.
      capture: tap name -> path of a submodule ('block_1/conv'), for modules that have no taps of their own.
      axis: name of the device axis, for modules with flax's own dropout: so that devices drop different units.

    Returns:
      The Net; logits and features of `apply` have a leading batch axis, logits are at least float32.
    """
    capture = dict(capture or {})

    def init(key: Array, inputs: Tree) -> Tree:
        variables = module.init(key, inputs, train=False)
        return {'params': variables['params'], 'stats': variables.get('batch_stats', {})}

    # Compiled on its own it is traced once for all programs that it is part of.
    @functools.partial(jax.jit, static_argnames='train')
    def apply(variables: Tree, inputs: Tree, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        logits, written = module.apply(
            {'params': variables['params'], 'batch_stats': variables['stats']},
            inputs,
            train=train,
            rngs={'dropout': _own(key, axis), ROWS: key} if train and key is not None else None,
            mutable=[TAPS, MASKS, 'batch_stats'] if train else [TAPS, MASKS],
            capture_intermediates=_selector(capture) if capture else False,
        )
        features = {**_named(written.get(TAPS, {})), **_captured(written.get('intermediates', {}), capture)}
        logits = logits if logits.dtype == jnp.float64 else logits.astype(jnp.float32)
        masks = _named(written.get(MASKS, {}), is_leaf=lambda node: isinstance(node, tuple))
        return Outputs(logits, features, masks), written.get('batch_stats', variables['stats'])

    return Net(init, apply, (*taps, *capture))


def _own(key: Array, axis: str | None) -> Array:
    """A key of this device."""
    return key if axis is None else jax.random.fold_in(key, jax.lax.axis_index(axis))


def _selector(capture: Mapping[str, str]) -> Any:
    """Captures the asked modules and their siblings on the way, which an error about a wrong path lists."""
    parents = {tuple(path.split('/'))[:depth] for path in capture.values() for depth in range(path.count('/') + 1)}
    return lambda module, method: method == '__call__' and bool(module.path) and module.path[:-1] in parents


def _named(tree: Tree, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """Taps, or their masks, by their own name, wherever in the module tree they were given."""
    features: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf):
        name = path[-1].key
        if name in features:
            raise UsageError(f'two layers give the tap {name!r}; give each its own name')
        features[name] = leaf
    return features


def _captured(tree: Tree, capture: Mapping[str, str]) -> dict[str, Array]:
    features = {}
    for name, path in capture.items():
        node = tree
        for part in path.split('/'):
            if part not in node:
                raise unknown('submodule', part, [key for key in node if key != '__call__'], f' in path {path!r}')
            node = node[part]
        features[name] = node['__call__'][0]
    return features
