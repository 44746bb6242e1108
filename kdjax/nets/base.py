"""The seam between linen and kdjax: its modules become `Net`s, and layers name what may be read."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.errors import UsageError, unknown
from kdjax.jit_cache import shared
from kdjax.types import Array, Net, Outputs, Tree

TAPS = 'taps'
MASKS = 'masks'  # of taps that have padding of their own
FED = 'fed'  # what layers behind taps read in their place
INTERMEDIATES = 'intermediates'  # where modules of flax sow, and where what submodules answer is captured
CALL = '__call__'
ROWS = 'rows'  # stream of keys that all devices share, of which `layers.Dropout` makes one for each row
# How a network is told whether it trains, and what each says where it does.
MODES = {'train': True, 'training': True, 'is_training': True, 'deterministic': False, 'use_running_average': False}
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def tap(module: nn.Module, name: str, x: Array, *masks: Array) -> Array:
    """Names `x` so that terms may read it; costs nothing where nobody does.

    What is behind reads what this returns: `x`, or what a network is fed there while it trains (`Net.fed`).

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
    return module.get_variable(FED, name) if module.has_variable(FED, name) else x


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
    taps: Sequence[str] = (),
    capture: Mapping[str, str] | None = None,
    axis: str | None = None,
) -> Net:
    """A linen module whose call is `module(inputs)` -> logits, Outputs or (logits, features), as a Net.

    Its call is told whether it trains by whichever it takes of `train`, `training`, `is_training`, `deterministic` and
    `use_running_average`; a module that has one of them as a field instead is copied with it.

    Args:
      module: reads batch statistics from the collection 'batch_stats' and its dropout key from 'dropout'. Masks of
        `layers.Dropout` do not depend on how many devices there are; those of flax's own do.
      taps: names that the module gives, with `tap` or with `sow('intermediates', name, x)` or as features beside its
        logits; one with a '/' is the path of a submodule, whose output it stands for ('block_1/conv').
      capture: tap name -> path of a submodule, to read a path, also one without '/', by another name.
      axis: name of the device axis, for modules with flax's own dropout: so that devices drop different units.

    Returns:
      The Net; logits and features of `apply` have a leading batch axis, logits are at least float32.
    """
    paths = {name: name for name in taps if '/' in name} | dict(capture or {})
    names = [name for name in taps if name not in paths]
    modes = modes_of(type(module).__call__)
    fields = () if modes else [field.name for field in dataclasses.fields(module) if field.name in MODES]

    def run(train: bool) -> tuple[nn.Module, dict[str, Any]]:
        clone = module.clone(**as_modes(fields, train)) if fields else module
        return clone, as_modes(modes, train)

    def init(key: Array, inputs: Tree) -> Tree:
        clone, mode = run(train=False)
        variables = clone.init(key, inputs, **mode)
        return {'params': variables.get('params', {}), 'stats': variables.get('batch_stats', {})}

    # Compiled on its own it is traced once for all programs that it is part of.
    @functools.partial(jax.jit, static_argnames='train')
    def apply(variables: Tree, inputs: Tree, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        clone, mode = run(train)
        read = [TAPS, MASKS, INTERMEDIATES]

        def call(fed: Tree) -> tuple[Any, Any]:
            return clone.apply(
                {'params': variables['params'], 'batch_stats': variables['stats'], FED: fed},
                inputs,
                **mode,
                rngs={'dropout': _own(key, axis), ROWS: key} if train and key is not None else None,
                mutable=[*read, 'batch_stats'] if train else read,
                capture_intermediates=_selector(paths) if paths else False,
            )

        answer, written = call(_placed(call, variables[FED]) if FED in variables else {})
        shown = as_outputs(answer)
        inner = written.get(INTERMEDIATES, {})
        features = {**shown.features, **_named(written.get(TAPS, {})), **sown(inner, names), **captured(inner, paths)}
        masks = {**shown.masks, **_named(written.get(MASKS, {}), is_leaf=lambda node: isinstance(node, tuple))}
        return Outputs(shown.logits, features, masks), written.get('batch_stats', variables['stats'])

    return Net(init, apply, (*names, *paths), fed=())


def modes_of(call: Callable[..., Any]) -> tuple[str, ...]:
    """By which arguments a function is told whether it trains."""
    parameters = inspect.signature(call).parameters
    return tuple(name for name in MODES if name in parameters)


def as_modes(names: Sequence[str], train: bool) -> dict[str, Any]:
    """What those arguments are, in training or outside of it."""
    return {name: train == MODES[name] for name in names}


def as_outputs(answer: Any) -> Outputs:
    """What a user's network answers, logits, (logits, features) or Outputs, with logits in float32 at least.

    Raises:
      UsageError: it is none of these.
    """
    if isinstance(answer, tuple):
        if len(answer) not in (2, 3) or not isinstance(answer[1], Mapping):
            raise UsageError('a network must answer logits, (logits, features by name) or Outputs, got a tuple of '
                             f'{", ".join(type(part).__name__ for part in answer)}')  # fmt: skip
        shown = Outputs(*answer)
    else:
        shown = Outputs(answer, {})
    logits = shown.logits
    if not hasattr(logits, 'dtype'):
        raise UsageError(f'a network must answer an array of logits, got {type(logits).__name__}')
    return shown._replace(logits=logits if logits.dtype == jnp.float64 else logits.astype(jnp.float32))


def sown(tree: Tree, names: Sequence[str]) -> dict[str, Array]:
    """Of what modules `sow` into their intermediates, that of these names, wherever in the tree; calls have tuples.

    Raises:
      UsageError: two modules give one of the names, or one module gives it twice.
    """
    features: dict[str, Array] = {}
    for path, values in jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: isinstance(node, tuple)):
        name = str(path[-1].key)
        if name in names:
            if name in features or len(values) > 1:
                raise UsageError(f'two layers give the tap {name!r}; give each its own name')
            features[name] = values[0]
    return features


def captured(tree: Tree, paths: Mapping[str, str]) -> dict[str, Array]:
    """By tap name what a submodule answered, or sowed, whose path is 'block_1/conv'; of several calls the first.

    Raises:
      UsageError: there is no such submodule; lists those that there are.
    """
    features = {}
    for name, path in paths.items():
        node = tree
        for part in path.split('/'):
            known = {str(key): key for key in node if key != CALL} if isinstance(node, Mapping) else {}
            if part not in known:
                raise unknown('submodule', part, known, f' in path {path!r}')
            node = node[known[part]]
        features[name] = (node[CALL] if isinstance(node, Mapping) else node)[0]
    return features


def _placed(call: Callable[[Tree], tuple[Any, Any]], fed: Mapping[str, Array]) -> Tree:
    """What taps are fed, by name, where modules look for it.

    Args:
      call: a module, of what it is fed: its answer, and what its modules wrote.
      fed: by tap, of the shape of what the module has there.

    Raises:
      UsageError: no module has the tap, what it has there is of another shape, or nothing behind the tap reads it.
    """
    own_taps = jax.tree_util.tree_leaves_with_path(jax.eval_shape(call, {})[1].get(TAPS, {}))
    known = {str(path[-1].key): ([str(step.key) for step in path], leaf) for path, leaf in own_taps}
    found: dict[str, Any] = {}
    for name, value in fed.items():
        if name not in known:
            raise unknown('tap', name, known, ' behind which a network is fed')
        (*way, _), own = known[name]
        if value.shape != own.shape:
            raise UsageError(f'the tap {name!r} is {own.shape} and would be fed {value.shape} of its teacher: blocks '
                             'that go on from a teacher have its shapes')  # fmt: skip
        node = found
        for part in way:
            node = node.setdefault(part, {})
        node[name] = value.astype(own.dtype)
    traced = jax.make_jaxpr(call)(found).jaxpr
    read = {id(each) for equation in traced.eqns for each in equation.invars}
    places = jax.tree_util.tree_leaves_with_path(found)
    for (path, _), each in zip(places, traced.invars, strict=True):
        if id(each) not in read:
            raise UsageError(f'nothing of the network is behind the tap {str(path[-1].key)!r}: it cannot be fed there')
    return found


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
