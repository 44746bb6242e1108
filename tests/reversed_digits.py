"""Sentences that take no time to learn: digits, to be written in the reverse order."""

import numpy as np

from kdjax import trees
from kdjax.dataset import Dataset, Split
from kdjax.decoding.base import BEGIN, END

PIECES = ('<pad>', '<unk>', '<s>', '</s>', *(f'▁{digit}' for digit in range(8)))
WIDTH = 7  # ids of the longest, its end included


class Subwords:
    """What makes ids of texts."""

    def __init__(self, pieces):
        self.known = {piece[1:]: place for place, piece in enumerate(pieces) if place > END}

    def encoded(self, texts):
        return [[self.known[word] for word in text.split()] for text in texts]


def pairs(turned=False):
    """Four to six digits each; `turned`, the same sentences with as many pieces in another order."""
    splits, special = {}, PIECES[: END + 1]
    pieces = (*special, *reversed(PIECES[END + 1 :])) if turned else PIECES
    as_written = np.asarray([*range(END + 1), *reversed(range(END + 1, len(PIECES)))] if turned else range(len(PIECES)))
    for seed, (name, size) in enumerate({'train': 1500, 'validation': 40, 'test': 100}.items()):
        random = np.random.default_rng(seed)
        count = random.integers(4, WIDTH, size).astype(np.int32)[:, None]
        digits, places = random.integers(END + 1, len(PIECES), (size, WIDTH)), np.arange(WIDTH)
        source = np.where(places < count, digits, np.where(places == count, END, 0)).astype(np.int32)
        turned = np.take_along_axis(source, (count - 1 - places) % WIDTH, axis=1)
        labels = np.where(places < count, turned, np.where(places == count, END, 0)).astype(np.int32)
        target = np.concatenate(
            [np.full((size, 1), BEGIN, np.int32), np.where(labels == END, 0, labels)[:, :-1]], axis=1
        )
        more = {'length': count[:, 0] + 1}
        if name != 'train':
            texts = [''.join(PIECES[token] for token in row if token > END).replace('▁', ' ').strip() for row in labels]
            more['reference'] = np.asarray([list(text.encode().ljust(12, b'\0')) for text in texts], np.uint8)
        splits[name] = Split({'source': source, 'target': target}, labels, more)
        splits[name] = splits[name]._replace(
            inputs={side: as_written[ids].astype(np.int32) for side, ids in splits[name].inputs.items()},
            labels=as_written[splits[name].labels].astype(np.int32),
        )
    facts = {
        'vocabulary': len(pieces), 'pieces': pieces, 'fingerprint': trees.digest(list(pieces)),
        'source_fingerprint': trees.digest(list(pieces)), 'subwords': Subwords(pieces),
    }  # fmt: skip
    return Dataset(splits, (), facts, ('inputs', 'labels'))
