"""Entities as conlleval and strict IOB2 read them: against seqeval, and against conlleval's rules token by token.

golden/seqeval.json has what seqeval 1.2.2 answers: 200 pairs of random sentences of 1 to 15 tags (a letter each; see
'tags'), drawn by numpy.random.default_rng(17) so that most I- continue nothing (of 'gold' 0.4 are O and the rest any
tag, of 'found' 0.75 are as in 'gold' and the rest any tag). 'default' and 'strict' are
`classification_report(gold, found, output_dict=True, zero_division=0)`, without and with `mode='strict', scheme=IOB2`,
less the averages that are not 'micro avg'; '..._counts' are, by sentence, the entities of `get_entities` (of
`seqeval.scheme.Entities` with IOB2) in both, in 'found' and in 'gold'.
"""

import functools
import json
import pathlib

import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.tasks.entities import entities, f1, scheme, share, tally

TAGS = ('O', 'B-creative-work', 'I-creative-work', 'B-group', 'I-group', 'B-person', 'I-person')
SCHEME = scheme(TAGS)


@functools.cache
def golden():
    return json.loads((pathlib.Path(__file__).parent / 'golden' / 'seqeval.json').read_text())


@functools.cache
def tagged(which):
    """The sentences of the golden file as (N, L) tags and what is real of them; padding has tags too."""
    rows = golden()[which]
    letters, length = golden()['tags'], max(map(len, rows)) + 2
    tags = np.full((len(rows), length), TAGS.index('I-person'))
    for row, sentence in zip(tags, rows, strict=True):
        row[: len(sentence)] = [TAGS.index(letters[letter]) for letter in sentence]
    return tags, np.arange(length) < np.array([len(row) for row in rows])[:, None]


def read(which, strict):
    found = entities(*tagged(which), SCHEME)
    return found.where(found.strict) if strict else found


@pytest.mark.parametrize('mode', ['default', 'strict'])
def test_every_count_is_that_of_seqeval(mode):
    found, gold = (read(which, mode == 'strict') for which in ('found', 'gold'))
    np.testing.assert_array_equal(tally(found, gold, 200), golden()[f'{mode}_counts'])
    report = golden()[mode]
    overall, by_type = tally(found, gold, 200).sum(axis=0), tally(found, gold, 3, by='type')
    for name, counts in {'micro avg': overall, **dict(zip(SCHEME.types, by_type, strict=True))}.items():
        assert f1(counts) == pytest.approx(report[name]['f1-score'], abs=1e-12)
        assert share(counts[0], counts[1]) == pytest.approx(report[name]['precision'], abs=1e-12)
        assert share(counts[0], counts[2]) == pytest.approx(report[name]['recall'], abs=1e-12)


def chunks(tags):
    """Of one sentence, by the rules of conlleval's startOfChunk and endOfChunk: (type, first, last)."""
    found, start = [], None
    parts = [tag.partition('-')[::2] for tag in (*tags, 'O')]
    before, kind_before = 'O', ''
    for place, (head, kind) in enumerate(parts):
        ends = before != 'O' and (head in ('B', 'O') or kind != kind_before)
        if ends:
            found.append((kind_before, start, place - 1))
        if head != 'O' and (head == 'B' or before == 'O' or kind != kind_before):
            start = place
        before, kind_before = head, kind
    return found


def test_entities_are_the_chunks_of_conlleval():
    (tags, real), found = tagged('found'), read('found', False)
    width = tags.shape[1] + 1
    want = [(sentence, SCHEME.types.index(kind), sentence * width + first, sentence * width + last)
            for sentence in range(200)
            for kind, first, last in chunks([TAGS[tag] for tag in tags[sentence][real[sentence]]])]  # fmt: skip
    np.testing.assert_array_equal(np.stack(found[:4], axis=1), want)


@pytest.mark.parametrize(
    ('sentence', 'loose', 'strict'),
    [
        ('B-group I-group O', [('group', 0, 1)], 1),
        ('I-group I-group O', [('group', 0, 1)], 0),
        ('B-group I-person O', [('group', 0, 0), ('person', 1, 1)], 1),
        ('B-group B-group I-group', [('group', 0, 0), ('group', 1, 2)], 2),
        ('O I-person B-person', [('person', 1, 1), ('person', 2, 2)], 1),
        ('O O O', [], 0),
    ],
)
def test_where_an_entity_begins_and_ends(sentence, loose, strict):
    tags = np.array([[TAGS.index(tag) for tag in sentence.split()]])
    found = entities(tags, np.ones_like(tags, bool), SCHEME)
    assert [(SCHEME.types[kind], first, last) for kind, first, last in zip(*found[1:4], strict=True)] == loose
    assert found.strict.sum() == strict


def test_nothing_to_find_and_nothing_found_is_0():
    np.testing.assert_array_equal(f1(np.zeros((2, 3))), [0, 0])
    nothing = entities(np.zeros((0, 4), int), np.zeros((0, 4), bool), SCHEME)
    assert tally(nothing, nothing, 0).shape == (0, 3)


@pytest.mark.parametrize(
    'tags', [('O',), ('B-x', 'I-x'), ('O', 'B-x', 'B-x'), ('O', 'S-x'), ('O', 'B-'), ('O', 'x'), ('O', '-x')]
)
def test_tags_that_are_not_of_entities_are_refused(tags):
    with pytest.raises(UsageError, match='tags must be O and, of every type x of entities, B-x and I-x'):
        scheme(tags)
