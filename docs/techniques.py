"""Pages of all techniques, from what their classes say of themselves and from what was measured."""

import functools
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import equations as maths
from latex2mathml.converter import convert

from configs.sweeps import presets as sweep
from kdjax import losses, terms
from kdjax.study import listing
from kdjax.study.listing import NONE, Entry
from kdjax.study.report import technique_list
from kdjax.techniques.base import Term

ROOT = Path(__file__).resolve().parents[1]
FOLDER = 'techniques'
INTRODUCTION = """# Techniques

{count} terms, by what they read of the two networks. `kdjax list` prints the same, and chooses among them: `--reads=`,
`--needs=labels|nothing`, `--task=`. Operations are those that the preset of a term adds to a training step of a small
student, 64 digits a step; parameters are those that its terms learn. Which to try first is said in
[which technique](../choosing.md).
"""
HEADER = '| term | about | labels | tasks | MFLOP | learns |\n|---|---|---|---|---:|---:|'
ON_DIGITS = 'points over hard labels on 250 digits ([all presets](../experiments/presets/README.md))'


def pages(equations: dict[str, str]) -> dict[str, str]:
    """By path: an overview, and a page for each group.

    Args:
      equations: gets the MathML of what stands for it in the text.
    """
    entries = listing.entries()
    found = {f'{FOLDER}/index.md': overview(entries)}
    for group, title in listing.GROUPS.items():
        members = [one for one in entries if one.reads == group]
        found[f'{FOLDER}/{group}.md'] = '\n'.join([f'# {title}', '', *(described(one, equations) for one in members)])
    return found


def overview(entries: list[Entry]) -> str:
    """What there is, by group, with what each needs and costs."""
    lines = [INTRODUCTION.format(count=len(entries))]
    for group, title in listing.GROUPS.items():
        rows = [row(one) for one in entries if one.reads == group]
        lines += [f'## [{title}]({group}.md)', '', HEADER, *rows, '']
    return '\n'.join(lines)


def row(one: Entry) -> str:
    """A technique in the overview."""
    cost = listing.costs()['terms'].get(one.kind)
    work = (f'{cost["mflop"]:.2f}', str(cost['params'] or NONE)) if cost else (NONE, NONE)
    tasks = 'all' if len(one.tasks) == len(listing.TASKS) else ', '.join(one.tasks)
    name = f'[`{one.kind}`]({one.reads}.md#{anchor(one.kind)})'
    return f'| {" | ".join([name, one.about, "yes" if one.labels else "", tasks, *work])} |'


def anchor(kind: str) -> str:
    """Where a technique stands on the page of its group."""
    return kind.lower().replace('.', '-')


def described(one: Entry, equations: dict[str, str]) -> str:
    """A technique: what it is about, its paper, its docstring with equations, facts, and what was measured."""
    paper, said = one.term.PAPER, technique_list.described(one.kind, one.term)
    title = f'[{paper.title}](https://arxiv.org/abs/{paper.arxiv})' if paper.arxiv else paper.title
    knobs = one.term.specimens()[0].knobs()
    facts = {
        'Reads': technique_list.read(said) + (', labels' if one.labels else ''),
        'Tasks': ', '.join(one.tasks),
        'Scope': ' or '.join(said.scopes),
        'Forms': ', '.join(f'`{form}`' for form in one.term.FORMS),
        'Knobs': ', '.join(f'`{name}` = {value:g}' for name, value in knobs.items()),
        'Measured': measured(one.kind),
    }
    return '\n'.join([
        f'## {one.kind} {{#{anchor(one.kind)}}}', '', f'*{one.about}*', '',
        f'{paper.authors}: {title}. {paper.venue} {paper.year}.', '',
        *body(inspect.getdoc(one.term) or '', equations), '```python', called(one.term), '```', '',
        *(f'- *{name}*: {value}' for name, value in facts.items() if value), '',
    ])  # fmt: skip


def called(term: type[Term]) -> str:
    """How it is called in a loop of one's own: as a function with its arguments, or as a term of an objective."""
    name = next(name for name, kind in terms.kinds().items() if kind is term)
    function = losses.functions().get(losses.snake_case(name))
    if function is None:
        return f"kdjax.objective({{'name': kdjax.terms.{name}(...)}})"
    parameters = inspect.signature(function).parameters.values()
    bare = [one.replace(annotation=one.empty) for one in parameters]
    return f'kdjax.losses.{function.__name__}{inspect.Signature(bare)}'


def measured(kind: str) -> str:
    """What its presets gain over hard labels on digits, where it is in few."""
    known, used = gains_of_presets(), technique_list.presets_of(sweep.presets()).get(kind, ())
    gains = [f'[`{name}`](../configs/presets/{name}.py) {shown(known[name])}' for name in used if name in known]
    return f'{"; ".join(gains)} {ON_DIGITS}' if gains and len(used) <= 3 else ''


@functools.cache
def gains_of_presets() -> Mapping[str, Any]:
    """Differences to hard labels, by preset."""
    files = [ROOT / 'experiments' / 'presets' / 'results' / f'{nets}.json' for nets in ('cnn', 'vit')]
    rows = [row for file in files for row in json.loads(file.read_text())['rows']]
    return {row['name']: row['difference'] for row in rows}


def shown(gain: Mapping[str, Any]) -> str:
    """A gain in points with its interval."""
    low, high = gain['ci95']
    return f'{100 * gain["mean"]:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]'


def body(docstring: str, equations: dict[str, str]) -> Iterator[str]:
    """A docstring as Markdown: paragraphs with equations, attributes as a list, tables as they are."""
    for block in re.split(r'\n\n+', docstring):
        if block.startswith('Attributes:'):
            items = re.split(r'\n  (?=\w)', block)[1:]
            yield from ('Attributes:', '', *(attribute(item, equations) for item in items))
        else:
            yield block if re.match(r'\s*\|[ -]', block) else typeset(block, equations)
        yield ''


def attribute(item: str, equations: dict[str, str]) -> str:
    """An attribute of a docstring as an item of a list."""
    name, _, said = item.partition(': ')
    return f'- `{name}`: {typeset(" ".join(said.split()), equations)}'


def typeset(text: str, equations: dict[str, str]) -> str:
    """A paragraph in which every equation is a word that stands for its MathML."""
    words = []
    for part in maths.typeset(text):
        if isinstance(part, maths.Equation):
            key = f'EQUATION{len(equations)}E'
            equations[key] = convert(part.latex)
            words.append(key)
        else:
            words.append(part)
    return ''.join(words)
