"""The language of sweeps: axes, products, samples; and rows applied to a config."""

import collections
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import base
from kdjax.errors import UsageError
from kdjax.study.sweep import rows
from kdjax.study.sweep.rows import Range


def changes(listed):
    return [dict(row.changes) for row in listed]


def test_a_product_has_every_combination_the_last_axis_fastest():
    found = rows.product(rows.axis('a', 1, 2), rows.axis('b.c', 3, 4))
    assert changes(found) == [{'a': 1, 'b.c': 3}, {'a': 1, 'b.c': 4}, {'a': 2, 'b.c': 3}, {'a': 2, 'b.c': 4}]
    assert found[1].point == {'a': 1, 'c': 4}


def test_zipped_axes_go_side_by_side_and_chained_ones_one_after_the_other():
    left, right = rows.axis('a', 1, 2), rows.axis('b', 3, 4)
    assert changes(rows.zipped(left, right)) == [{'a': 1, 'b': 3}, {'a': 2, 'b': 4}]
    assert changes(rows.chained(left, right)) == [{'a': 1}, {'a': 2}, {'b': 3}, {'b': 4}]


def test_a_choice_changes_several_fields_under_one_name():
    found = rows.choice('recipe', {'short': {'steps': 10, 'rate': 0.1}, 'long': {'steps': 20}})
    assert found[0] == rows.Row({'recipe': 'short'}, {'steps': 10, 'rate': 0.1})
    assert found[1].point == {'recipe': 'long'}


@pytest.mark.parametrize(
    ('value', 'said'),
    [
        ((8,), 8),
        ((256, 128), '256x128'),
        ('x', 'x'),
        (0.5, 0.5),
        (True, 'True'),
        ({'kind': 'a.b', 'p': 2}, 'kind a.b, p 2'),
    ],
)
def test_a_value_is_shown_as_a_number_or_a_text(value, said):
    assert rows.axis('field', value)[0].point == {'field': said}


WRONG = [
    (lambda: rows.axis('a'), "axis 'a' has no values"),
    (lambda: rows.choice('a', {}), "choice 'a' has no options"),
    (lambda: rows.zipped(rows.axis('a', 1), rows.axis('b', 1, 2)), 'must have one length, got 1, 2'),
    (lambda: rows.product(rows.axis('a', 1), rows.axis('x.a', 2)), 'axes a are given twice'),
    (lambda: rows.sampled(0, {'a': Range(0, 1)}), 'count of sampled must be >= 1, got 0'),
    (lambda: rows.sampled(2, {'a': Range(1, 1)}), "range of 'a' must have low < high"),
    (lambda: rows.sampled(2, {'a': Range(0, 1, log=True)}), 'and low > 0 for log'),
    (lambda: rows.sampled(2, {'a': Range(0, 1)}, sampler='sobel'), "unknown sampler 'sobel'; there is: 'sobol'"),
]


@pytest.mark.parametrize(('make', 'message'), WRONG)
def test_what_is_no_axis_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize('sampler', rows.SAMPLERS)
@settings(deadline=None)  # the first draw imports scipy's sequences
@given(st.integers(1, 40), st.integers(0, 5))
def test_samples_lie_in_their_ranges_and_are_a_function_of_the_seed(sampler, count, seed):
    ranges = {'t': Range(1, 20, log=True), 'w': Range(-1, 1), 'n': Range(2, 9, whole=True)}
    found = rows.sampled(count, ranges, seed=seed, sampler=sampler)
    assert len(found) == count
    assert found == rows.sampled(count, ranges, seed=seed, sampler=sampler)
    for row in found:
        assert all(ranges[name].low <= value <= ranges[name].high for name, value in row.changes.items())
        assert isinstance(row.changes['n'], int)


def test_sobol_points_are_balanced_in_every_coordinate_by_order_of_magnitude():
    found = rows.sampled(64, {'rate': Range(1e-4, 1, log=True), 'weight': Range(0, 1)})
    decades = collections.Counter(math.floor(math.log10(row.changes['rate'])) for row in found)
    assert decades == {-4: 16, -3: 16, -2: 16, -1: 16}
    assert sum(row.changes['weight'] < 0.25 for row in found) == 16


def test_random_samples_differ_by_seed():
    ranges = {'t': Range(1, 20)}
    assert rows.sampled(4, ranges, seed=0, sampler='random') != rows.sampled(4, ranges, seed=1, sampler='random')


def applied(**fields):
    return rows.applied(base.get_config(), {name.replace('__', '.'): value for name, value in fields.items()})


def test_one_number_for_a_knob_is_its_one_value_and_the_base_stays_as_it_is():
    config = base.get_config()
    new = rows.applied(config, {'terms.soft.temperature': 8, 'fits.combined.weights.soft': 0.5})
    assert new.terms.soft.temperature == 8.0
    assert isinstance(new.terms.soft.temperature, float)
    assert new.fits.combined.weights.soft == 0.5
    assert config.terms.soft.temperature == 4.0
    assert new.is_locked


def test_a_star_stands_for_every_entry_that_has_the_field():
    config = base.config()
    config.terms.other = config.terms.soft.copy_and_resolve_references()
    new = rows.applied(config.lock(), {'terms.*.temperature': 3, 'fits.*.steps': 7})
    assert new.terms.soft.temperature == new.terms.other.temperature == 3.0
    assert 'temperature' not in new.terms.hard
    assert {fit.steps for fit in new.fits.values()} == {7}


def test_a_whole_term_can_be_put_in_the_place_of_another():
    new = rows.applied(base.get_config(), {'terms.soft': {'kind': 'logits.LogitMatching'}, 'method': 'x', 'seed': 3})
    assert new.terms.soft.to_dict() == {'kind': 'logits.LogitMatching'}
    assert new.seed == 0


def test_a_row_may_name_what_the_user_names():
    new = rows.applied(base.get_config(), {'fits.combined.weights.more': 2.0, 'student.args.dropout': 0.1})
    assert new.fits.combined.weights.more == 2.0
    assert new.student.args.dropout == 0.1


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('terms.sofd.temperature', 1, "unknown config field 'sofd' in 'terms.sofd.temperature'; there is: 'soft'"),
        ('run.chunks', 1, "unknown config field 'chunks' in 'run.chunks'; there is: 'chunk'"),
        ('terms.*.temprature', 1, "no field of the config is like 'terms"),
        ('run.chunk', 'many', "run.chunk must be of type int, got 'many'"),
        ('seeds.count', 1, "unknown config field 'seeds' in 'seeds.count'"),
    ],
)
def test_a_field_that_does_not_exist_or_a_value_of_another_kind_is_refused(field, value, message):
    with pytest.raises(UsageError, match=message.replace('*', r'\*')):
        rows.applied(base.get_config(), {field: value})
