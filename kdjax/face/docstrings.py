"""What a function says of itself: what its term says, with the arrays in the place of the taps."""

import inspect
import re
import textwrap

from kdjax.face.arguments import COLUMN, Slot, plain_fields, readings, slots
from kdjax.techniques.base import Term

WIDTH = 110
LAYERS = re.compile(r",? ?'tap' or\s+'student_tap:teacher_tap',? ?")
ALWAYS = {
    COLUMN: 'of the examples, whole numbers (B,) or (B, N) of tokens unless the above says more; where one is not '
    'known, below 0 or nan, the value is 0.',
    'step': 'the number of the training step, ().',
    'key': 'a random key.',
    'ids': 'of the examples, int32 (B,), by which random draws depend on an example and not on its place; by default '
    'its place.',
    'where': 'which examples (B,), or tokens (B, N), are real; the value of the others is 0, and they change nothing.',
}


def docstring(kind: type[Term], signature: inspect.Signature) -> str:
    """That of the function of a class with this signature."""
    about, attributes = described(kind)
    found = {slot.argument: slot for slot in slots(kind)}
    said = {
        name: array(found[name], attributes) if name in found else (attributes if name in attributes else ALWAYS)[name]
        for name in signature.parameters
    }
    paper = kind.PAPER
    cited = (
        f'{paper.authors}: {paper.title}. {paper.venue} {paper.year}{f", arXiv:{paper.arxiv}" if paper.arxiv else ""}.'
    )
    plain = ', '.join(f'{name}={value!r}' for name, value in plain_fields(kind).items())
    note = f'The term {kind.__module__}.{kind.__name__}{f" with {plain}" if plain else ""}.'
    if any(term.scope == 'batch' for term in readings(kind)):
        note += ' A value depends on the other examples: of a batch on several devices, give it the whole.'
    return '\n'.join([
        about, '', 'Args:', *(_entry(name, text) for name, text in said.items()), '',
        'Returns:', _indented('Values, at least float32: as above; they are not averaged and not weighed.'), '',
        'Raises:', _indented('UsageError: shapes that do not fit, numbers that cannot be, missing arrays.'), '',
        *textwrap.wrap(note, WIDTH), '',
        'Reference:', _indented(cited),
    ])  # fmt: skip


def described(kind: type[Term]) -> tuple[str, dict[str, str]]:
    """What the docstring of a class says of it, and of its fields and those of its bases."""
    about, _ = _parts(kind)
    attributes: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        for names, text in re.findall(r'^  (\w+(?:, \w+)*): (.*(?:\n   .*)*)', _parts(one)[1], re.MULTILINE):
            attributes.update(dict.fromkeys(names.split(', '), ' '.join(text.split())))
    return about.strip(), attributes


def _parts(kind: type) -> tuple[str, str]:
    """A docstring, up to the list of its attributes and from there."""
    about, _, listed = f'\n{inspect.cleandoc(kind.__doc__ or "")}'.partition('\nAttributes:\n')
    return about, listed


def array(slot: Slot, attributes: dict[str, str]) -> str:
    """What an array is."""
    if not slot.taps:
        return f'logits of the {slot.side}, (B, K), or (B, N, K) of tokens.'
    if slot.argument.endswith('_logits'):
        return 'logits of its members, a sequence of arrays (B, K).'
    said = LAYERS.sub(' ', attributes.get(slot.field, '')).replace(' ;', ';').strip(' ,.')
    of = f'of the {slot.side}: {said}.' if said else f'what the {slot.side} has of that name, leading axis B.'
    return f'{of} A sequence of arrays.' if slot.many else of


def _entry(name: str, text: str) -> str:
    text = re.sub('; knobs?, ', '; may be traced, ', text)
    return textwrap.fill(f'{name}: {text}', WIDTH, initial_indent='  ', subsequent_indent='    ')


def _indented(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent='  ', subsequent_indent='    ')
