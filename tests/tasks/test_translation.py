"""What students learn of a teacher's translations: which of them, of which examples, and what is left out."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.dataset import Shared
from kdjax.decoding.base import BEGIN, END
from kdjax.decoding.hypotheses import Filters, Hypotheses, learned
from kdjax.errors import UsageError
from kdjax.tasks.next_token import STEP_COSTS
from kdjax.tasks.translation import Translation
from kdjax.types import Outputs
from tests.tasks.test_next_token import EXAMPLES, PIECES, TABLE, TABLES, TEACHER, dataset, pairs

SPLIT = pairs()
WIDTH = SPLIT.labels.shape[1]


def batch_of(**more):
    ids = np.arange(EXAMPLES, dtype=np.int32)
    mask = np.ones(EXAMPLES, np.float32)
    return {'inputs': SPLIT.inputs, 'labels': SPLIT.labels, 'mask': mask, 'id': ids, 'view': 0 * ids, **more}


def test_translations_take_the_place_of_references_where_they_end():
    written = np.zeros((EXAMPLES, 2, 18), np.int32)
    written[:, 1, :3] = (5, 6, END)
    written[1, 1, :3] = 5  # never ends
    written[2, 1, :6] = (4, 4, 4, 4, 4, END)  # is too long
    written[3, 1] = 0  # was left out
    task, rows = Translation(sequences=(1,), learned='closest', pieces=PIECES), np.arange(EXAMPLES)[::-1]
    told = task.prepare(batch_of(**{'teacher/written1': Shared(rows, written[rows])}))
    own = task.prepare(batch_of())
    for row in range(EXAMPLES):
        if row in (1, 2, 3):
            for one, other in ((told['inputs']['target'], own['inputs']['target']), (told['labels'], own['labels'])):
                np.testing.assert_array_equal(one[row], other[row])
        else:
            np.testing.assert_array_equal(told['inputs']['target'][row], [BEGIN, 5, 6, 0, 0])
            np.testing.assert_array_equal(told['labels'][row], [5, 6, END, 0, 0])
            np.testing.assert_array_equal(told['mask'][row], [1, 1, 1, 0, 0])
    assert not {name for name in told if name.startswith('teacher')}


def test_a_fit_says_what_it_learns():
    tables, rows = {}, np.arange(EXAMPLES)
    for width in (1, 2):  # the first token says the search and the place
        table = np.zeros((EXAMPLES, 2, WIDTH), np.int32)
        table[..., 0] = np.asarray([2, 3])[None] + 2 * width
        table[..., 1] = END
        tables[f'teacher/written{width}'] = Shared(rows, table)
    for what, search, first in (('best', 1, 4), ('closest', 1, 5), ('best', 2, 6), ('closest', 2, 7), ('best', 0, 6)):
        task = Translation(sequences=(1, 2), learned=what, search=search, pieces=PIECES)
        told = task.prepare(batch_of(**tables))
        np.testing.assert_array_equal(told['labels'][:, 0], first)
    plain = Translation(sequences=(1, 2), pieces=PIECES).prepare(batch_of(**tables))
    np.testing.assert_array_equal(plain['labels'], SPLIT.labels)


def test_a_share_is_drawn_of_each_view_of_each_example():
    table = np.zeros((EXAMPLES, 2, WIDTH), np.int32)
    table[..., :2] = (7, END)

    def drawn(share, view=0):
        task = Translation(sequences=(1,), learned='best', share=share, pieces=PIECES)
        rows = np.arange(EXAMPLES)
        batch = batch_of(**{'teacher/written1': Shared(rows, table), 'view': np.full(EXAMPLES, view, np.int32)})
        found = task.prepare(batch)
        own = np.all(np.asarray(found['labels']) == SPLIT.labels, axis=1)
        there = np.all(np.asarray(found['labels']) == table[:, 0], axis=1)
        assert np.all(own | there)
        return there

    assert np.all(drawn(1.0))
    assert not np.any(drawn(0.0))
    shares = [np.mean([drawn(share, view) for view in range(40)]) for share in (0.25, 0.75)]
    assert shares == pytest.approx([0.25, 0.75], abs=0.08)
    assert np.all(drawn(0.75) >= drawn(0.25))
    assert np.any(drawn(0.5) != drawn(0.5, 1))


def test_a_teacher_is_asked_once_for_every_search():
    task = Translation(sequences=(1, 2), pieces=PIECES)
    questions = task.questions(dataset(SPLIT))
    assert [*questions] == ['written1', 'written2']
    np.testing.assert_array_equal(questions['written2'].rows, np.arange(EXAMPLES))
    assert not Translation().questions(dataset(SPLIT))
    assert (task.has_questions, Translation().has_questions) == (True, False)
    variables, outputs = {'params': jnp.asarray(TABLES[0]), 'stats': {}}, Outputs(TEACHER, {})
    for width in (1, 2):
        found = task.reply(TABLE, variables, outputs, batch_of(**{f'asked{width}': np.ones(EXAMPLES)}))
        assert found['tokens'].shape == (EXAMPLES, width, 2 * WIDTH + 8)
        want = task.written(TABLE, variables, SPLIT.inputs['source'], width)
        np.testing.assert_array_equal(found['tokens'][:, 0], want)
        assert np.all(np.diff(found['scores'], axis=1) <= 0)
    np.testing.assert_array_equal(task.reply(TABLE, variables, outputs, batch_of()), TEACHER.argmax(axis=-1))


def test_filters_count_what_they_leave_out_and_the_closest_is_near_the_reference():
    pytest.importorskip('sacrebleu')
    task = Translation(sequences=(2,), least_bleu=20.0, longest_ratio=2.0, pieces=PIECES)
    tokens, labels = np.zeros((EXAMPLES, 2, 18), np.int32), np.where(SPLIT.labels > END, SPLIT.labels, 0)
    labels[:, :4] = (5, 7, 7, 4)
    labels[1:, 4:] = 0
    for row in range(EXAMPLES):
        count = int(np.sum(labels[row] > 0))
        tokens[row, 0, :2] = (4, END)
        tokens[row, 1, :count] = labels[row, :count]
        tokens[row, 1, count] = END
    tokens[0, :, :18] = 4  # never ends
    kept = task.keep({'tokens': tokens, 'scores': np.zeros((EXAMPLES, 2))}, SPLIT._replace(labels=labels))
    assert kept.column.shape == (EXAMPLES, 2, 18)
    assert set(kept.tables) == {'tokens', 'scores', 'likeness'}
    assert kept.tables['likeness'][1:, 1] == pytest.approx(100)
    np.testing.assert_array_equal(kept.column[0], 0)
    closest = kept.said['closest']
    assert closest['unended'] == 1
    assert closest['learned'] + sum(closest[name] for name in ('unended', 'too_long', 'ratio', 'unlike')) == EXAMPLES
    assert closest['bleu'] == pytest.approx(100)
    for row in range(1, EXAMPLES):
        there = np.any(kept.column[row, 1])
        np.testing.assert_array_equal(kept.column[row, 1], tokens[row, 1] if there else 0)
    assert kept.said['best']['learned'] < closest['learned']


def test_each_translation_is_left_out_by_the_first_filter_that_it_fails():
    tokens = np.asarray([[[4, END, 0, 0]], [[4, 4, 4, END]], [[4, 4, 4, 4]], [[4, 4, END, 0]], [[4, 4, END, 0]]])
    likeness = np.asarray([[50.0], [50.0], [0.0], [1.0], [80.0]])
    text = Hypotheses(tokens, [['a']] * 5, likeness, np.asarray([2, 2, 4, 3, 3]))
    found = Filters(bleu=10.0, ratio=1.5).failed(text, width=3)
    assert {name: np.flatnonzero(rows[:, 0]).tolist() for name, rows in found.items()} == {
        'unended': [2], 'too_long': [1], 'ratio': [], 'unlike': [3],
    }  # fmt: skip
    ended = [0, 1, 3, 4]
    whole = Hypotheses(tokens[ended], [['a']] * 4, likeness[ended], text.references[ended])
    assert not any(map(np.any, Filters().failed(whole, width=4).values()))
    pytest.importorskip('sacrebleu')
    column, said = learned(text, ['a'] * 5, Filters(bleu=10.0, ratio=1.5), 3)
    np.testing.assert_array_equal(np.any(column, axis=(1, 2)), [True, False, False, False, True])
    assert said['best'] == {
        'learned': 2, 'unended': 1, 'too_long': 1, 'ratio': 0, 'unlike': 1, 'bleu': said['best']['bleu'],
    }  # fmt: skip


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'learned': 'bset', 'sequences': (1,)}, "unknown choice 'bset' of what is learned.*best"),
        ({'learned': 'best'}, r'search of Translation must be one of its sequences, \(\), got 0'),
        ({'learned': 'best', 'sequences': (5,), 'search': 1}, r'one of its sequences, \(5,\), got 1'),
        ({'sequences': (0,)}, 'sequences widths >= 1'),
        ({'share': 1.5}, r'share in \[0, 1\]'),
        ({'longest_ratio': 0.5}, 'longest_ratio >= 1 or 0'),
    ],
)
def test_what_cannot_be_learned_is_said(arguments, message):
    with pytest.raises(UsageError, match=message):
        Translation(pieces=PIECES, **arguments)


def test_a_step_is_told_in_its_parts():
    assert {*STEP_COSTS} < {*Translation(pieces=PIECES).cost_metrics}


def test_translations_of_a_file_are_ids_of_the_vocabulary():
    task, data = Translation(sequences=(1,), pieces=PIECES), dataset(SPLIT)
    task.check_answer('written1', np.zeros((EXAMPLES, 3), np.int32), data)
    with pytest.raises(UsageError, match=r'must be ids .* from 0 to 7, got .* 0 to 8'):
        task.check_answer('written1', np.full((EXAMPLES, 3), 8) * np.arange(3)[None] // 2, data)
