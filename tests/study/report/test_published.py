"""Numbers of a paper: a file that says how sure it is, and a comparison that claims no more."""

import json

import pytest
from made_up import BASELINE, record, results, temperatures
from scipy import stats

from kdjax.errors import UsageError
from kdjax.study.report import comparison, published
from kdjax.study.report.records import Published, PublishedNumber

ROW = {
    'point': {'method': 'kd', 'temperature': 4},
    'metric': 'accuracy',
    'value': 0.9,
    'checkpoint': 'last',
    'certainty': 'read in source',
}


def content(*rows):
    return {'source': 'Somebody 2015, table 1', 'rows': list(rows)}


def compared(study, *rows):
    return published.compare(published.check(content(*rows), 'expected.json'), comparison.group_runs(study)).rows


def ours(study, checkpoint='last'):
    return [getattr(run, checkpoint)['accuracy'] for run in study.runs if run.point == ROW['point']]


def test_a_file_is_read_and_completed(tmp_path):
    path = tmp_path / 'expected.json'
    path.write_text(json.dumps(content(ROW)))
    assert published.load(path) == Published(
        'Somebody 2015, table 1', (PublishedNumber(**ROW, sd=None, n=None, note=''),)
    )


def test_a_missing_or_broken_file_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r'cannot read the expected numbers in .*nowhere\.json'):
        published.load(tmp_path / 'nowhere.json')
    (tmp_path / 'broken.json').write_text('{"source": ')
    with pytest.raises(UsageError, match=r'broken\.json is not JSON'):
        published.load(tmp_path / 'broken.json')


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        ({'value': 73.33}, r'the value of accuracy must be a share in \[0, 1\], not percent; it is 73.33'),
        ({'value': None}, 'the value of accuracy'),
        ({'value': True}, 'the value of accuracy'),
        ({'value': float('nan')}, 'the value of accuracy'),
        ({'metric': 'nll', 'value': -1}, 'the value of nll must be not negative'),
        ({'metric': 'acuracy'}, "unknown metric 'acuracy' in expected.json, row 2; there is: 'accuracy'"),
        ({'checkpoint': 'final'}, "unknown checkpoint 'final'"),
        ({'certainty': 'sure'}, "unknown certainty 'sure'"),
        ({'certainty': ['recalled']}, 'unknown certainty'),
        ({'sd': -0.1}, "'sd' must be null or not negative"),
        ({'sd': 1.5}, "'sd' must be null or not negative"),
        ({'n': 0}, "'n' must be null or a whole number"),
        ({'n': 2.5}, "'n' must be null or a whole number"),
        ({'point': {}}, "'point' must name at least one axis"),
        ({'point': {'temperature': [4]}}, "'temperature' must be a number or text"),
        ({'note': 3}, "'note' must be text"),
        ({'std': 0.1}, "unknown field 'std' in expected.json, row 2; there is: 'sd'"),
    ],
)
def test_a_wrong_row_is_named(change, says):
    with pytest.raises(UsageError, match=says) as error:
        published.check(content(ROW, {**ROW, **change}), 'expected.json')
    assert 'row 2' in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('field', ['point', 'metric', 'value', 'checkpoint', 'certainty'])
def test_a_lacking_field_is_named(field):
    with pytest.raises(UsageError, match=f"row 1 lacks '{field}'"):
        published.check(content({key: value for key, value in ROW.items() if key != field}), 'expected.json')


@pytest.mark.parametrize('wrong', [[], {'rows': []}, {**content(), 'more': 1}, {'source': 'x', 'rows': {}}, 'text'])
def test_the_whole_has_a_source_and_rows(wrong):
    with pytest.raises(UsageError, match="must be an object with 'source' and 'rows'"):
        published.check(wrong, 'expected.json')


def test_a_source_is_said():
    with pytest.raises(UsageError, match="'source' must say where"):
        published.check({'source': ' ', 'rows': []}, 'expected.json')


def test_comparison_is_scipys():
    study = temperatures(seeds=5)
    alone, spread = compared(study, ROW, {**ROW, 'sd': 0.01, 'n': 3})
    assert alone.arm == 'kd, temperature 4'
    assert alone.difference.p == pytest.approx(stats.ttest_1samp(ours(study), 0.9).pvalue)
    known = stats.ttest_ind_from_stats(alone.ours.mean, alone.ours.sd, 5, 0.9, 0.01, 3, equal_var=False)
    assert spread.difference.p == pytest.approx(known.pvalue)
    assert (alone.ours.n, alone.verdict) == (5, 'higher')


def test_the_epoch_is_the_papers():
    study = temperatures(seeds=3)
    (row,) = compared(study, {**ROW, 'checkpoint': 'best'})
    assert row.ours.mean == pytest.approx(sum(ours(study, 'best')) / 3)


def test_a_recalled_number_is_shown_and_never_judged():
    (row,) = compared(temperatures(seeds=5), {**ROW, 'certainty': 'recalled', 'value': 0.1})
    assert row.difference.mean > 0.7
    assert (row.difference.p, row.difference.ci95) == (None, None)
    assert row.verdict == 'shown, not judged'


def test_a_point_that_names_no_arm_or_several_is_not_judged():
    study = temperatures(seeds=2)
    none, several = compared(study, {**ROW, 'point': {'method': 'dkd'}}, {**ROW, 'point': {'method': 'kd'}})
    assert (none.verdict, none.arm, none.ours) == ('no arm matches', None, None)
    assert (several.verdict, several.difference) == ('8 arms match', None)


def test_numbers_match_as_they_are_shown():
    study = results([record('kd', 0, {'weight': '0.5'}), record('kd', 0, {'weight': '0.9'})], ['weight'])
    (row,) = compared(study, {**ROW, 'point': {'weight': 0.5}})
    assert row.arm == 'kd, weight 0.5'


def test_an_axis_that_does_not_concern_an_arm_does_not_match_it():
    (row,) = compared(temperatures(seeds=2), {**ROW, 'point': {'method': BASELINE, 'temperature': 4}})
    assert row.verdict == 'no arm matches'


def test_method_and_size_may_always_be_named():
    study = results([record('kd', seed, accuracy=0.8 + seed / 50) for seed in range(3)], [])
    (row,) = compared(study, {**ROW, 'point': {'method': 'kd', 'transfer_size': 250}})
    assert row.arm == 'kd'


def test_one_seed_cannot_be_tested():
    (row,) = compared(temperatures(seeds=1), ROW)
    assert (row.verdict, row.difference.p) == ('cannot be tested', None)
    assert row.difference.mean is not None
