"""A page as a list of blocks; as Markdown, as one self-contained HTML file, for a terminal, and tables as CSV."""

import base64
import functools
import hashlib
import html as escaping
import importlib.resources
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
    """Rows of cells; `align` has one of 'l', 'r' per column. With a `TableCell` anywhere, a reader may sort it."""

    caption: str
    align: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | TableCell, ...], ...]


class Picture(NamedTuple):
    """A PNG file beside the page; `says` is its caption and what a reader hears who cannot see it.

    One that is `drawn` is turned dark on a dark page; others, such as photographs, are left as they are.
    """

    file: str
    says: str
    drawn: bool = True


class Fact(NamedTuple):
    """One number of a card: what it is, the number, what belongs to it, and how it is meant: 'good', 'bad' or ''."""

    label: str
    value: str
    note: str = ''
    meant: str = ''


class Card(NamedTuple):
    """The few numbers that a reader came for."""

    facts: tuple[Fact, ...]


class Fold(NamedTuple):
    """Blocks that are folded away until asked for."""

    title: str
    blocks: 'tuple[Block, ...]'


class Listing(NamedTuple):
    """Text in a fixed-width font; with a title it is folded away until asked for."""

    title: str
    text: str


Block = Heading | Text | Items | Table | Picture | Listing | Card | Fold

LONG = 30  # rows; a longer table scrolls in a box of its own, below its header

# The policy makes a promise of self-containment into a fact: the browser refuses to fetch anything for this page, and
# to run any script but its own.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


OF_MARKDOWN = re.compile(r'[\\`*<|$~&]|(?<![^\W_])_|_(?![^\W_])|!(?=\[)|\[(?=\^)|\](?=[(\[:])')
AT_START = re.compile(r'^[#=+>-](?!\d)|(?:(?<=^\d)|(?<=^\d\d))[.)](?=\s|$)')


@functools.cache
def asset(name: str) -> str:
    """A part of every page: report.html, its frame; report.css; report.js, which sorts tables."""
    return importlib.resources.files(__package__).joinpath('assets', name).read_text(encoding='utf-8')


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
    body = _html_all(_with_contents(blocks), pictures)
    script, policy = '', POLICY
    if any(isinstance(block, Table) and _sortable(block) for block in flat(blocks)):
        code = asset('report.js')
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        script, policy = f'\n<script>{code}</script>', f"{POLICY}; script-src 'sha256-{digest}'"
    parts = {'title': escaping.escape(title), 'policy': policy, 'style': asset('report.css')}
    return asset('report.html').format(**parts, body=body, script=script)


def terminal(blocks: Sequence[Block]) -> Group:
    """The page for a terminal of 80 columns or more; pictures, cards and what is folded are left to the files."""
    return Group(*(_rich(block) for block in blocks if not isinstance(block, Picture | Listing | Card | Fold)))


def flat(blocks: Sequence[Block]) -> list[Block]:
    """The blocks, those that are folded away among them."""
    return [each for block in blocks for each in (flat(block.blocks) if isinstance(block, Fold) else [block])]


def csv(table: Table) -> str:
    """A table as CSV (RFC 4180): values in full, nothing where there is none.

    A name that a spreadsheet would compute, such as '=1+1', has an apostrophe before it, as spreadsheets have.
    """
    lines = io.StringIO()
    rows = (tuple(_inert(as_cell(cell).value) for cell in row) for row in table.rows)
    writer(lines).writerows([tuple(map(_inert, table.header)), *rows])
    return lines.getvalue()


def _inert(value: float | str | None) -> float | str | None:
    return f"'{value}" if isinstance(value, str) and value.startswith(('=', '+', '-', '@', '\t', '\r')) else value


def anchor(title: str) -> str:
    """What a link to a section calls it, as on GitHub."""
    return re.sub(r'[^\w-]', '', title.lower().replace(' ', '-'))


def as_cell(cell: str | TableCell) -> TableCell:
    """A cell, whichever way it was given."""
    return cell if isinstance(cell, TableCell) else TableCell(cell, cell)


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
            lines = [tuple(map(_inline, header)), rules, *(tuple(map(_markdown_cell, row)) for row in rows)]
            return _plain(caption) + '\n\n' + '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
        case Picture(file, says):
            return f'![{_plain(says)}]({file})'
        case Listing(title, text):
            fence = '`' * max(4, 1 + max(map(len, re.findall('`+', text)), default=0))
            code = f'{fence}\n{text}\n{fence}'
            return f'<details><summary>{escaping.escape(title)}</summary>\n\n{code}\n\n</details>' if title else code
        case Card(facts):
            return '\n'.join(map(_markdown_fact, facts))
        case Fold(title, inner):
            within = '\n\n'.join(map(_markdown, inner))
            return f'<details><summary>{escaping.escape(title)}</summary>\n\n{within}\n\n</details>'


def _markdown_fact(fact: Fact) -> str:
    return f'- {_plain(fact.label)}: **{_inline(fact.value)}**' + (f' – {_inline(fact.note)}' if fact.note else '')


def _markdown_cell(cell: str | TableCell) -> str:
    text = _inline(as_cell(cell).text)
    return f'**{text}**' if as_cell(cell).best else text


def _plain(text: str) -> str:
    """`text` as a paragraph, which is no heading, quotation or list whatever it begins with."""
    return AT_START.sub(r'\\\g<0>', _inline(text))


def _inline(text: str) -> str:
    """`text` on one line, with the characters that Markdown, or mathematics in it, would read as its own escaped.

    Brackets are left alone where they make no link, as those of an interval, and `_` between letters, which is no
    emphasis there.
    """
    return OF_MARKDOWN.sub(r'\\\g<0>', ' '.join(text.split()))


def _html(block: Block, pictures: Mapping[str, bytes]) -> str:
    match block:
        case Heading(text, level):
            return f'<h{level} id="{anchor(text)}">{escaping.escape(text)}</h{level}>'
        case Text(text):
            return f'<p>{escaping.escape(text)}</p>'
        case Items(items):
            return '<ul>\n' + '\n'.join(f'<li>{escaping.escape(item)}</li>' for item in items) + '\n</ul>'
        case Table():
            return _html_table(block)
        case Picture(file, says, drawn):
            data = base64.b64encode(pictures[file]).decode()
            says = escaping.escape(says)
            kind = ' class="drawn"' if drawn else ''
            image = f'<img{kind} src="data:image/png;base64,{data}" alt="{says}">'
            return f'<figure>{image}<figcaption>{says}</figcaption></figure>'
        case Listing(title, text):
            code = f'<pre tabindex="0">{escaping.escape(text)}</pre>'
            return f'<details><summary>{escaping.escape(title)}</summary>{code}</details>' if title else code
        case Card(facts):
            return f'<dl class="card">{"".join(map(_html_fact, facts))}</dl>'
        case Fold(title, inner):
            return f'<details><summary>{escaping.escape(title)}</summary>\n{_html_all(inner, pictures)}\n</details>'


def _html_all(blocks: Sequence[Block | str], pictures: Mapping[str, bytes]) -> str:
    return '\n'.join(block if isinstance(block, str) else _html(block, pictures) for block in blocks)


def _with_contents(blocks: Sequence[Block]) -> list[Block | str]:
    """The blocks of a page with three sections or more, and before the first of them links to all."""
    sections = [block for block in blocks if isinstance(block, Heading) and block.level == 2]
    if len(sections) < 3:
        return list(blocks)
    links = ''.join(f'<a href="#{anchor(title)}">{escaping.escape(title)}</a> ' for title, _ in sections)
    first = blocks.index(sections[0])
    return [*blocks[:first], f'<nav aria-label="contents">{links}</nav>', *blocks[first:]]


def _html_fact(fact: Fact) -> str:
    label, value, note = map(escaping.escape, (fact.label, fact.value, fact.note))
    return f'<div class="{fact.meant or "fact"}"><dt>{label}</dt><dd><b>{value}</b><span>{note}</span></dd></div>'


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
    text = escaping.escape(as_cell(cell).text)
    content = f'<strong>{text}</strong>' if as_cell(cell).best else text
    if not isinstance(cell, TableCell):
        return f'<td class="{side}">{content}</td>'
    value = escaping.escape('' if cell.value is None else str(cell.value))
    return f'<td class="{side}" data-value="{value}">{content}</td>'


def _rich(block: Block) -> RenderableType:
    match block:
        case Heading(text, level):
            return RichText('\n' * (level > 1) + text, style='bold')
        case Items(items):
            return _rich_list(items)
        case Table():
            return _rich_table(block)
        case _:
            return RichText(str(block[0]))


def _rich_list(items: Sequence[str]) -> RichTable:
    grid = RichTable.grid(padding=(0, 1))
    for item in items:
        grid.add_row('-', RichText(item))  # a column of its own, so that what wraps stays beside its dash
    return grid


def _rich_table(table: Table) -> RichTable:
    rich = RichTable(title=RichText(table.caption), title_justify='left', box=SIMPLE_HEAD, pad_edge=False)
    for name, side in zip(table.header, table.align, strict=True):
        rich.add_column(RichText(name), justify='right' if side == 'r' else 'left', no_wrap=side == 'r')
    for row in table.rows:
        rich.add_row(*(RichText(cell.text, style='bold' if cell.best else '') for cell in map(as_cell, row)))
    return rich
