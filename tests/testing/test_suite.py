"""The laws are for terms of others too: in a test of their own, and by --term."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

from kdjax.errors import UsageError
from kdjax.techniques.base import Term
from kdjax.testing import laws, meaning, suite, world

ROOT = Path(__file__).resolve().parents[2]
OWN = Path(__file__).parent / 'own_terms.py'


@pytest.fixture
def own(monkeypatch):
    """The module of a user's terms, importable as theirs is."""
    monkeypatch.syspath_prepend(str(OWN.parent))
    yield __import__('own_terms')
    sys.modules.pop('own_terms')
    world.choose([])


def test_broken_laws_are_named_with_the_specimen_and_what_is_wrong(own, monkeypatch):
    named = ('a_program_reads', 'a_student_equal', 'padding_changes_nothing', 'the_order')
    monkeypatch.setattr(suite, 'LAWS', [law for law in suite.LAWS if law.name.startswith(named)])
    laws(own.Squared)
    with pytest.raises(ExceptionGroup, match='Broken breaks 3 laws') as caught:
        laws(own.Broken)
    notes = [error.__notes__[-1] for error in caught.value.exceptions]
    assert [note.split()[1] for note in notes] == [
        'a_program_reads_what_its_term_says_and_knobs_as_given',
        'a_student_equal_to_its_teacher_has_nothing_to_learn',
        'padding_changes_nothing',
    ]
    assert all(note.endswith(' of Broken') for note in notes)
    assert 'reads self.temperature' in str(caught.value.exceptions[0])


@pytest.mark.slow
def test_a_term_of_ones_own_keeps_all_laws(own):
    laws(own.Squared)


def test_what_is_no_term_or_says_not_what_it_is_is_refused(own):
    with pytest.raises(UsageError, match=r'laws are of a class of terms, such as laws\(MyTerm\), got Squared\('):
        laws(own.Squared())
    with pytest.raises(AssertionError, match=r'Nameless\.PAPER must be the Paper'):
        laws(type('Nameless', (Term,), {}))
    lax = type('Lax', (own.Squared,), {'__post_init__': lambda self: None})
    with pytest.raises(
        AssertionError, match=r"to {'weight': nan} it must say 'weight of Lax .* says nothing: call super"
    ):
        laws(lax)


def test_a_key_a_step_or_logits_are_read_only_where_a_term_says_so(own):
    drawing = type('Drawing', (Term,), {'__call__': lambda self, *_, step, key: jax.random.normal(key)})
    with pytest.raises(AssertionError, match='reads a key, a step or logits, though it says DRAWS=False'):
        meaning.a_program_reads_what_its_term_says_and_knobs_as_given(world.placed({'d': drawing()}, world.padded()))


def test_one_device_stands_for_several(own):
    """Where a machine has fewer than a law asks for."""
    subject = world.placed({'squared': own.Squared()}, world.padded())
    world.assert_same_answer(world.spread(*subject, 8), world.compiled(*subject))


def test_terms_are_chosen_by_name(own):
    world.choose(['own_terms:Squared', 'dkd.DecoupledTargets'])
    assert list(world.specimens()) == ['own_terms:Squared', 'dkd.DecoupledTargets',
                                       'dkd.DecoupledTargets-standardized=True']  # fmt: skip
    with pytest.raises(UsageError, match="'own_terms:PAPER' must be the class of a term"):
        world.choose(['own_terms:PAPER'])
    world.choose([])
    assert len(world.techniques()) > 100


@pytest.mark.slow
def test_the_tests_of_techniques_are_those_of_a_term_that_is_named():
    paths = f'pythonpath=. tests {OWN.parent}'
    command = [sys.executable, '-m', 'pytest', 'tests/techniques', '--term', 'own_terms:Squared', '-o', paths]
    done = subprocess.run([*command, '--collect-only'], cwd=ROOT, capture_output=True, text=True)
    collected = [line for line in done.stdout.splitlines() if '::' in line]
    assert all('own_terms:Squared' in line for line in collected), done.stdout
    assert len(collected) > 20
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
