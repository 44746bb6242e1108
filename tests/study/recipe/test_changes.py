"""Chains of fits that change their student: what was done stays, in grids, with averages, and again after a stop."""

import jax
import numpy as np
import pytest
import rotation
from compressed import chain, config, put, variables, zeros

import kdjax
from kdjax import trees
from kdjax.compress import shared, sizes
from kdjax.compress.quantized import ROUNDING
from kdjax.data import digits
from kdjax.errors import UsageError
from kdjax.study import run
from kdjax.study.recipe import acceptance, changed, changes, plan
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep import expand, rows
from kdjax.train import storage, teachers
from kdjax.types import State

# A whole run, which all of its tests look at.
every_other_day = pytest.mark.rotating(0, 2)


def traced(config):
    """What every fit of a config costs, without training."""
    recipe = resolve(config)
    return plan.check_shapes(recipe, Datasets()(recipe.data))


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A run in which zeros and bits are candidates, that rounds what it pruned, and rounds without training."""
    workdir = tmp_path_factory.mktemp('changes')
    methods = {'P, Q': ('baseline', 'prune', 'qat'), 'PTQ': ('baseline', 'ptq'), 'P, S': ('baseline', 'prune', 'share')}
    search = {'fits.prune.sparsity': (0.5, 0.8), 'fits.qat.bits': (3.0, 8.0)}
    made = config(methods, search, fits__prune__optim__ema=0.8, accept__max_kilobytes=0.5, accept__accuracy_drop=0.5)
    met = run.run(made, workdir, 'test')
    return workdir, met


@every_other_day
def test_zeros_are_as_many_as_asked_for_in_every_cell_and_stay_through_the_fits_after(finished):
    workdir, _ = finished
    pruned, result = variables(workdir, 'baseline+prune')
    for cell, described in enumerate(result['cells']):
        count = sum(int(layer[cell].sum()) for layer in zeros(pruned))
        assert count == round(described['candidate']['sparsity'] * sum(layer[cell].size for layer in zeros(pruned)))
    chosen = [cell for cell, described in enumerate(result['cells'])
              if described['candidate'] == result['chosen']['50']]  # fmt: skip
    rounded, later = variables(workdir, 'baseline+prune+qat')
    for before, after in zip(zeros(pruned), zeros(rounded), strict=True):
        for cell, described in enumerate(later['cells']):
            np.testing.assert_array_equal(after[cell], before[chosen[described['seed']]])


@every_other_day
def test_cells_have_their_own_bits_and_all_have_ranges(finished):
    workdir, _ = finished
    for name, which in (('baseline+prune+qat', 'variables'), ('baseline+prune+qat', 'best'), ('baseline+ptq', 'best')):
        rounded, result = variables(workdir, name, which)
        own = rounded['stats'][ROUNDING]
        wanted = [described['candidate'].get('bits', 8.0) for described in result['cells']]
        assert np.asarray(own['bits'])[:, 0].tolist() == wanted
        assert np.all(np.asarray(own['seen']) == 1)
        assert all(np.all(np.asarray(ends)[:, 1] > 0) for ends in own['ranges'].values())


@every_other_day
def test_rounding_without_training_leaves_weights_as_they_were_and_is_measured(finished):
    workdir, _ = finished
    dense, _ = variables(workdir, 'baseline')
    rounded, result = variables(workdir, 'baseline+ptq')
    assert trees.fingerprint(rounded['params']) == trees.fingerprint(dense['params'])
    assert [line['step'] for line in result['history']] == [0]


@every_other_day
def test_bars_of_size_and_loss_are_held_and_columns_tell_sizes_apart(finished):
    workdir, met = finished
    summary = storage.read_json(workdir / 'report' / 'summary.json')
    criteria = {one['name']: one for one in summary['acceptance']['attempts'][0]['criteria']}
    pruned, result = variables(workdir, 'baseline+prune+qat')
    kept = [cell for cell, one in enumerate(result['cells']) if one['candidate'] == result['chosen']['50']]
    largest = max(sizes.size_of(trees.take(pruned, cell)).deflated for cell in kept) / 1000
    assert criteria['max_kilobytes']['got'] == largest
    assert met == all(one['met'] for one in criteria.values())
    (folder,) = workdir.glob('evaluate-*')
    evaluated = storage.read_json(folder / storage.ARTIFACT)['result']
    costs = {name: cost['more'] for name, cost in (*evaluated['costs'].items(), ('hard labels', evaluated['cost']))}
    assert costs['hard labels']['stored_bytes'] == 4 * (64 * 8 + 8 + 8 * 10 + 10)
    assert costs['hard labels']['macs'] == costs['P, Q']['macs'] == 64 * 8 + 8 * 10
    assert costs['P, Q']['macs_effective'] < costs['P, Q']['macs']
    assert costs['PTQ']['bits_per_weight'] < 12 < 32 == costs['hard labels']['bits_per_weight']
    assert costs['P, Q']['bops'] < costs['hard labels']['bops']


@every_other_day
@pytest.mark.parametrize('method', ['PTQ', 'P, Q', 'P, S'])
def test_a_smaller_student_in_the_hand_is_the_one_that_was_measured(finished, tmp_path, method):
    workdir, _ = finished
    student, test = kdjax.load(workdir, method), digits.digits().splits['test']
    (place,) = workdir.glob('evaluate-*/predictions.npz')
    logits = student.logits(test.inputs)
    np.testing.assert_allclose(logits, np.load(place)[f'{method}/50'], atol=1e-5)
    np.testing.assert_array_equal(kdjax.load(student.save(tmp_path / 'out')).logits(test.inputs), logits)


@every_other_day
def test_shared_weights_are_few_numbers_and_the_zeros_of_before(finished):
    workdir, _ = finished
    pruned, _ = variables(workdir, 'baseline+prune')
    found, _ = variables(workdir, 'baseline+prune+share')
    before = trees.take(found, 0)
    small, whole = sizes.size_of(before), shared.plain(before)
    for layer in ('dense1', 'head'):
        kernel = np.asarray(whole['params'][layer]['kernel'])
        assert 1 < len(np.unique(kernel)) <= 8
        assert any(np.array_equal(kernel == 0, one == 0) for one in np.asarray(pruned['params'][layer]['kernel']))
    assert small.huffman < small.indexed < sizes.size_of(trees.take(pruned, 0)).indexed


def test_what_makes_another_network_is_said_for_those_who_build_it():
    said = changes.described(chain('baseline', 'narrow', 'factor', 'ptq'))
    assert said['args']['widths'] == [4]
    assert said['factors'] == [{'dense1/kernel': 3}]
    assert said['rounding'] == {'form': 'absmax', 'edges': 0, 'activations': False}
    assert changes.described(chain('baseline', 'prune')) == {}
    assert changes.described(chain('baseline', 'prune', 'share', 'after'))['shared'] == 3


def test_what_was_done_stays_whatever_comes_after():
    assert changes.optimiser(chain('baseline', 'prune', 'after'))['pruning'] == 'keep'
    assert 'pruning' not in changes.optimiser(chain('baseline', 'after'))
    late = chain('baseline', 'qat', 'narrow', 'factor', 'after')
    assert changes.rounding(late, 'data').axis == 'data'
    assert changes.network(late.student, late).args['widths'] == (4,)
    assert late.student.args['widths'] == (8,)


ORDERS = [('narrow', 'factor', 'qat'), ('qat', 'narrow', 'factor'), ('prune', 'qat', 'factor'),
          ('narrow', 'factor', 'share')]  # fmt: skip


@pytest.mark.parametrize('order', rotation.params([(order,) for order in ORDERS], 'oooo'))
def test_any_order_can_be_traced(order):
    made = config(
        {'method': ('baseline', *order)}, fits__factor__change={'kind': 'factor', 'ranks': {'dense1/kernel': 2}}
    )
    assert set(traced(made)) == {'teacher', 'baseline', *order}


@pytest.mark.parametrize('order', [('share', 'prune'), ('share', 'qat'), ('qat', 'share'), ('share', 'narrow')])
def test_codebooks_are_neither_pruned_nor_rounded_nor_narrowed(order):
    last = order[1] if order[0] == 'share' else order[0]
    with pytest.raises(UsageError, match=rf"fit 'share' shares weights, and fit '{last}' has change"):
        traced(config({'method': ('baseline', *order)}))


def test_addresses_of_fits_that_change_nothing_know_nothing_of_it():
    reads = chain('baseline', 'after').reads()
    assert not {'change', 'sparsity', 'bits', 'input_bits'} & set(reads['fit'])


def test_every_number_of_bits_and_every_share_is_a_cell_of_one_program():
    made = config({'P, Q': ('baseline', 'prune', 'qat')})
    shares, bits = rows.axis('fits.prune.sparsity', 0.5, 0.8, 0.9), rows.axis('fits.qat.bits', 2.0, 4.0, 8.0)
    sweep = expand.expand(made, rows.product(rows.axis('method', 'P, Q'), shares, bits))
    assert len(sweep.structures()) == 3  # of the baseline, of what prunes, of what rounds
    made = config({'R': ('baseline', 'factor')})
    ranks = rows.product(rows.axis('method', 'R'), rows.axis('fits.factor.rank', 1.0, 2.0, 3.0))
    assert len(expand.expand(made, ranks).structures()) == 2


@pytest.mark.parametrize(
    ('fit', 'field', 'value', 'why'),
    [
        ('qat', 'change', {'kind': 'quantise'}, "unknown change 'quantise' of a student; there is: 'quantize'"),
        ('qat', 'change', {'kind': 'quantize', 'bits': 4}, "unknown argument 'bits' of change 'quantize'"),
        ('qat', 'change', {'kind': 'quantize', 'form': 'max'}, "unknown form 'max' of rounding"),
        ('narrow', 'change', {'kind': 'narrow'}, "change 'narrow': missing a required argument: 'keep'"),
        ('narrow', 'change', {'kind': 'narrow', 'keep': 50}, r'must be in \(0, 1\], got 50'),
        ('narrow', 'change', {'kind': 'narrow', 'keep': 0.5, 'score': 'l1'}, "unknown score 'l1' of change narrow"),
        ('narrow', 'change', {'kind': 'narrow', 'keep': 0.5, 'batches': 3}, 'of, >= 1, or 0 for 10; got 3 and score'),
        ('qat', 'bits', 1.0, 'bits must be whole numbers from 2 on'),
        ('qat', 'bits', 4.5, 'bits must be whole numbers from 2 on'),
        ('after', 'bits', 4.0, "bits are of a fit that rounds: set change to {'kind': 'quantize'}"),
        ('after', 'sparsity', 0.5, 'sparsity is of a fit that prunes: set optim.pruning'),
        ('prune', 'sparsity', 1.0, r'sparsity must be in \[0, 1\), got'),
        ('after', 'steps', 0, 'steps must be >= 1, got 0; a fit of 0 steps is one that changes its student'),
        ('prune', 'optim.pruning', 'globally', "pruning must be 'layer', 'global', 'keep'"),
        ('prune', 'optim.regrow', 0.3, "regrow is of pruning 'layer'"),
        ('factor', 'rank', 4.0, 'rank must be a whole number from 1 to 3'),
        ('after', 'rank', 2.0, 'rank is of a fit that makes factors'),
        ('baseline', 'change', {'kind': 'factor', 'ranks': {'dense1/kernel': 9}}, 'must be from 1 to 8, got 9'),
    ],
)
def test_what_cannot_be_done_to_a_student_is_an_error(fit, field, value, why):
    made = config({'method': tuple(dict.fromkeys(('baseline', fit)))})
    with made.unlocked(), made.ignore_type():
        put(made.fits[fit], field, value)
    with pytest.raises(UsageError, match=why):
        traced(made)


def test_what_comes_in_the_wrong_order_or_would_not_be_done_is_an_error():
    with pytest.raises(UsageError, match='narrow before you factor'):
        traced(config({'method': ('baseline', 'factor', 'narrow')}))
    with pytest.raises(UsageError, match=r'teacher\.weights teach as they are'):
        resolve(config({'method': ('after',)}, teacher__weights=__file__, teacher__fit__change={'kind': 'quantize'}))


def test_the_first_fit_has_no_student_before():
    made = config({'method': ('qat',)}, fits__qat__teacher='before')
    recipe = resolve(made)
    with pytest.raises(
        UsageError, match="'before' is the student of the fit before, and this is the first of its method"
    ):
        plan.check_shapes(recipe, Datasets()(recipe.data))


@pytest.mark.parametrize(
    ('fits', 'why'),
    [
        (('pqk',), "and fit 'pqk' of its method, where that begins, has no fit before"),
        (('prune', 'pqk'), "and fit 'prune' of its method, where that begins, has no fit before"),
        (('baseline', 'prune', 'narrow', 'pqk'), "weights of before fit 'narrow', which makes others"),
        (('baseline', 'own'), 'it would be its own teacher'),
    ],
)
def test_a_dense_student_teaches_where_there_is_one(fits, why):
    with pytest.raises(UsageError, match=why):
        changes.check_dense(chain(*fits))


def test_the_student_that_teaches_has_the_weights_that_are_gone_as_they_last_were():
    def students(*weights):
        kernels, own = np.array(weights, np.float32)[:, None], {'bits': np.zeros((2, 2), np.float32)}
        return {'params': {'head': {'kernel': kernels, 'bias': kernels[:, 0] * 0}}, 'stats': {ROUNDING: own}}

    starts = [students([1, 2, 3], [4, 5, 6]), students([7, 0, 8], [0, 9, 0]), students([0, 0, 1], [0, 2, 0])]
    dense = changed.dense(starts)
    np.testing.assert_array_equal(dense['params']['head']['kernel'][:, 0], [[7, 2, 1], [4, 2, 6]])
    assert not dense['stats']
    first = jax.tree.map(lambda leaf: leaf[0], dense)
    live = {'head': {'kernel': np.array([[0, 0, 5]], np.float32), 'bias': np.zeros(3, np.float32)}}
    state = State(0, {'student': {**live, ROUNDING: {}}, 'terms': {}}, {}, {}, {})
    taught = teachers.dense(state, None, {teachers.START: first})
    np.testing.assert_array_equal(taught['params']['head']['kernel'], [[7, 2, 5]])
    assert changes.dense_since(chain('baseline', 'prune', 'pqk')) == 2
    assert changes.dense_since(chain('baseline', 'after', 'pqk')) == 1


def test_retries_change_what_makes_a_student_smaller():
    made = config({'P, Q': ('baseline', 'prune', 'qat')})
    assert acceptance.retried(made, 'sparsity', 0.7).fits.prune.sparsity == 0.7
    assert acceptance.retried(made, 'bits', 6.0).fits.qat.bits == 6.0
    with pytest.raises(UsageError, match=r"retry\.bits is of a fit that rounds, and method 'P' has none"):
        acceptance.retried(config({'P': ('baseline', 'prune')}), 'bits', 6.0)
