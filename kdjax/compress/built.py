"""Factors with the directions alone that a traced rank leaves: what a study of ranks hands over."""

from collections.abc import Mapping
from typing import Any

from kdjax.compress.factored import RANK, Factors, Ranks, key_of, nodes, replaced
from kdjax.compress.quantized import ROUNDING
from kdjax.types import Array, Tree


def built(variables: Tree, ranks: Ranks) -> tuple[Tree, Ranks]:
    """Variables, on the host, whose factors have the directions that are used alone, and their ranks.

    Args:
      variables: of one network, those of `with_rank` or others.
      ranks: of `factored`.
    """
    own = variables['stats'].get(RANK, {})
    told = {path: int(own[key_of(path)]) for path in ranks if key_of(path) in own}
    known = nodes(variables['params'], ranks)
    params = replaced(variables['params'], {path: _cut_to(known[path], rank) for path, rank in told.items()})
    rest = {name: rank for name, rank in own.items() if name not in map(key_of, told)}
    stats = {
        **{name: leaf for name, leaf in variables['stats'].items() if name != RANK},
        **({RANK: rest} if rest else {}),
    }
    fewer = {path: _at_most(given, told[path]) if path in told else given for path, given in ranks.items()}
    cut = {f'{key_of(path)}.{part}': leaf for path, node in nodes(params, told).items() for part, leaf in node.items()}
    if ROUNDING in stats:
        rounded = stats[ROUNDING]
        named = {part: _renamed(rounded[part], cut) for part in ('least', 'ranges')}
        stats = {**stats, ROUNDING: {**rounded, **named}}
    return {**variables, 'params': params, 'stats': stats}, fewer


def _renamed(products: Mapping[str, Any], cut: Mapping[str, Array]) -> dict[str, Any]:
    """What a rounded network keeps of its products, by their names with the shapes that weights have now."""
    found = {}
    for key, kept in products.items():
        name, _, shape = key.rpartition(':')
        leaf = cut.get(name.partition('#')[0])
        now = shape if leaf is None else 'x'.join(str(size) for size in leaf.shape if size > 1)
        found[f'{name}:{now}' if name else key] = kept
    return found


def _at_most(given: int | tuple[int, int], rank: int) -> int | tuple[int, int]:
    return (min(given[0], rank), min(given[1], rank)) if isinstance(given, tuple) else min(given, rank)


def _cut_to(factors: Factors, rank: int) -> Factors:
    cut = {**factors, 'first': factors['first'][..., :rank], 'last': factors['last'][..., :rank, :]}
    return {**cut, 'core': factors['core'][..., :rank, :rank]} if 'core' in factors else cut
