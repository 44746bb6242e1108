"""Networks of other kinds than linen's as `Net`s: nnx modules, and plain functions."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UsageError
from kdjax.nets.base import MODES, as_modes, as_outputs, captured, modes_of, sown
from kdjax.types import Array, Net, Outputs, Tree

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
KEYS = ('key', 'rng')  # by which argument a plain function is given its random key


def from_nnx(
    build: nnx.Module | Callable[[nnx.Rngs], nnx.Module],
    taps: Sequence[str] = (),
    capture: Mapping[str, str] | None = None,
) -> Net:
    """An nnx module whose call is `module(inputs)` -> logits, Outputs or (logits, features), as a Net.

    It is told whether it trains by `train()` and `eval()`, and by whichever argument its call takes of `train`,
    `training`, `is_training`, `deterministic` and `use_running_average`. What is random in it draws from the key of the
    step.

    Args:
      build: from `nnx.Rngs` to the module, such as its class; or a module, whose own variables `init` then answers.
      taps: names that the module gives, with `sow(nnx.Intermediate, name, x)` or as features beside its logits; one
        with a '/' is the path of a submodule, whose output it stands for ('blocks/0').
      capture: tap name -> path of a submodule, to read a path, also one without '/', by another name.

    Returns:
      The Net: of its variables 'params' are all `nnx.Param`, 'stats' all else that is not a random state.
    """
    paths = {name: name for name in taps if '/' in name} | dict(capture or {})
    names = [name for name in taps if name not in paths]

    def made(key: Array) -> nnx.Module:
        return build if isinstance(build, nnx.Module) else build(nnx.Rngs(key))

    # Its structure, and what it has of random states; their keys are set for each call.
    model = build if isinstance(build, nnx.Module) else nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    structure, states = _split(model)[::2]
    modes = modes_of(type(model).__call__)

    def init(key: Array, inputs: Tree) -> Tree:
        del inputs
        _, params, _, stats = _split(made(key))
        return {'params': nnx.to_pure_dict(params), 'stats': nnx.to_pure_dict(stats)}

    def apply(variables: Tree, inputs: Tree, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        known = [nnx.State(variables[group]) for group in ('params', 'stats')]
        model = nnx.merge(structure, known[0], _drawing(states, key), known[1])
        (model.train if train else model.eval)()
        answer, inner = nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate if paths else None)(
            inputs, **as_modes(modes, train)
        )
        inner = nnx.to_pure_dict(inner)
        shown = as_outputs(answer)
        features = {**shown.features, **sown(inner, names), **captured(inner, paths)}
        return shown._replace(features=features), nnx.to_pure_dict(_split(model)[3])

    return Net(init, apply, (*names, *paths))


def _split(model: nnx.Module) -> tuple[Any, ...]:
    """A module's structure, parameters, random states, and all else that is no intermediate."""
    kept: Any = nnx.Not(nnx.Intermediate)
    parts: Any = nnx.split(model, nnx.Param, nnx.RngState, kept, ...)
    return parts[:4]


def _drawing(states: Tree, key: Array | None) -> Tree:
    """The random states of a module with keys that follow from one, and nothing drawn from them."""
    key = jax.random.key(0) if key is None else key
    leaves, structure = jax.tree.flatten(states)
    fresh = [jax.random.fold_in(key, place) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
             else jnp.zeros(leaf.shape, leaf.dtype) for place, leaf in enumerate(leaves)]  # fmt: skip
    return jax.tree.unflatten(structure, fresh)


def from_function(init: Callable[..., Tree], apply: Callable[..., Any], taps: Sequence[str] = ()) -> Net:
    """Two plain functions as a Net, such as those of haiku's `transform` or of one's own dict of arrays.

    Args:
      init: (key, inputs) -> params.
      apply: (params, inputs) -> logits, Outputs or (logits, features). It is told whether it trains by whichever it
        takes of the arguments `train`, `training`, `is_training`, `deterministic` and `use_running_average`, and gets
        the step's random key, None outside of training, as its argument `key` or `rng` where it has one.
      taps: names of the features that it gives.

    Raises:
      UsageError: `apply` has another argument without a default.
    """
    parameters = inspect.signature(apply).parameters
    modes, keys = modes_of(apply), [name for name in KEYS if name in parameters]
    needed = [name for name, one in parameters.items() if one.default is one.empty and one.kind in POSITIONAL]
    strange = [name for name in needed[2:] if name not in (*MODES, *KEYS)]
    if strange:
        raise UsageError(f'apply is called as apply(params, inputs), with {", ".join((*MODES, *KEYS))} where it has '
                         f'them; it asks for {", ".join(strange)} too')  # fmt: skip

    def start(key: Array, inputs: Tree) -> Tree:
        return {'params': init(key, inputs), 'stats': {}}

    def run(variables: Tree, inputs: Tree, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        given = dict.fromkeys(keys, key if train else None)
        return as_outputs(apply(variables['params'], inputs, **as_modes(modes, train), **given)), variables['stats']

    return Net(start, run, tuple(taps))
