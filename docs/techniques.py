"""Pages of all techniques, from what their classes say of themselves and from what was measured."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import equations as maths

from configs.sweeps import presets as sweep
from kdjax.study import listing
from kdjax.study.listing import Entry
from kdjax.study.report import technique_list

ROOT = Path(__file__).resolve().parents[1]
FOLDER = 'techniques'


def pages(equations: dict[str, str]) -> dict[str, str]:
    """By path: an overview, and a page for each group; `equations` gets the MathML of what stands for it in the text."""
    entries = listing.entries()
    found = {f'{FOLDER}/index.md': overview(entries)}
    for group, title in listing.GROUPS.items():
        members = [one for one in entries if one.reads == group]
        found[f'{FOLDER}/{group}.md'] = '\n'.join([f'# {title}', '', *(described(one, equations) for one in members)])
    return found


def overview(entries: list[Entry]) -> str:
    """What there is, by group, with what each needs and costs."""
    costs, lines = listing.costs()['terms'], ['# Techniques', '']
    lines += [f'{len(entries)} terms, by what they read of the two networks. `kdjax list` prints the same, and chooses',
              'among them: `--reads=`, `--needs=labels|nothing`, `--task=`. Operations are those that the preset of a term',
              'adds to a training step of a small student, 64 digits a step; parameters are those that its terms learn. Which to',
              'try first is said in [which technique](../choosing.md).']  # fmt: skip
    for group, title in listing.GROUPS.items():
        lines += ['', f'## [{title}]({group}.md)', '', '| term | about | labels | tasks | MFLOP | learns |', '|---|---|---|---|---:|---:|']
        for one in (one for one in entries if one.reads == group):
            cost = costs.get(one.kind)
            work = (f'{cost["mflop"]:.2f}', str(cost['params'] or listing.NONE)) if cost else (listing.NONE, listing.NONE)
            tasks = 'all' if len(one.tasks) == len(listing.TASKS) else ', '.join(one.tasks)
            lines.append(f'| [`{one.kind}`]({group}.md#{anchor(one.kind)}) | {one.about} | {"yes" if one.labels else ""} '
                         f'| {tasks} | {" | ".join(work)} |')  # fmt: skip
    return '\n'.join(lines)


def anchor(kind: str) -> str:
    """Where a technique stands on the page of its group."""
    return kind.lower().replace('.', '-')


def described(one: Entry, equations: dict[str, str]) -> str:
    """A technique: what it is about, its paper, its docstring with equations, facts, and what was measured."""
    paper, said = one.term.PAPER, technique_list.described(one.kind, one.term)
    title = f'[{paper.title}](https://arxiv.org/abs/{paper.arxiv})' if paper.arxiv else paper.title
    facts = {
        'Reads': technique_list.read(said) + (', labels' if one.labels else ''),
        'Tasks': ', '.join(one.tasks),
        'Scope': ' or '.join(said.scopes),
        'Forms': ', '.join(f'`{form}`' for form in one.term.FORMS),
        'Knobs': ', '.join(f'`{name}` = {value:g}' for name, value in one.term.specimens()[0].knobs().items()),
        'Measured': measured(one.kind),
    }
    return '\n'.join([
        f'## {one.kind} {{#{anchor(one.kind)}}}', '', f'*{one.about}*', '',
        f'{paper.authors}: {title}. {paper.venue} {paper.year}.', '',
        body(inspect.getdoc(one.term) or '', equations), '',
        *(f'- *{name}*: {value}' for name, value in facts.items() if value), '',
    ])  # fmt: skip


def measured(kind: str) -> str:
    """What its presets gain over hard labels on digits, where it is in few."""
    used = technique_list.presets_of(sweep.presets()).get(kind, ())
    if not 0 < len(used) <= 3:
        return ''
    rows = {row['name']: row for nets in ('cnn', 'vit')
            for row in json.loads((ROOT / f'experiments/presets/results/{nets}.json').read_text())['rows']}  # fmt: skip
    gains = []
    for name in used:
        gain = rows[name]['difference']
        low, high = gain['ci95']
        gains.append(f'[`{name}`](../configs/presets/{name}.py) {100 * gain["mean"]:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]')
    return f'{"; ".join(gains)} points over hard labels on 250 digits ([all presets](../experiments/presets/README.md))'


def body(docstring: str, equations: dict[str, str]) -> str:
    """A docstring as Markdown: paragraphs with equations, attributes as a list, tables as they are."""
    blocks = []
    for block in re.split(r'\n\n+', docstring):
        if block.startswith(('Attributes:', 'Raises:', 'Args:')):
            head, *lines = block.splitlines()
            joined = re.split(r'\n(?=  \w)', '\n'.join(lines))
            items = [re.fullmatch(r'\s*([\w, ]+): (.*)', re.sub(r'\s+', ' ', item)) for item in joined]
            blocks.append('\n'.join([head, '', *(f'- `{item[1]}`: {typeset(item[2], equations)}' for item in items if item)]))
        elif block.lstrip().startswith('|'):
            blocks.append(block)
        else:
            blocks.append(typeset(block, equations))
    return '\n\n'.join(blocks)


def typeset(text: str, equations: dict[str, str]) -> str:
    """A paragraph in which every equation is a word that stands for its MathML."""
    words = []
    for part in maths.typeset(text):
        if isinstance(part, tuple):
            key = f'EQUATION{len(equations)}E'
            equations[key] = part[1]
            words.append(key)
        else:
            words.append(part)
    return ''.join(words)
