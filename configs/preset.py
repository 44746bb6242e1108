"""What a technique's paper sets: its terms, their weights, and the fits in their order; and a job that shows it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

HARD = {'kind': 'cross_entropy.CrossEntropy'}
SOFT = {'kind': 'hinton.SoftTargets', 'temperature': (4.0,)}


class Preset(NamedTuple):
    """A technique as its paper uses it. Each fit of the chain starts from the student of the one before."""

    terms: Mapping[str, Mapping[str, Any]]  # name -> 'kind', its knobs (tuples) and its fields
    chain: tuple[Mapping[str, float], ...]  # per fit, in order: term name -> weight
    nets: str = 'cnn'  # networks of the job that shows it: 'cnn' (maps) or 'vit' (tokens and attention)
