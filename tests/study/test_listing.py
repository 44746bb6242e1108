"""The list of techniques: all are there once, what it says of them is so, and filters choose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.sweeps import presets as sweep
from kdjax.errors import UsageError
from kdjax.resolve import modules
from kdjax.study import listing
from kdjax.study.report import technique_list
from kdjax.techniques import base
from kdjax.types import Outputs, TermInputs

ALL = listing.entries()


def lines(**flags):
    """Lines of the list by technique."""
    text = listing.listing(listing.selected(**flags))
    return {line.split()[0]: line for line in text.splitlines() if line.startswith('  ') and '.' in line.split()[0]}


def kinds(**flags):
    return {one.kind for one in listing.selected(**flags)}


def test_every_technique_has_one_line_in_one_group():
    assert set(lines()) == {technique.kind for technique in technique_list.techniques()}
    assert all(one.about.endswith('.') for one in ALL)
    assert {one.reads for one in ALL} == set(listing.GROUPS)


def test_a_line_says_what_a_technique_costs_whether_it_reads_labels_and_what_it_is_about():
    line = lines()['dkd.DecoupledTargets']
    cost = listing.costs()['terms']['dkd.DecoupledTargets']
    assert line.split()[1:4] == [f'{cost["mflop"]:.2f}', '–', 'labels']
    assert 'Decoupled distillation: how sure' in line
    assert lines()['fitnets.Hint'].split()[2] == '288'


def test_lines_keep_to_the_width_of_a_terminal():
    text = listing.listing(ALL, 80).split('\n\n')
    assert max(map(len, '\n'.join(text[:-1]).splitlines())) == 80
    assert 'SoftTargets' in text[0]


def test_filters_choose_and_combine():
    assert {'hinton.SoftTargets', 'dkd.DecoupledTargets'} <= kinds(reads='logits')
    assert 'fitnets.Hint' not in kinds(reads='logits')
    assert kinds(needs='labels') | kinds(needs='nothing') == {one.kind for one in ALL}
    assert not kinds(needs='labels') & kinds(needs='nothing')
    assert {'crf.CrfLikelihood', 'mutual.MutualLearning'} <= kinds(needs='labels')
    assert kinds(reads='student', task='regression') == {'mean_squared_error.MeanSquaredError'}
    assert 'fitnets.Hint' in kinds(task='multilabel', needs='nothing')


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ({'reads': 'logit'}, "unknown value of --reads 'logit'; there is: 'logits'"),
        ({'needs': 'label'}, "unknown value of --needs 'label'; there is: 'labels', 'nothing'"),
        ({'task': 'captioning'}, "unknown value of --task 'captioning'; there is: "),
        ({'reads': 'chains', 'task': 'regression'}, 'no technique reads chains, needs anything and serves regression'),
    ],
)
def test_a_word_that_does_not_exist_is_met_with_those_that_do(flags, message):
    with pytest.raises(UsageError, match=message):
        listing.selected(**flags)


# Of what tasks are made; and keywords, which are classes of clips.
PARTS = {
    'base', 'entities', 'evaluation', 'speech', 'keywords', 'targets', 'average_precision', 'next_token', 'own_text',
    'centres', 'draws',
}  # fmt: skip


def test_tasks_are_those_that_there_are():
    assert set(base.TASKS) == set(modules('kdjax.tasks')) - PARTS
    assert all(set(one.tasks) <= set(base.TASKS) for one in ALL)


def of_logits(one):
    taps = one.term.specimens()[0].taps()
    return all(tap.endswith('logits') or tap.startswith('top_') for tap in (*taps.student, *taps.teacher))


OUTPUTS = [one for one in ALL if 'tagging' in one.tasks and of_logits(one)]


@pytest.mark.parametrize('one', OUTPUTS, ids=lambda one: one.kind)
def test_what_is_said_to_serve_tagging_has_values_of_tokens(one):
    """Traced with logits (B, N, K): shapes alone, nothing is computed."""
    term = one.term.specimens()[0]
    inputs = tokens(term)

    def values(key):
        params, memory = term.init(key, inputs)
        return term(params, memory, inputs, term.knobs(), step=jnp.int32(0), key=key).values

    assert jax.eval_shape(values, jax.random.key(0)).shape in ((2, 3), (2,))


def tokens(term):
    """What a term sees of a tagger of two sentences of three tokens and five tags."""
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5)), jnp.float32)
    read = {tap: logits for tap in term.taps().teacher if tap.endswith('logits')}
    top = {'top_ids': jnp.zeros((2, 3, 4), jnp.int32), 'top_log_probs': logits[..., :4]}
    batch = {'labels': jnp.zeros((2, 3), jnp.int32), 'mask': jnp.ones((2, 3)), 'token_mask': jnp.ones((2, 3)),
             'id': jnp.arange(2), 'view': jnp.zeros(2, jnp.int32)}  # fmt: skip
    return TermInputs(Outputs(logits, {}), Outputs(logits, {**read, **top}), batch)


def test_all_about_one():
    text = listing.details('dkd.DecoupledTargets', sweep.presets())
    for said in (
        'Decoupled Knowledge Distillation. CVPR 2022, arXiv 2203.08679', 'T^2 [alpha KL(b^t || b^s)',
        'reads    logits, labels', 'alpha = 1 >= 0', 'presets  dkd', 'MFLOP', "{'kind': 'dkd.DecoupledTargets'}",
    ):  # fmt: skip
        assert said in text
    assert 'cost     not measured' in listing.details('mld.MultiLabelTargets', {})


def test_one_of_ones_own_is_shown_and_what_is_none_is_refused():
    assert f'{__name__}:Own (Doe 2026)' in listing.details(f'{__name__}:Own', {})
    with pytest.raises(UsageError, match="kinds' is no technique"):
        listing.details(f'{__name__}:kinds', {})


class Own(base.Term):
    """A term of one's own."""

    PAPER = base.Paper('Doe', 'A Term', 'Nowhere', 2026)


def test_the_costs_that_a_package_brings_are_those_that_were_measured():
    assert listing.COSTS.resolve().parts[-4:] == ('experiments', 'techniques', 'results', 'costs.json')
