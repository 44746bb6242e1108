"""Terms in a training loop of one's own: three calls, under every transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rotation

import kdjax
from kdjax.errors import UsageError
from kdjax.terms import (
    ContrastiveRepresentation,
    CrossEntropy,
    DistanceRelations,
    FocalGlobal,
    Hint,
    MaskedGeneration,
    ReusedClassifier,
    SoftTargets,
)
from kdjax.testing import world

TERMS = {
    'kd': SoftTargets(temperature=2.0),
    'rkd': DistanceRelations(layer='penult'),
    'crd': ContrastiveRepresentation(layer='penult', examples=200, negatives=7, width=5),
}
WEIGHTS = {'kd': 0.9, 'crd': 0.5}
SEEN = world.drawn(0, 8)
COLUMNS = {'ids': SEEN.batch['id'], 'labels': SEEN.batch['labels']}
KEY = jax.random.key(5)


@functools.cache
def parts():
    """The sum, and what it learns and remembers."""
    kd = kdjax.objective(TERMS, WEIGHTS)
    return kd, *jax.jit(kd.init)(KEY, SEEN.student, SEEN.teacher, **COLUMNS)


def asked(kd, params, memory, inputs, columns, knobs=None, axis=None):
    """Loss, what is remembered, logs and gradients of parameters, student and teacher."""

    student, teacher = inputs

    def loss(params, student, logits):
        return kd(params, memory, student, teacher._replace(logits=logits), step=3, knobs=knobs, axis=axis, **columns)

    found = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(params, student, teacher.logits)
    (total, (after, logs)), gradients = found
    return total, after, logs, gradients


compiled = jax.jit(asked, static_argnums=0, static_argnames='axis')


def test_a_loop_of_ones_own_has_the_loss_of_the_training_step():
    kd, params, memory = parts()
    total, after, logs, (own, student, teacher) = compiled(kd, params, memory, SEEN[:2], COLUMNS)
    batch = {'mask': np.ones(8, np.float32), 'view': np.zeros(8, np.int32), **SEEN.batch}
    key = jax.random.fold_in(jax.random.key(0), 3)

    @jax.jit
    def shares(params, memory, inputs):
        return kd.objective.shares(params, memory, inputs, kd.knobs, step=jnp.int32(3), key=key)

    want = shares(params, memory, SEEN._replace(batch=batch))
    np.testing.assert_allclose(total, want.loss, rtol=1e-6)
    np.testing.assert_allclose(total, sum(WEIGHTS.get(name, 1) * logs[f'term/{name}'] for name in TERMS), rtol=1e-6)
    world.assert_close(after, dict(want.memory))
    assert logs['loss'] == total
    assert min(map(world.size, (own, student))) > 0
    assert world.size(teacher) == 0
    assert set(params) == set(memory) == set(TERMS)


@pytest.mark.parametrize('wrap', rotation.params([('pmap',), ('shard_map',)], ['devices'] * 2))
def test_shares_of_devices_add_up(wrap):
    kd, params, memory = parts()
    whole = compiled(kd, params, memory, SEEN[:2], COLUMNS)
    spread = jax.tree.map(lambda leaf: leaf.reshape(4, 2, *leaf.shape[1:]), (SEEN[:2], COLUMNS))

    def share(params, memory, inputs, columns):
        total, after, logs, (own, student, _) = asked(kd, params, memory, inputs, columns, axis='data')
        return *jax.lax.psum((total, own), 'data'), after, logs, student

    if wrap == 'pmap':
        step = jax.pmap(share, axis_name='data', in_axes=(None, None, 0, 0), out_axes=(None, None, None, None, 0))
        found = step(params, memory, *spread)
    else:
        mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:4]), ('data',))
        data, none = jax.P('data'), jax.P()
        step = jax.shard_map(share, mesh=mesh, in_specs=(none, none, data, data), check_vma=False,
                             out_specs=(none, none, none, none, data))  # fmt: skip
        found = jax.jit(step)(params, memory, SEEN[:2], COLUMNS)
    total, own, after, logs, student = found
    student = jax.tree.map(lambda leaf, want: leaf.reshape(want.shape), student, whole[3][1])
    world.assert_close((total, own, after, logs, student), (whole[0], whole[3][0], *whole[1:3], whole[3][1]))


def test_numbers_are_traced_and_a_grid_of_them_is_one_program():
    kd, params, memory = parts()
    temperatures = jnp.asarray([1.0, 2.0, 8.0])

    def at(temperature):
        return asked(kd, params, memory, SEEN[:2], COLUMNS, knobs={'kd': {'temperature': temperature}})[2]['term/kd']

    found = jax.jit(jax.vmap(at))(temperatures)
    want = [kdjax.losses.soft_targets(*(side.logits for side in SEEN[:2]), float(t)).mean() for t in temperatures]
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_sums_that_differ_in_a_number_are_two_programs():
    """Terms alone are equal where they differ in numbers: a static argument must not be."""
    one, same, other = (kdjax.objective({'kd': SoftTargets(temperature=t)}) for t in (1.0, 1.0, 2.0))
    assert len({one, same, other}) == 2
    nothing = {'kd': {}}
    step = jax.jit(lambda kd, *answers: kd(nothing, nothing, *answers, step=0)[0], static_argnums=0)
    logits = [side.logits for side in SEEN[:2]]
    assert step(one, *logits) == step(same, *logits) != step(other, *logits)


def test_what_a_network_says_may_be_logits_a_pair_or_outputs():
    kd = kdjax.objective({'hint': Hint(layer='penult', regressor=False), 'ce': CrossEntropy()}, {'hint': 2.0})
    pair = SEEN.student.logits, {'penult': SEEN.student.features['penult']}
    features = kdjax.Outputs(None, {'penult': SEEN.student.features['penult'] + 1})
    params, memory = kd.init(KEY, pair, features, labels=COLUMNS['labels'])
    _, (_, logs) = kd(params, memory, kdjax.Outputs(*pair), features, labels=COLUMNS['labels'], step=0)
    np.testing.assert_allclose(logs['term/hint'], 8, rtol=1e-5)  # half of sixteen ones
    alone = kdjax.objective({'ce': CrossEntropy()})
    mask = np.arange(8) < 3
    loss, _ = alone({'ce': {}}, {'ce': {}}, pair[0], labels=COLUMNS['labels'], step=0, mask=mask)
    np.testing.assert_allclose(
        loss, kdjax.losses.cross_entropy(pair[0][mask], COLUMNS['labels'][mask]).mean(), rtol=1e-5
    )


def test_weights_of_the_teacher_are_taken_over_where_a_term_asks_for_them():
    kd = kdjax.objective({'reused': ReusedClassifier(layer='map', classifier='head', factor=2)})
    kernel = np.random.default_rng(0).normal(size=(6, 10)).astype(np.float32)
    teacher = {'params': {'head': {'kernel': kernel, 'bias': np.zeros(10, np.float32)}}}
    params, _ = jax.jit(kd.init)(KEY, SEEN.student, SEEN.teacher, teacher_variables=teacher)
    assert any(np.array_equal(leaf, kernel) for leaf in jax.tree.leaves(params))
    with pytest.raises(UsageError, match="term 'reused': "):
        jax.eval_shape(kd.init, KEY, SEEN.student, SEEN.teacher)


def without(column):
    return {name: leaf for name, leaf in COLUMNS.items() if name != column}


MISTAKES = {
    "term 'crd' reads batch\\['id'\\], the ids of the examples, int32 \\(B,\\), .* and it is not given": lambda: (
        kdjax.objective(TERMS).init(KEY, *SEEN[:2], **without('ids'))
    ),
    "term 'crd' reads labels, and the data have none": lambda: kdjax.objective(TERMS).init(
        KEY, *SEEN[:2], **without('labels')
    ),
    "term 'focal': FocalGlobal needs batch\\['boxes'\\]": lambda: kdjax.objective(
        {'focal': FocalGlobal(layer='map')}
    ).init(KEY, *SEEN[:2]),
    "unknown tap 'penalt' of the student, read by term 'rkd'; there is: 'penult 16'": lambda: kdjax.objective(
        {'rkd': DistanceRelations(layer='penalt')}
    )({'rkd': {}}, {'rkd': {}}, *SEEN[:2], step=0),
    "unknown term 'kdd' in weights; there is: 'kd'": lambda: kdjax.objective(TERMS, {'kdd': 1.0}),
    "unknown knob 'temp' of term 'kd'; there is: 'temperature'": lambda: kdjax.objective({'kd': SoftTargets()})(
        {'kd': {}}, {'kd': {}}, *SEEN[:2], step=0, knobs={'kd': {'temp': 3.0}}
    ),
    'weight of SoftTargets must be >= 0, got -1': lambda: kdjax.objective({'kd': SoftTargets()}, {'kd': -1.0}),
    "term 'kd' must be a term, such as SoftTargets\\(\\), got <class": lambda: kdjax.objective({'kd': SoftTargets}),
    "term 'mgd' reads batch\\['id'\\]": lambda: jax.eval_shape(_masked, {'mgd': {}}),
}


def _masked(_):
    kd = kdjax.objective({'mgd': MaskedGeneration(layer='map')})
    params, memory = kd.init(KEY, *SEEN[:2])
    return kd(params, memory, *SEEN[:2], step=0)


@pytest.mark.parametrize('said', MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_compiled(said):
    with pytest.raises(UsageError, match=said) as caught:
        jax.eval_shape(MISTAKES[said])
    assert '\n' not in str(caught.value)
