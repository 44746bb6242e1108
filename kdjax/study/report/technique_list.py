"""What there is: every technique by what its class says of itself."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from kdjax.resolve import modules, public
from kdjax.study.report.document import Table
from kdjax.techniques.base import Paper, Taps, Term, is_technique

PACKAGE = 'kdjax.techniques'
NONE = '–'


class Technique(NamedTuple):
    """A term class."""

    kind: str  # 'dkd.DecoupledTargets', as a config names it
    paper: Paper
    equations: str
    forms: tuple[str, ...]
    scopes: tuple[str, ...]
    reads: Taps  # of its first specimen
    knobs: tuple[str, ...]
    needs_teacher: bool


def techniques() -> list[Technique]:
    """All terms, by module and name."""
    listed = []
    for module in modules(PACKAGE):
        for name, kind in public(f'{PACKAGE}.{module}').items():
            if is_technique(kind):
                listed.append(described(f'{module}.{name}', kind))
    return listed


def described(name: str, kind: type[Term]) -> Technique:
    """What a term class says of itself."""
    specimens = kind.specimens()
    return Technique(
        name,
        kind.PAPER,
        ', '.join(dict.fromkeys(re.findall(r'(?:eqs?|sec|alg)\. \d+(?:[.-]\d+)*', kind.__doc__ or ''))),
        kind.FORMS,
        tuple(dict.fromkeys(term.scope for term in specimens)),
        specimens[0].taps(),
        tuple(knob for knob in specimens[0].knobs() if knob != 'weight'),
        kind.TEACHER,
    )


def table(presets: Mapping[str, tuple[str, ...]]) -> Table:
    """The list of all techniques; `presets` as of `presets_of`, of which a cell names up to three."""
    rows = tuple(
        (one.kind, cited(one.paper), one.equations or NONE, *_facts(one, presets).values()) for one in techniques()
    )
    header = ('term', 'paper', 'equations', 'forms', 'scope', 'reads', 'knobs', 'presets')
    return Table('Distillation terms', 'l' * len(header), header, rows)


def _facts(one: Technique, presets: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {
        'forms': words(one.forms),
        'scope': ' or '.join(one.scopes),
        'reads': read(one),
        'knobs': words(one.knobs),
        'presets': several(presets.get(one.kind, ())),
    }


def presets_of(presets: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Names of the presets that use a technique, by its kind; `presets` by name, with `terms`."""
    used: dict[str, tuple[str, ...]] = {}
    for name, preset in presets.items():
        for kind in dict.fromkeys(term['kind'] for term in preset.terms.values()):
            used[kind] = (*used.get(kind, ()), name)
    return used


def cited(paper: Paper) -> str:
    """First author, year."""
    first, *more = paper.authors.split(', ')
    return f'{first}{" et al." if more else ""} {paper.year}'


def read(technique: Technique) -> str:
    """What a term reads, on the student's and the teacher's side."""
    student, teacher = (', '.join(side) or 'logits' for side in technique.reads)
    if not technique.needs_teacher:
        return f'{student}; no teacher'
    return student if student == teacher else f'{student}; {teacher}'


def several(items: tuple[str, ...], shown: int = 3) -> str:
    """A list in a cell, cut short."""
    return words(items) if len(items) <= shown else f'{words(items[:shown])} and {len(items) - shown} more'


def words(items: tuple[str, ...]) -> str:
    """A list in a cell."""
    return ', '.join(items) or NONE
