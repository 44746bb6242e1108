"""A page as a list of blocks, and its three renderings: Markdown, one self-contained HTML file, and a terminal."""

import base64
import html as escaping
import re
from collections.abc import Mapping, Sequence
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


class Table(NamedTuple):
    """Cells as they are shown; `align` has one of 'l', 'r' per column."""

    caption: str
    align: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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
.scroll { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
figcaption { color: var(--soft); font-size: .9rem; padding-bottom: .4rem; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { background: var(--wash); }
.r { text-align: right; }
figure { margin: 1.5rem 0; }
img { display: block; width: 100%; max-width: 42rem; height: auto; margin-bottom: .4rem;
  background: #fff; border-radius: .4rem; }
pre { overflow-x: auto; overflow-wrap: normal; padding: .8rem; background: var(--wash); font-size: .85rem; }
"""

# The policy makes a promise of self-containment into a fact: the browser refuses to fetch anything for this page.
FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
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
    return FRAME.format(title=escaping.escape(title), style=STYLE, body=body)


def terminal(blocks: Sequence[Block]) -> Group:
    """The page for a terminal of 80 columns or more; pictures and listings are left to the files."""
    return Group(*(_rich(block) for block in blocks if not isinstance(block, Picture | Listing)))


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
            lines = [tuple(map(_plain, header)), rules, *(tuple(map(_plain, row)) for row in rows)]
            return _plain(caption) + '\n\n' + '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
        case Picture(file, says):
            return f'![{_plain(says)}]({file})'
        case Listing(title, text):
            return f'<details><summary>{escaping.escape(title)}</summary>\n\n````\n{text}\n````\n\n</details>'


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
    def line(cells: Sequence[str], tag: str) -> str:
        pairs = [(side, escaping.escape(cell)) for cell, side in zip(cells, table.align, strict=True)]
        return '<tr>' + ''.join(f'<{tag} class="{side}">{cell}</{tag}>' for side, cell in pairs) + '</tr>'

    caption = escaping.escape(table.caption)
    body = '\n'.join(line(row, 'td') for row in table.rows)
    # The caption stays outside what scrolls, so that it wraps; the region takes focus, so that keys scroll it.
    return (
        f'<figure><figcaption>{caption}</figcaption>\n<div class="scroll" role="region" tabindex="0" '
        f'aria-label="{caption}"><table>\n<thead>{line(table.header, "th")}</thead>\n<tbody>\n{body}\n</tbody>\n'
        '</table></div></figure>'
    )


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
        shown.add_row(*map(RichText, row))
    return shown
