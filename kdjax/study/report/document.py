"""A page as a list of blocks; as Markdown, as one self-contained HTML file, for a terminal, and tables as CSV."""

import base64
import hashlib
import html as escaping
import io
import re
from collections.abc import Mapping, Sequence
from csv import writer
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text as RichText


class Heading(NamedTuple):
    """A section's title; level 1 is the page's."""

    text: str
    level: int = 2


class Text(NamedTuple):
    """One paragraph."""

    text: str


class Items(NamedTuple):
    """A list."""

    items: tuple[str, ...]


class TableCell(NamedTuple):
    """A cell that is more than its text: what it sorts by (last, where None), what CSV holds, whether it stands out."""

    text: str
    value: float | str | None
    best: bool = False


class Table(NamedTuple):
    """Cells as they are shown; `align` has one of 'l', 'r' per column. With a `Cell` anywhere, a reader may sort it."""

    caption: str
    align: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | TableCell, ...], ...]


class Picture(NamedTuple):
    """A PNG file beside the page; `says` is its caption and what a reader hears who cannot see it."""

    file: str
    says: str


class Listing(NamedTuple):
    """Long text in a fixed-width font, folded away until asked for."""

    title: str
    text: str


Block = Heading | Text | Items | Table | Picture | Listing

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d5dae0; --paper: #fff; --wash: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ee; --soft: #9aa6b2; --line: #353c45; --paper: #14171b; --wash: #1d2127; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 54rem; padding: 1rem; overflow-wrap: anywhere;
  font: 1rem/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; padding-bottom: .2rem; border-bottom: 1px solid var(--line); }
ul { padding-left: 1.2rem; }
li { margin: .4rem 0; }
.scroll { overflow-x: auto; overflow-wrap: normal; width: max-content; min-width: 100%;
  max-width: min(100vw - 2rem, 80rem); margin-left: 50%; transform: translateX(-50%); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
figcaption { color: var(--soft); font-size: .9rem; padding-bottom: .4rem; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { background: var(--wash); vertical-align: bottom; }
th:first-child, td:first-child { position: sticky; left: 0; z-index: 1; }
td:first-child { background: var(--paper); }
@media (max-width: 40rem) { th:first-child, td:first-child { min-width: 8rem; max-width: 40vw; white-space: normal; } }
.r { text-align: right; }
figure { margin: 1.5rem 0; }
img { display: block; width: 100%; max-width: 42rem; height: auto; margin-bottom: .4rem;
  background: #fff; border-radius: .4rem; }
pre { overflow-x: auto; overflow-wrap: normal; padding: .8rem; background: var(--wash); font-size: .85rem; }
.long { max-height: 80vh; }
.long th { position: sticky; top: 0; z-index: 1; }
.long th:first-child { z-index: 2; }
th button { padding: 0; border: 0; background: none; font: inherit; color: inherit;
  text-align: inherit; cursor: pointer; }
th button::after { content: "\\a0↕"; color: var(--soft); font-weight: normal; }
th[aria-sort=ascending] button::after { content: "\\a0↑"; color: inherit; }
th[aria-sort=descending] button::after { content: "\\a0↓"; color: inherit; }
"""
LONG = 30  # rows; a longer table scrolls in a box of its own, below its header

# Sorts by the column whose header was pressed: numbers by value, largest first; pressed again, the other way round.
# Empty values stay last either way, and rows that are equal keep their order.
SCRIPT = """
for (const button of document.querySelectorAll('th button')) {
  button.addEventListener('click', () => {
    const head = button.closest('th');
    const body = head.closest('table').tBodies[0];
    const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
    const rows = [...body.rows].map((row) => [row, value(row)]);
    const numeric = rows.every(([, value]) => !isNaN(value));
    const before = head.getAttribute('aria-sort');
    const down = before ? before === 'ascending' : numeric;
    const compare = (a, b) => (numeric ? a - b : a.localeCompare(b, 'en', { numeric: true }));
    rows.sort(([, a], [, b]) => (a && b ? (down ? compare(b, a) : compare(a, b)) : !a - !b));
    for (const other of head.parentNode.cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    body.append(...rows.map(([row]) => row));
  });
}
"""

# The policy makes a promise of self-containment into a fact: the browser refuses to fetch anything for this page, and
# to run any script but this one.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>{script}
</body>
</html>
"""


def markdown(blocks: Sequence[Block]) -> str:
    """The page as GitHub-flavoured Markdown; pictures are links to the files beside it."""
    return '\n\n'.join(_markdown(block) for block in blocks) + '\n'


def html(title: str, blocks: Sequence[Block], pictures: Mapping[str, bytes]) -> str:
    """The page as one HTML file that fetches nothing.

    Args:
      title: of the browser's tab.
      blocks: the page.
      pictures: PNG bytes by file name, for every `Picture` among the blocks; they are inlined.
    """
    body = '\n'.join(_html(block, pictures) for block in blocks)
    script, policy = '', POLICY
    if any(isinstance(block, Table) and _sortable(block) for block in blocks):
        digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
        script, policy = f'\n<script>{SCRIPT}</script>', f"{POLICY}; script-src 'sha256-{digest}'"
    return FRAME.format(title=escaping.escape(title), policy=policy, style=STYLE, body=body, script=script)


def terminal(blocks: Sequence[Block]) -> Group:
    """The page for a terminal of 80 columns or more; pictures and listings are left to the files."""
    return Group(*(_rich(block) for block in blocks if not isinstance(block, Picture | Listing)))


def csv(table: Table) -> str:
    """A table as CSV (RFC 4180): values in full, nothing where there is none."""
    lines = io.StringIO()
    rows = (tuple(cell.value if isinstance(cell, TableCell) else cell for cell in row) for row in table.rows)
    writer(lines).writerows([table.header, *rows])
    return lines.getvalue()


def text_of(cell: str | TableCell) -> str:
    """A cell as it is shown."""
    return cell.text if isinstance(cell, TableCell) else cell


def stands_out(cell: str | TableCell) -> bool:
    """Whether a cell is to be shown in bold."""
    return isinstance(cell, TableCell) and cell.best


def _sortable(table: Table) -> bool:
    return any(isinstance(cell, TableCell) for row in table.rows for cell in row)


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return '#' * level + ' ' + _plain(text)
        case Text(text):
            return _plain(text)
        case Items(items):
            return '\n'.join(f'- {_plain(item)}' for item in items)
        case Table(caption, align, header, rows):
            rules = tuple('---:' if side == 'r' else '---' for side in align)
            lines = [tuple(map(_plain, header)), rules, *(tuple(map(_markdown_cell, row)) for row in rows)]
            return _plain(caption) + '\n\n' + '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
        case Picture(file, says):
            return f'![{_plain(says)}]({file})'
        case Listing(title, text):
            return f'<details><summary>{escaping.escape(title)}</summary>\n\n````\n{text}\n````\n\n</details>'


def _markdown_cell(cell: str | TableCell) -> str:
    text = _plain(text_of(cell))
    return f'**{text}**' if stands_out(cell) else text


def _plain(text: str) -> str:
    """`text` on one line, with the characters that Markdown would read as its own escaped."""
    return re.sub(r'([\\`*<|])', r'\\\1', ' '.join(text.split()))


def _html(block: Block, pictures: Mapping[str, bytes]) -> str:
    match block:
        case Heading(text, level):
            return f'<h{level}>{escaping.escape(text)}</h{level}>'
        case Text(text):
            return f'<p>{escaping.escape(text)}</p>'
        case Items(items):
            return '<ul>\n' + '\n'.join(f'<li>{escaping.escape(item)}</li>' for item in items) + '\n</ul>'
        case Table():
            return _html_table(block)
        case Picture(file, says):
            data = base64.b64encode(pictures[file]).decode()
            says = escaping.escape(says)
            image = f'<img src="data:image/png;base64,{data}" alt="{says}">'
            return f'<figure>{image}<figcaption>{says}</figcaption></figure>'
        case Listing(title, text):
            return f'<details><summary>{escaping.escape(title)}</summary><pre>{escaping.escape(text)}</pre></details>'


def _html_table(table: Table) -> str:
    sortable = _sortable(table)
    header = ''.join(_html_head(name, side, sortable) for name, side in zip(table.header, table.align, strict=True))
    rows = (''.join(map(_html_cell, row, table.align)) for row in table.rows)
    body = '\n'.join(f'<tr>{row}</tr>' for row in rows)
    caption, long = escaping.escape(table.caption), ' long' if len(table.rows) > LONG else ''
    # The caption stays outside what scrolls, so that it wraps; the region takes focus, so that keys scroll it.
    return (
        f'<figure><figcaption>{caption}</figcaption>\n<div class="scroll{long}" role="region" '
        f'tabindex="0" aria-label="{caption}"><table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody>\n'
        '</table></div></figure>'
    )


def _html_head(name: str, side: str, sortable: bool) -> str:
    name = escaping.escape(name)
    return f'<th class="{side}">' + (f'<button type="button">{name}</button>' if sortable else name) + '</th>'


def _html_cell(cell: str | TableCell, side: str) -> str:
    text = escaping.escape(text_of(cell))
    shown = f'<strong>{text}</strong>' if stands_out(cell) else text
    if not isinstance(cell, TableCell):
        return f'<td class="{side}">{shown}</td>'
    value = escaping.escape('' if cell.value is None else str(cell.value))
    return f'<td class="{side}" data-value="{value}">{shown}</td>'


def _rich(block: Block) -> RenderableType:
    match block:
        case Heading(text, level):
            return RichText('\n' * (level > 1) + text, style='bold')
        case Items(items):
            return _rich_list(items)
        case Table():
            return _rich_table(block)
        case _:
            return RichText(block[0])


def _rich_list(items: Sequence[str]) -> RichTable:
    shown = RichTable.grid(padding=(0, 1))
    for item in items:
        shown.add_row('-', RichText(item))  # a column of its own, so that what wraps stays beside its dash
    return shown


def _rich_table(table: Table) -> RichTable:
    shown = RichTable(title=RichText(table.caption), title_justify='left', box=SIMPLE_HEAD, pad_edge=False)
    for name, side in zip(table.header, table.align, strict=True):
        shown.add_column(RichText(name), justify='right' if side == 'r' else 'left', no_wrap=side == 'r')
    for row in table.rows:
        shown.add_row(*(RichText(text_of(cell), style='bold' if stands_out(cell) else '') for cell in row))
    return shown
