"""Networks of which some modules are trained, and the others stay as they are: a head alone, the last layers."""

from collections.abc import Sequence

import jax
import optax

from kdjax import trees
from kdjax.errors import unknown
from kdjax.types import Array, Net, Outputs, Tree


def check(params: Tree, names: Sequence[str], what: str) -> None:
    """Raises UsageError where one of `names`, paths or patterns, is no module of a network."""
    for name in names:
        if not any(jax.tree.leaves(trees.under(params, (name,)))):
            ways = [trees.path(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(params)]
            raise unknown('module', name, dict.fromkeys(way.rpartition('/')[0] or way for way in ways), what)


def frozen(net: Net, trains: Sequence[str]) -> Net:
    """`net` with no gradient but in the modules `trains`, by path or pattern.

    Where it has batch statistics and those modules have none, it is run in training as it is used: what is frozen
    normalises by what it has learned, and drops nothing.
    """

    def apply(variables: Tree, inputs: Tree, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        chosen, known = (trees.under(variables[part], trains) for part in ('params', 'stats'))
        params = jax.tree.map(
            lambda leaf, learns: leaf if learns else jax.lax.stop_gradient(leaf), variables['params'], chosen
        )
        moves = any(jax.tree.leaves(known)) or not jax.tree.leaves(known)
        return net.apply({**variables, 'params': params}, inputs, train=train and moves, key=key)

    return net._replace(apply=apply)


def optimiser(
    whole: optax.GradientTransformationExtraArgs, trains: Sequence[str]
) -> optax.GradientTransformationExtraArgs:
    """An optimiser that neither moves nor shrinks what is not in the modules `trains` of the student.

    It keeps no momentum of them. Raises UsageError, when its state is made, where there is no such module.
    """

    def chosen(params: Tree) -> Tree:
        check(params['student'], trains, ' that is trained')
        terms = jax.tree.map(lambda leaf: True, params['terms'])
        return {'student': trees.under(params['student'], trains), 'terms': terms}

    return optax.with_extra_args_support(optax.masked(whole, chosen))
