"""What all terms share: knobs that move during training, and what is taken over from elsewhere."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.resolve import modules, public
from kdjax.techniques.attention import AttentionTransfer
from kdjax.techniques.base import Paper, Range, Schedule, Term, is_technique
from kdjax.techniques.exits import ExitTerm
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.layers import LayerTerm, LayerwiseTerm, ProjectedMaps
from kdjax.testing import world
from kdjax.train.objective import Objective
from kdjax.types import TermOut


@pytest.mark.parametrize(
    ('schedule', 'wanted'),
    [
        (Schedule('weight', 0.0, 1.0, 20), lambda step: min(step / 20, 1)),
        (Schedule('weight', 1.0, 0.25, 8), lambda step: 1 - 0.75 * min(step / 8, 1)),
        (Schedule('weight', 0.0, -1.0, 10, 'cosine'), lambda step: -(1 - np.cos(np.pi * min(step / 10, 1))) / 2),
        (Schedule('weight', 1.0, 0.0, 5, 'jump'), lambda step: float(step < 5)),
    ],
)
def test_a_schedule_multiplies_from_start_to_end(schedule, wanted):
    factors = [float(schedule.factor(jnp.int32(step))) for step in range(25)]
    np.testing.assert_allclose(factors, [wanted(step) for step in range(25)], atol=1e-6)


def test_the_loss_follows_the_schedules_of_weight_and_temperature():
    schedules = (Schedule('weight', 0.0, 1.0, 4), Schedule('temperature', 2.0, 1.0, 4))
    moving = Objective((('soft', SoftTargets(temperature=3.0, weight=0.8, schedules=schedules)),))
    for step in (0, 1, 3, 9):
        done = min(step / 4, 1)
        fixed = Objective((('soft', SoftTargets(temperature=3.0 * (2 - done), weight=0.8 * done)),))
        losses = [
            one.shares({'soft': {}}, {'soft': {}}, world.inputs(0), jax.tree.map(jnp.float32, one.knobs()),
                       step=jnp.int32(step), key=world.KEY).loss
            for one in (moving, fixed)
        ]  # fmt: skip
        np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize(
    ('schedules', 'message'),
    [
        ((('temprature', 0.0, 1.0, 5),), "unknown knob 'temprature' in the schedules of SoftTargets.*'temperature'"),
        ((('weight', 0.0, 1.0, 0),), 'a schedule of SoftTargets must last at least 1 step, got 0'),
        ((('weight', 0.0, 1.0, 5, 'sine'),), "unknown shape 'sine'.*'linear'"),
        ((('weight', 0.0, 1.0, 5), ('weight', 1.0, 0.0, 9)), 'two schedules for one knob'),
        ((('weight', 0.0, 1.0),), 'a schedule of SoftTargets is \\(knob, start, end, steps\\[, shape\\]\\), got'),
    ],
)
def test_a_wrong_schedule_is_answered_with_what_there_is(schedules, message):
    with pytest.raises(UsageError, match=message):
        SoftTargets(schedules=schedules)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heir(Term):
    """A term that takes over its only parameter from the term 'before'."""

    PAPER: ClassVar[Paper] = Paper('nobody', 'An heir for tests', 'nowhere', 2026)

    def init(self, key, inputs):
        return {'scale': jnp.zeros(())}, {}

    def adopt(self, params, earlier, teacher):
        if 'before' not in earlier:
            raise UsageError("needs what the term 'before' learned")
        return {'scale': earlier['before']['scale'] + teacher['params']['scale']}

    def __call__(self, params, memory, inputs, knobs, *, step, key):
        return TermOut(params['scale'] * jnp.ones(inputs.student.logits.shape[0]), memory, {})


def test_terms_take_over_what_was_learned_before_and_what_the_teacher_has():
    objective = Objective((('heir', Heir()), ('soft', SoftTargets())))
    params, _ = objective.init(world.KEY, world.inputs(0))
    scale = jnp.float32(2.0)
    adopted = objective.adopt(params, {'before': {'scale': scale}}, {'params': {'scale': 3 * scale}})
    assert adopted == {'heir': {'scale': 8.0}, 'soft': {}}
    with pytest.raises(UsageError, match="term 'heir': needs what the term 'before' learned"):
        objective.adopt(params, {}, {})


def test_a_simple_term_is_its_values():
    term, seen = SoftTargets(), world.inputs(0)
    memory = {'kept': jnp.ones(2)}
    out = term({}, memory, seen, term.knobs(), step=jnp.int32(0), key=world.KEY)
    assert out.memory is memory
    assert out.logs == {}
    np.testing.assert_array_equal(out.values, term.values(seen, term.knobs()))


def test_a_term_that_defines_no_values_says_so():
    class Empty(Term):
        PAPER = Heir.PAPER

    shares = Objective((('empty', Empty()),)).shares
    with pytest.raises(UsageError, match=r"term 'empty': Empty must define either values\(inputs, knobs\) or __call__"):
        shares({'empty': {}}, {'empty': {}}, world.inputs(0), {'empty': {'weight': 1.0}}, step=0, key=world.KEY)


@pytest.mark.parametrize(
    ('base', 'fields', 'said'),
    [
        (LayerwiseTerm, {'layers': ('map',)}, r'Empty must define distance\(student, teacher, inputs, knobs\)'),
        (ProjectedMaps, {'layer': 'map'}, r'Empty must define distance\(student, teacher, inputs, knobs\)'),
        (ExitTerm, {'layers': ('map',)}, r'Empty must define head\(inputs\)'),
    ],
)
def test_a_base_asks_for_what_it_leaves_open(base, fields, said):
    term, seen = type('Empty', (base,), {})(**fields), world.inputs(0)
    with pytest.raises(UsageError, match=said):
        term(term.init(world.KEY, seen)[0], {}, seen, term.knobs(), step=jnp.int32(0), key=world.KEY)


@pytest.mark.parametrize('base', [Term, Heir])
def test_values_that_a_call_would_hide_are_refused(base):
    """Both in one class, or values where a base has the call."""
    methods = {'values': lambda self, inputs, knobs: inputs.student.logits[:, 0]}
    if base is Term:
        methods['__call__'] = Heir.__call__
    with pytest.raises(UsageError, match='Both defines values, but its __call__ hides them'):
        type('Both', (base,), methods)


def test_what_cites_no_paper_is_a_base_of_terms_that_do():
    kinds = [kind for module in modules('kdjax.techniques') for kind in public(f'kdjax.techniques.{module}').values()]
    terms = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Term)]
    bases = [kind for kind in terms if not is_technique(kind)]
    assert {Term, LayerTerm, LayerwiseTerm} <= set(bases)
    for base in bases:
        assert any(is_technique(kind) and base in kind.__mro__ for kind in terms), f'{base.__name__} has no paper'


@pytest.mark.parametrize(
    ('bounds', 'inside', 'outside', 'said'),
    [
        ({'minimum': 0.0}, (0, 1e9), (-0.1,), '>= 0'),
        ({'above': 0.0}, (0.1, 1e9), (0,), '> 0'),
        ({'minimum': 0.0, 'below': 1.0}, (0, 0.9), (-0.1, 1), 'in [0, 1)'),
        ({'above': 0.0, 'maximum': 1.0}, (0.1, 1), (0, 1.1), 'in (0, 1]'),
        ({}, (-1e9, 1e9), (), 'finite'),
    ],
)
def test_a_range_says_what_is_in_it(bounds, inside, outside, said):
    allowed = Range(**bounds)
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in (*outside, math.nan, math.inf, -math.inf))
    assert str(allowed) == said


@pytest.mark.parametrize('bad', [1.5, True, '2', 0])
def test_a_number_of_the_structure_is_an_integer_where_its_default_is(bad):
    with pytest.raises(UsageError, match=f'power of AttentionTransfer must be (an integer|>= 1), got {bad!r}'):
        AttentionTransfer(power=bad)
    assert AttentionTransfer(power=2) != AttentionTransfer(power=3)  # two programs, as two knobs are not


def test_a_term_may_add_to_the_values_of_its_base():
    class Logged(SoftTargets):
        def __call__(self, params, memory, inputs, knobs, *, step, key):
            out = super().__call__(params, memory, inputs, knobs, step=step, key=key)
            return out._replace(logs={'largest': jnp.max(out.values)})

    seen, knobs = world.inputs(0), SoftTargets().knobs()
    out = Logged()({}, {}, seen, knobs, step=jnp.int32(0), key=world.KEY)
    assert out.logs['largest'] == jnp.max(SoftTargets().values(seen, knobs))
