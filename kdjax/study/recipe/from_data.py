"""What a config leaves to the data: what follows from how many training examples there are, or from their words."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from kdjax.decoding.alignment import matched
from kdjax.resolve import resolve
from kdjax.study.config import check, fields
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.recipe import DataSource

EXAMPLES = 'examples'  # the field of terms that remember something of every training example
MATCHED = 'matched'  # that of terms that are told which ids of two vocabularies are one token
GOLD = 'gold.MatchedTokens'
PIECES = 'pieces'  # the fact that says what ids stand for


def filled(config: ConfigDict, datasets: Datasets) -> ConfigDict:
    """A checked config in which these stand as if they had been given, so that addresses are the same.

    Empty `data.transfer_sizes` become the number of training examples, and so does `examples` of the terms that have
    such a field, are used, and are not given it. In fits that `gold.MatchedTokens` teaches, and whose teacher has words
    of its own (`data_args`), an empty `matched` of it, and of a `uld.UniversalLogits` that no other fit has, becomes
    the pairs of ids whose pieces are equal strings. Data are loaded only where there is something to fill in.

    Raises:
      UsageError: the data cannot be loaded.
    """
    places = [*_remembering(config), *(() if config.data.transfer_sizes else ('data.transfer_sizes',))]
    pairs = dict(_apart(config))
    if not places and not pairs:
        return config
    given: dict[str, Any] = {}
    if places:
        count = datasets(_data(config, {})).splits['train'].size
        given = {place: (count,) if place == 'data.transfer_sizes' else count for place in places}
    for term, own in pairs.items():
        ours, theirs = (datasets(_data(config, more)).facts.get(PIECES, ()) for more in ({}, own))
        given[f'terms.{term}.{MATCHED}'] = matched(ours, theirs)
    return fields.changed(config, given)


def _data(config: ConfigDict, more: Mapping[str, Any]) -> DataSource:
    data = config.data
    return DataSource(data.source, {**data.args.to_dict(), **more}, data.preprocess.to_dict())


def _used(config: ConfigDict) -> dict[str, list[ConfigDict]]:
    """The fits that have a term, by its name."""
    used: dict[str, list[ConfigDict]] = {}
    for name in dict.fromkeys(fit for method in config.methods.values() for fit in method):
        for term in config.fits[name].weights:
            used.setdefault(term, []).append(config.fits[name])
    return dict(sorted(used.items()))


def _lacks(term: ConfigDict, field: str) -> bool:
    """Whether a term has such a field, and it is not given."""
    if term.get(field):
        return False
    kind = resolve('kdjax.techniques', term.kind, 'term')
    return dataclasses.is_dataclass(kind) and field in [each.name for each in dataclasses.fields(kind)]


def _remembering(config: ConfigDict) -> Iterator[str]:
    for name in _used(config):
        if _lacks(config.terms[name], EXAMPLES):
            yield f'terms.{name}.{EXAMPLES}'


def _apart(config: ConfigDict) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Terms whose pairs of ids are missing, each with the arguments that data of the teacher have for themselves."""
    known = check.teachers(config)
    for name, fits in _used(config).items():
        teachers = {fit.teacher for fit in fits}
        compared = all(any(config.terms[term].kind == GOLD for term in fit.weights) for fit in fits)
        if len(teachers) == 1 and compared and _lacks(config.terms[name], MATCHED):
            (teacher,) = teachers
            if teacher in known and known[teacher].data_args:
                yield name, known[teacher].data_args.to_dict()
