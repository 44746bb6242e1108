"""Taps with padding of their own: what is real of an encoder's tokens, or of those that attention looks at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rotation

from kdjax.errors import UsageError
from kdjax.techniques.byot import SelfDistillation
from kdjax.techniques.fsp import Flow
from kdjax.techniques.minilm import AttentionDistributions, ValueRelations
from kdjax.techniques.minilmv2 import SelfAttentionRelations
from kdjax.techniques.nst import TokenSelectivity
from kdjax.techniques.ofa import OneForAll
from kdjax.techniques.pkd_bert import PatientTeacher
from kdjax.techniques.textbrewer import AttentionMatch
from kdjax.techniques.tinybert import AttentionScores, HiddenStates
from kdjax.techniques.vitkd import Mimicking
from kdjax.testing import world
from kdjax.train.objective import Objective
from kdjax.types import Outputs, TermInputs

ATTENTION = ('attention1', 'attention2')
TOKENS = {*ATTENTION, 'embedding', 'hidden1', 'hidden2', 'query', 'value'}
OF_TOKENS = {name: term for name, term in world.specimens().items() if TOKENS & {*term.taps().teacher}}
SCORES = {
    'tinybert': AttentionScores(layers=('cross',)),
    'minilm': AttentionDistributions(layer='cross'),
    **{f'textbrewer {form}': AttentionMatch(layers=('cross',), form=form) for form in AttentionMatch.FORMS},
}
STATES = {
    'hidden': HiddenStates(layers=('states',), projection='none'),
    'own': HiddenStates(layers=('states',), projection='own'),
    'class token': PatientTeacher(layers=('states',)),
    'patches': Mimicking(layers=('states',)),
    'values': ValueRelations(layer='states', heads=2),
    'relations': SelfAttentionRelations(query='states', key='states', value='states', heads=2),
    'selectivity': TokenSelectivity(layers=('states', 'states')),
    'flow': Flow(layers=('states', 'states')),
}
ROWS, COLUMNS = 4, 6


def lengths_mask(lengths, longest):
    return (np.arange(longest) < np.asarray(lengths)[:, None]).astype(np.float32)


def said(inputs, masks):
    """The inputs, of networks that say this of their taps."""
    return inputs._replace(**{side: getattr(inputs, side)._replace(masks=masks) for side in ('student', 'teacher')})


def values(term, inputs):
    """Unreduced, and the loss."""
    objective = Objective((('term', term),))
    params, memory = objective.init(world.KEY, inputs)
    knobs = jax.tree.map(jnp.float32, objective.knobs())

    @jax.jit
    def ask(params, memory, inputs):
        asked, heard = world.overheard(objective)
        shares = asked.shares(params, memory, inputs, knobs, step=jnp.int32(0), key=world.KEY)
        return heard['term'], shares.loss

    return ask(params, memory, inputs)


def test_there_are_terms_of_tokens():
    assert len(OF_TOKENS) >= 18


@pytest.mark.parametrize('name', rotation.params([(name,) for name in OF_TOKENS], map(world.kind, OF_TOKENS)))
def test_masks_of_taps_that_are_those_of_the_batch_change_nothing(name):
    inputs = world.padded()
    mask = inputs.batch['token_mask']
    masks = {tap: (mask, mask) if tap in ATTENTION else (mask,) for tap in inputs.student.features
             if inputs.student.features[tap].shape[1:2] == (world.TOKENS,) or tap in ATTENTION}  # fmt: skip
    blind = said(inputs, masks)._replace(batch={k: v for k, v in inputs.batch.items() if k != 'token_mask'})
    real = np.asarray(world.MASK, bool)
    wanted, found = (values(OF_TOKENS[name], seen) for seen in (inputs, blind))
    world.assert_close(found[1], wanted[1])
    world.assert_close(np.asarray(found[0])[real], np.asarray(wanted[0])[real])


def cross(seed=0, rows=(4, 2, 3), columns=(3, 6, 1), wide=(ROWS, COLUMNS), dirt=None):
    """A decoder of `rows` tokens, which answers for each and attends to `columns` of an encoder."""
    rng = np.random.default_rng(seed)
    masks = lengths_mask(rows, wide[0]), lengths_mask(columns, wide[1])

    def side(width):
        attention = rng.normal(size=(len(rows), 2, ROWS, COLUMNS)).astype(np.float32)[:, :, : wide[0], : wide[1]]
        states = rng.normal(size=(len(rows), COLUMNS, width)).astype(np.float32)[:, : wide[1]]
        if dirt is not None:
            attention = np.where(masks[0][:, None, :, None] * masks[1][:, None, None] > 0, attention, np.float32(dirt))
            states = np.where(masks[1][..., None] > 0, states, np.float32(dirt))
        logits = rng.normal(size=(len(rows), ROWS, 3)).astype(np.float32)[:, : wide[0]]
        return Outputs(logits, {'cross': attention, 'states': states}, {'cross': masks, 'states': masks[1:]})

    batch = {
        'mask': masks[0],
        'id': np.arange(len(rows), dtype=np.int32),
        'view': np.zeros(len(rows), np.int32),
    }
    return TermInputs(side(8), side(8), batch)


def first_of(inputs):
    """The first example without its padding: it answers for 4 tokens and attends to 3."""

    def cut(side):
        features = {'cross': side.features['cross'][:1, :, :4, :3], 'states': side.features['states'][:1, :3]}
        masks = np.ones((1, 4), np.float32), np.ones((1, 3), np.float32)
        return Outputs(side.logits[:1, :4], features, {'cross': masks, 'states': masks[1:]})

    return TermInputs(*map(cut, inputs[:2]), {name: leaf[:1] for name, leaf in inputs.batch.items()})


@pytest.mark.parametrize('name', [*SCORES, *STATES])
def test_padding_of_rows_and_of_columns_changes_nothing(name):
    term = {**SCORES, **STATES}[name]
    clean, dirty = (values(term, cross(dirt=dirt)) for dirt in (0.0, 50.0))
    world.assert_close(dirty, clean)
    if term.scope == 'example':  # one value per example, that of the example by itself, without its padding
        assert clean[0].shape == (3,)
        world.assert_close(values(term, first_of(cross()))[0], clean[0][:1])


@pytest.mark.parametrize('name', STATES)
def test_an_encoder_beside_a_decoder_is_seen_as_an_encoder_alone(name):
    inputs = cross()
    alone = said(inputs, {})._replace(
        batch={**inputs.batch, 'mask': np.ones(3, np.float32), 'token_mask': lengths_mask((3, 6, 1), COLUMNS)}
    )
    world.assert_close(values(STATES[name], inputs), values(STATES[name], alone))


def test_a_teacher_that_says_nothing_goes_by_the_student():
    inputs = cross()
    cached = inputs._replace(teacher=inputs.teacher._replace(masks={}))
    for term in (*SCORES.values(), *STATES.values()):
        world.assert_close(values(term, cached), values(term, inputs))


def test_masks_of_two_shapes_are_refused():
    inputs = cross()
    other = inputs._replace(teacher=inputs.teacher._replace(masks={'cross': (np.ones((3, 5)), np.ones((3, 6)))}))
    with pytest.raises(UsageError, match=r"masks of .*'cross'.* are of different shapes: .*\(3, 5\)"):
        values(SCORES['tinybert'], other)


def test_layers_that_say_and_layers_that_do_not_are_not_added():
    """Per example the ones, per token the others."""
    inputs = cross(columns=(3, 4, 1), wide=(4, 4))
    features = {'states': np.ones((3, 4, 8), np.float32), 'decoder': np.ones((3, 4, 8), np.float32)}
    both = {side: getattr(inputs, side)._replace(features=features) for side in ('student', 'teacher')}
    with pytest.raises(UsageError, match=r'values of \[\(3,\), \(3, 4\)\] cannot be added'):
        values(HiddenStates(layers=('states', 'decoder'), projection='none'), inputs._replace(**both))


@pytest.mark.parametrize('own', [False, True])
@pytest.mark.parametrize('term', [OneForAll(layers=('hidden1',)), SelfDistillation(layers=('hidden1',))])
def test_exits_do_not_look_at_padding(term, own):
    inputs = world.drawn(3)
    mask = inputs.batch['token_mask']
    if own:
        student = inputs.student._replace(masks={'hidden1': (mask,)})
        inputs = inputs._replace(student=student, batch={**inputs.batch, 'token_mask': np.ones_like(mask)})
    found = []
    for dirt in (0.0, 50.0):
        hidden = np.where(mask[..., None] > 0, inputs.student.features['hidden1'], np.float32(dirt))
        student = inputs.student._replace(features={**inputs.student.features, 'hidden1': hidden})
        found.append(values(term, inputs._replace(student=student)))
    world.assert_close(*found)
    whole = inputs._replace(
        student=student._replace(masks={}), batch={**inputs.batch, 'token_mask': np.ones_like(mask)}
    )
    assert world.size(found[1][0] - values(term, whole)[0]) > 0.01
