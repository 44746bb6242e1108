"""What `--mode=list` prints: techniques by what they read, one line each; or all that one of them says of itself."""

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kdjax.errors import UsageError, nearest, unknown
from kdjax.resolve import resolve
from kdjax.study.report import technique_list
from kdjax.study.report.technique_list import PACKAGE, cited, several, words
from kdjax.techniques.base import TASKS, Range, Taps, Term, is_technique
from kdjax.techniques.tokens import ProjectedTokens

# What experiments/techniques/measure.py measured; a link in a clone, a copy in an installed package.
COSTS = Path(__file__).with_name('costs.json')
# What a term reads of the two networks, in the order of the list, and what its group is called.
GROUPS = {
    'logits': 'Logits of a teacher',
    'layers': 'Layers: maps and vectors',
    'tokens': 'Tokens and attention of transformers',
    'members': 'Several teachers, one by one',
    'top_classes': 'The most probable classes of a teacher',
    'views': 'Further views of the examples',
    'derivatives': 'Derivatives of the logits by the inputs',
    'chains': 'Chains of tags (conditional random fields)',
    'boxes': 'Edges of boxes (detectors)',
    'frames': 'Logits of every frame (transcription)',
    'items': 'Scores of chosen items, and vectors of users and items (recommenders)',
    'student': 'No teacher: task losses, peers, self-distillation',
}
# What taps are read for, by how their names begin; all others are layers.
KINDS = {
    'member': 'members', 'top_': 'top_classes', 'strong': 'views', 'rotated': 'views', 'tangents': 'derivatives',
    'jacobian': 'derivatives', 'emissions': 'chains', 'edges': 'boxes', 'embedding': 'tokens', 'hidden': 'tokens',
    'query': 'tokens', 'key': 'tokens', 'value': 'tokens', 'attention': 'tokens', 'first': 'items',
    'interesting': 'items', 'user_vector': 'items', 'frame_logits': 'frames',
}  # fmt: skip
NEEDS = ('labels', 'nothing')
NONE = '–'


class Entry(NamedTuple):
    """A technique as the list has it."""

    kind: str  # 'dkd.DecoupledTargets', as a config names it
    term: type[Term]
    about: str  # the first line of its file
    reads: str  # of GROUPS
    labels: bool
    tasks: tuple[str, ...]


def entries() -> list[Entry]:
    """All techniques of the library, by group and name."""
    found = [entry(one.kind, resolve(PACKAGE, one.kind, 'term')) for one in technique_list.techniques()]
    order = list(GROUPS)
    return sorted(found, key=lambda one: (order.index(one.reads), one.kind))


def entry(kind: str, term: type[Term]) -> Entry:
    """What the list says of a term class."""
    about = (inspect.getdoc(inspect.getmodule(term)) or '').partition('\n')[0]
    reads = read_kind(term, term.specimens()[0].taps())
    labels = term.LABELS or term.reads_labels is not Term.reads_labels  # or by its form
    # Features mean the same whatever the task is.
    features = reads in ('layers', 'tokens', 'derivatives') and not labels
    return Entry(kind, term, about, reads, labels, TASKS if features else term.TASKS)


def read_kind(term: type[Term], taps: Taps) -> str:
    """What a term with these taps reads, of GROUPS."""
    if not term.TEACHER:
        return 'student'
    if issubclass(term, ProjectedTokens):
        return 'tokens'
    first = next(iter((*taps.student, *taps.teacher)), '')
    if not first:
        return 'logits'
    return next((kind for start, kind in KINDS.items() if first.startswith(start)), 'layers')


def selected(reads: str = '', needs: str = '', task: str = '') -> list[Entry]:
    """Techniques that read this, need this and serve this task; an empty word selects nothing.

    Args:
      reads: of GROUPS.
      needs: 'labels', those that read labels; or 'nothing', those that serve examples without labels.
      task: a module of kdjax/tasks.

    Raises:
      UsageError: another word, or no technique is all of that.
    """
    for flag, value, known in (('reads', reads, GROUPS), ('needs', needs, NEEDS), ('task', task, TASKS)):
        if value and value not in known:
            raise unknown(f'value of --{flag}', value, known)
    found = [
        one
        for one in entries()
        if reads in ('', one.reads) and needs in ('', NEEDS[not one.labels]) and (not task or task in one.tasks)
    ]
    if not found:
        raise UsageError(f'no technique reads {reads or "anything"}, needs {needs or "anything"} and serves '
                         f'{task or "any task"}; leave one of --reads, --needs, --task out')  # fmt: skip
    return found


def listing(found: Iterable[Entry], width: int | None = None) -> str:
    """Techniques by group, one line each: its name, what it costs, whether it reads labels, what it is about.

    Args:
      found: as of `selected`.
      width: characters that a line may have; None for as many as it takes.
    """
    known, found = costs(), list(found)
    wide = max(len(one.kind) for one in found)
    lines: list[str] = []
    for group, title in GROUPS.items():
        members = [one for one in found if one.reads == group]
        if members:
            lines += ['', f'{title} (--reads={group})', *_lines(members, wide, known['terms'])]
    return '\n'.join([*(_cut(line, width) for line in lines[1:]), '', *_legend(known)])


def _lines(members: Iterable[Entry], wide: int, known: Mapping[str, Any]) -> Iterator[str]:
    yield f'  {"":<{wide}}  {"MFLOP":>7} {"learns":>7}'
    for one in members:
        cost = known.get(one.kind)
        work = (f'{cost["mflop"]:.2f}', f'{cost["params"] or NONE}') if cost else (NONE, NONE)
        yield f'  {one.kind:<{wide}}  {work[0]:>7} {work[1]:>7}  {"labels" if one.labels else "":<6}  {one.about}'


def _cut(line: str, width: int | None) -> str:
    return line if width is None or len(line) <= width else f'{line[: width - 1]}…'


def _legend(known: Mapping[str, Any]) -> list[str]:
    machine = f'{known["machine"]["processor"]}, JAX {known["versions"]["jax"]}'
    return [
        'MFLOP: operations that its preset adds to a training step with the hard labels alone, and how many parameters',
        f'its terms learn; small students, 64 digits a step ({machine}). {NONE}: none, or not measured.',
        'labels: reads them; all others also serve examples without. --term=dkd.DecoupledTargets shows all about one,',
        "also of one's own, 'my.module:MyTerm'. --reads=, --needs=labels|nothing and --task= choose among them.",
    ]


def costs() -> Mapping[str, Any]:
    """What techniques cost, with the machine and the versions by which that was measured."""
    return json.loads(COSTS.read_text())


def details(kind: str, presets: Mapping[str, Any]) -> str:
    """All about one technique: citation, docstring, what it reads and needs, knobs, presets, cost.

    Args:
      kind: 'dkd.DecoupledTargets', or 'my.module:MyTerm' of one's own.
      presets: all of them by name, with `terms`.

    Raises:
      UsageError: there is no such term.
    """
    term = resolve(PACKAGE, kind, 'term')
    if not is_technique(term):
        raise UsageError(f'{kind!r} is no technique: it must be a subclass of kdjax.techniques.base.Term with a PAPER; '
                         f'there is: {", ".join(nearest(kind, [one.kind for one in entries()])[:5])}')  # fmt: skip
    one, said = entry(kind, term), technique_list.described(kind, term)
    paper, first = term.PAPER, term.specimens()[0]
    facts = {
        'reads': technique_list.read(said) + (', labels' if one.labels else ''),
        'tasks': words(one.tasks),
        'scope': ' or '.join(said.scopes),
        'forms': words(said.forms),
        'knobs': words(tuple(f'{name} = {value:g} {_bounds(term, name)}' for name, value in first.knobs().items())),
        'presets': several(technique_list.presets_of(presets).get(kind, ())),
        'cost': _cost(costs()['terms'].get(kind)),
    }
    where = f'{paper.venue} {paper.year}' + (f', arXiv {paper.arxiv}' if paper.arxiv else '')
    return '\n'.join([
        f'{kind} ({cited(paper)})', f'{paper.authors}: {paper.title}. {where}', '',
        *filter(None, [one.about, '']), inspect.getdoc(term) or '', '',
        *(f'{name:<8} {value}' for name, value in facts.items()), '',
        'In a config:', f"  config.terms.NAME = ConfigDict({{'kind': {kind!r}}})",
        '  config.fits.combined.weights.NAME = 1.0',
    ])  # fmt: skip


def _bounds(term: type[Term], knob: str) -> Range:
    return term.__dataclass_fields__[knob].metadata['range']


def _cost(cost: Mapping[str, Any] | None) -> str:
    if cost is None:
        return 'not measured'
    return (f'+{cost["mflop"]:.2f} MFLOP, +{cost["mbyte"]:.2f} MB moved and {cost["params"]} parameters in a step of '
            f'preset {cost["preset"]}')  # fmt: skip
