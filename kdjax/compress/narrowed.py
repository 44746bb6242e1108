"""Fewer channels: the same network, built narrower, with the weights of the channels that are worth most.

Which axes of which parameters belong to one width is found by building the network again with that width larger by one,
and comparing shapes. So it works for every network that has its widths as an argument, without a word of its own.

Reference: Fang, Ma, Song, Mi, Wang, DepGraph: Towards Any Structural Pruning, CVPR 2023 (groups, and the group norm);
Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017 (scales of normalisation);
Molchanov, Mallya, Tyree, Frosio, Kautz, Importance Estimation for Neural Network Pruning, CVPR 2019 (Taylor).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax.errors import UsageError, unknown
from kdjax.types import Net, Tree

SCORES = ('group_norm', 'taylor', 'scale')
Make = Callable[[tuple[int, ...]], Net]
Axes = Mapping[str, tuple[tuple[int, int], ...]]


class Group(NamedTuple):
    """What becomes narrower together."""

    widths: tuple[int, ...]  # positions of the widths, tied where there are several
    size: int  # channels
    axes: Axes  # by path: axes, each with how many numbers a channel has on it, in blocks of all channels


def groups(make: Make, widths: Sequence[int], inputs: Tree) -> list[Group]:
    """Parameters and statistics by the width that they belong to. Nothing is computed.

    Args:
      make: the network of some widths.
      widths: as they are.
      inputs: a batch, or its shape.

    Raises:
      UsageError: a width cannot grow by one, alone or with another, without another structure, as where channels are
        grouped.
    """
    shapes = _shapes(make, tuple(widths), inputs)
    found: list[Group] = []
    for place in range(len(widths)):
        if not any(place in group.widths for group in found):
            found.append(_group(make, tuple(widths), inputs, shapes, place))
    return found


def _group(
    make: Make, widths: tuple[int, ...], inputs: Tree, shapes: Mapping[str, tuple[int, ...]], place: int
) -> Group:
    """The group of a width: with others where only together they leave the structure as it is, as stem and stage do."""
    why: Exception | str = 'its structure changes'
    for others in ((), *((other,) for other in range(len(widths)) if other != place)):
        tied = tuple(sorted((place, *others)))
        if len({widths[one] for one in tied}) > 1:
            continue
        try:
            larger = _shapes(make, tuple(width + (one in tied) for one, width in enumerate(widths)), inputs)
        except (ValueError, TypeError, ZeroDivisionError, AssertionError) as error:  # UsageError is a ValueError
            why = error
            continue
        if larger.keys() == shapes.keys() and all(len(larger[name]) == len(shapes[name]) for name in shapes):
            return Group(tied, widths[place], _grown(shapes, larger))
    raise UsageError(
        f'width {place} ({widths[place]}) cannot be made larger by one, so what belongs to it is not known '
        f'({str(why).partition(chr(10))[0]}); networks with grouped channels are not narrowed'
    )


def _grown(shapes: Mapping[str, tuple[int, ...]], larger: Mapping[str, tuple[int, ...]]) -> Axes:
    found = {
        name: tuple((axis, larger[name][axis] - size) for axis, size in enumerate(shape) if larger[name][axis] != size)
        for name, shape in shapes.items()
    }
    return {name: axes for name, axes in found.items() if axes}


def _shapes(make: Make, widths: tuple[int, ...], inputs: Tree) -> dict[str, tuple[int, ...]]:
    variables = jax.eval_shape(make(widths).init, jax.eval_shape(lambda: jax.random.key(0)), inputs)
    return {name: leaf.shape for name, leaf in _named(variables).items()}


def _named(variables: Tree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}


def scores(group: Group, variables: Tree, kind: str = 'group_norm', gradients: Tree | None = None) -> np.ndarray:
    """What every channel of a group is worth. (size,)

    Args:
      group: of `groups`.
      variables: of the network.
      kind: 'group_norm', the root of the sum over kernels of a channel's squared norm, each kernel's as a share of
        their mean; 'taylor', the square of the sum of weight times gradient over all that is the channel's; or 'scale',
        the size of its scales of normalisation.
      gradients: of the loss, as variables['params']; of 'taylor'.

    Raises:
      UsageError: an unknown kind, no gradients for 'taylor', or no normalisation for 'scale'.
    """
    if kind not in SCORES:
        raise unknown('score', kind, SCORES)
    if kind == 'taylor' and gradients is None:
        raise UsageError("the score 'taylor' needs the gradients of the loss")
    weights = {name: np.asarray(leaf, np.float64) for name, leaf in _named(variables).items()
               if name in group.axes and name.startswith('params/')}  # fmt: skip
    if kind == 'taylor':
        slopes = _named({'params': gradients})
        return np.square(
            sum(_by_channel(group, name, leaf * np.asarray(slopes[name])) for name, leaf in weights.items())
        )
    if kind == 'scale':
        chosen = {name: np.abs(leaf) for name, leaf in weights.items() if name.endswith('/scale')}
        if not chosen:
            raise UsageError("the score 'scale' is of normalisation, and these channels have none; take 'group_norm'")
        return np.sum([_by_channel(group, name, leaf) for name, leaf in chosen.items()], axis=0)
    squares = [_by_channel(group, name, np.square(leaf)) for name, leaf in weights.items() if leaf.ndim >= 2]
    return np.sqrt(np.sum([square / max(square.mean(), 1e-30) for square in squares], axis=0))


def _by_channel(group: Group, name: str, leaf: np.ndarray) -> np.ndarray:
    """Sums over all that belongs to a channel, on whichever of its axes. (size,)"""
    total = np.zeros(group.size)
    for axis, copies in group.axes[name]:
        front = np.moveaxis(leaf, axis, 0)
        # Of a flattened map the channels of one position come after those of another.
        total += front.reshape(copies, group.size, -1).sum(axis=(0, 2))
    return total


def kept(score: np.ndarray, share: float, multiple: int = 1) -> np.ndarray:
    """Positions of the channels that stay, in order: a share of them, those of the largest score.

    Args:
      score: (N,).
      share: in (0, 1].
      multiple: that their number is rounded to, at least one of it; 8 for kernels of 8-bit integers.
    """
    return np.sort(np.argsort(-score, kind='stable')[: count(score.size, share, multiple)])


def count(size: int, share: float, multiple: int = 1) -> int:
    """How many of so many channels a share is."""
    if not 0 < share <= 1:
        raise UsageError(f'share of the channels that are kept must be in (0, 1], got {share!r}')
    return min(size, max(multiple, round(share * size / multiple) * multiple))


def narrowed(
    make: Make,
    widths: Sequence[int],
    variables: Tree,
    keep: Sequence[tuple[Group, np.ndarray]],
    inputs: Tree,
) -> tuple[tuple[int, ...], Tree]:
    """Widths and variables of the narrower network, whose outputs are those of the wide one without the other channels.

    Args:
      make: the network of some widths.
      widths, variables: of the wide one.
      keep: groups, and the channels that stay of each.
      inputs: a batch, with which that is checked; None to leave it out.

    Raises:
      UsageError: the outputs differ, as where a channel is read by more than kernels (layer normalisation of a
        transformer's width), or where channels change places.
    """
    fewer = list(widths)
    named = {name: np.asarray(leaf) for name, leaf in _named(variables).items()}
    for group, channels in keep:
        for place in group.widths:
            fewer[place] = len(channels)
        for name, axes in group.axes.items():
            for axis, copies in axes:
                named[name] = np.take(named[name], _positions(channels, group.size, copies), axis=axis)
    small = jax.tree.unflatten(jax.tree.structure(variables), list(named.values()))
    if inputs is not None:
        _check(make, tuple(widths), silenced(variables, keep), tuple(fewer), small, inputs)
    return tuple(fewer), small


def _positions(channels: np.ndarray, size: int, copies: int) -> np.ndarray:
    return (np.arange(copies)[:, None] * size + np.asarray(channels)).ravel()


def silenced(variables: Tree, keep: Sequence[tuple[Group, np.ndarray]]) -> Tree:
    """Variables of the wide network in which nothing reads the channels that do not stay."""
    named = {name: np.array(leaf) for name, leaf in _named(variables).items()}
    for group, channels in keep:
        gone = np.setdiff1d(np.arange(group.size), channels)
        for name, axes in group.axes.items():
            for axis, copies in axes:
                if named[name].ndim >= 2 and axis == named[name].ndim - 2:
                    np.moveaxis(named[name], axis, 0)[_positions(gone, group.size, copies)] = 0
    return jax.tree.unflatten(jax.tree.structure(variables), list(named.values()))


def _check(make: Make, widths: tuple[int, ...], wide: Tree, fewer: tuple[int, ...], small: Tree, inputs: Tree) -> None:
    logits = [
        np.asarray(
            jax.jit(lambda v, x, net=make(sizes): net.apply(v, x, train=False, key=None)[0].logits)(given, inputs)
        )
        for sizes, given in ((widths, wide), (fewer, small))
    ]
    gap = np.max(np.abs(logits[0] - logits[1]))
    if not gap <= 1e-3 * max(1.0, np.max(np.abs(logits[0]))):
        raise UsageError(f'a network of widths {widths} is not the same without some of its channels (logits move by '
                         f'{gap:.2g}): another layer reads all of them together, or they change places')  # fmt: skip
