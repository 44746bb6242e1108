"""All laws, and which terms each is for."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax

from kdjax.errors import UsageError
from kdjax.techniques.base import Paper, Term
from kdjax.testing import invariance, meaning, numeric, world
from kdjax.testing.world import Subject


class Law(NamedTuple):
    """What every term must do, or every one of some."""

    check: Callable[[Subject], None]  # raises AssertionError
    concerns: Callable[[Term], bool] = lambda term: True
    own_program: bool = False  # whether it compiles one that no other law needs

    @property
    def name(self) -> str:
        """As in 'padding_changes_nothing'."""
        return self.check.__name__


LAWS = (
    Law(meaning.values_are_finite_and_not_below_the_minimum),
    Law(meaning.knobs_matter),
    Law(meaning.a_program_reads_what_its_term_says_and_knobs_as_given),
    Law(meaning.a_student_equal_to_its_teacher_has_nothing_to_learn, lambda term: term.at_teacher != 'free'),
    Law(meaning.gradient_reaches_everything_of_the_student_that_is_read, lambda term: term.STUDENT),
    Law(meaning.gradient_reaches_every_learned_parameter),
    Law(meaning.a_token_counts_as_an_example_does, lambda term: not (term.scope == 'batch' or any(term.taps()))),
    Law(meaning.labels_are_needed, lambda term: term.reads_labels),
    Law(meaning.a_teacher_of_one_class_is_refused_or_serves, lambda term: term.TEACHER),
    Law(meaning.a_teacher_of_more_classes_is_refused_or_serves, lambda term: term.TEACHER),
    Law(invariance.padding_changes_nothing),
    Law(invariance.the_order_of_examples_does_not_matter),
    Law(invariance.no_label_is_padding_to_what_reads_labels_and_nothing_to_others),
    Law(invariance.confident_logits_stay_finite),
    Law(invariance.a_batch_of_padding_is_no_trouble),
    Law(invariance.a_batch_of_one_example_is_no_trouble),
    Law(invariance.features_and_logits_of_0_stay_finite),
    Law(numeric.half_precision_in_single_precision_out, own_program=True),
    Law(numeric.compiling_changes_nothing_and_happens_once, own_program=True),
    Law(numeric.two_devices_agree_with_one, own_program=True),
    Law(numeric.four_devices_agree_with_one, own_program=True),
    Law(numeric.gradients_are_those_of_the_value, own_program=True),
)


def laws(kind: type[Term]) -> None:
    """Holds every specimen of a term (`Term.specimens`) against every law that concerns it: about a minute.

    Args:
      kind: the class of the term. Its specimens read what the laws' world has; see the docstring of `Term.specimens`.

    Raises:
      UsageError: it is no class of terms, or a specimen reads a tap that the world does not have; lists those.
      ExceptionGroup: laws that are broken, each with the specimen and what is wrong.
    """
    if not (isinstance(kind, type) and issubclass(kind, Term)):
        raise UsageError(f'laws are of a class of terms, such as laws(MyTerm), got {kind!r}')
    about_itself(kind)
    broken = list(_broken(kind))
    if broken:
        raise ExceptionGroup(f'{kind.__name__} breaks {len(broken)} laws', broken)


def about_itself(kind: type[Term]) -> None:
    """What a class says of itself: its paper, each form in a specimen, and numbers and forms that cannot be.

    Raises:
      AssertionError: what it does not say, or takes.
    """
    assert isinstance(getattr(kind, 'PAPER', None), Paper), f'{kind.__name__}.PAPER must be the Paper that it is from'
    assert 1950 <= kind.PAPER.year <= 2030, f'{kind.__name__}.PAPER is of the year {kind.PAPER.year}'
    shown = list(kind.specimens())
    assert shown, f'{kind.__name__}.specimens() is empty, so no law would be tested'
    missing = set(kind.FORMS) - {getattr(term, 'form', None) for term in shown}
    assert not missing, f'{kind.__name__}.specimens() has no instance of the forms {sorted(missing)}'
    for knob in shown[0].knobs():
        for bad in (math.nan, math.inf, True, '1'):
            _refused(f'{knob} of {kind.__name__} must be ', shown[0], **{knob: bad})
    _refused(f'weight of {kind.__name__} must be >= 0, got -0.5', shown[0], weight=-0.5)
    if kind.FORMS:
        _refused("unknown form 'papr'", shown[0], form='papr')


def _refused(said: str, term: Term, **fields: object) -> None:
    answer = f'nothing: call super().__post_init__() first in {type(term).__name__}.__post_init__'
    try:
        dataclasses.replace(term, **fields)  # type: ignore[arg-type]
    except UsageError as error:
        answer = str(error)
    assert said in answer, f'to {fields} it must say {said!r}, and says {answer}'


def _broken(kind: type[Term]) -> Iterator[Exception]:
    """The errors that specimens of a class meet, each with a note of the law and the specimen."""
    for term in kind.specimens():
        name = f'{kind.__name__}{world.described(term)}'
        with jax.numpy_dtype_promotion('strict'):
            subject = world.placed({name: term}, world.padded())
            for law in LAWS:
                if law.concerns(term):
                    try:
                        law.check(subject)
                    except Exception as error:
                        error.add_note(f'law {law.name} of {name}')
                        yield error
