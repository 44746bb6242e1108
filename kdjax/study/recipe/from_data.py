"""What a config leaves to the data: numbers that follow from how many training examples there are."""

import dataclasses
from collections.abc import Iterator

from ml_collections import ConfigDict

from kdjax.resolve import resolve
from kdjax.study.config import fields
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.recipe import DataSource

EXAMPLES = 'examples'  # the field of terms that remember something of every training example


def filled(config: ConfigDict, datasets: Datasets) -> ConfigDict:
    """A checked config in which these numbers stand as if they had been given, so that addresses are the same.

    Empty `data.transfer_sizes` become the number of training examples, and so does `examples` of the terms that have
    such a field, are used, and are not given it. Data are loaded only where there is something to fill in.

    Raises:
      UsageError: the data cannot be loaded.
    """
    places = [*_terms(config), *(() if config.data.transfer_sizes else ('data.transfer_sizes',))]
    if not places:
        return config
    data = config.data
    source = DataSource(data.source, data.args.to_dict(), data.preprocess.to_dict())
    count = datasets(source).splits['train'].size
    return fields.changed(config, {place: (count,) if place == 'data.transfer_sizes' else count for place in places})


def _terms(config: ConfigDict) -> Iterator[str]:
    used = {term for method in config.methods.values() for fit in method for term in config.fits[fit].weights}
    for name in sorted(used):
        term = config.terms[name]
        if term.get(EXAMPLES):
            continue
        kind = resolve('kdjax.techniques', term.kind, 'term')
        if dataclasses.is_dataclass(kind) and EXAMPLES in [field.name for field in dataclasses.fields(kind)]:
            yield f'terms.{name}.{EXAMPLES}'
