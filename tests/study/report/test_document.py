"""A table is the same table in every rendering, and says what it may: checked on hostile cells."""

import base64
import configparser
import csv
import hashlib
import html.parser
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from kdjax.study.report import document, latex
from kdjax.study.report.document import Card, Fact, Fold, Heading, Items, Picture, Table, TableCell, Text

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = 'a_b & 50 % of #1 {x} ~ ^2 \\ $y$ <i>|"q"'
PLAIN = Table('Plain', 'lr', ('name', 'value'), (('one', '1'), ('two', '2')))
RICH = Table(
    'Gains ± sd',
    'lrl',
    ('method', 'gain', 'note'),
    (
        (TableCell(HOSTILE, HOSTILE), TableCell('+1.25 ↑', 0.0125, best=True), 'first'),
        (TableCell('τ = 4', 'τ = 4'), TableCell('-0.50 ↓', -0.005), 'second'),
        (TableCell('none', 'none'), TableCell('–', None), 'third'),
    ),
)


class Cells(html.parser.HTMLParser):
    """Cells of a page: (tag, attributes, text), as a browser reads them."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag in ('th', 'td'):
            self.open = (tag, dict(attributes), [], [])
        elif self.open:
            self.open[3].append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.open:
            self.open[2].append(data)

    def handle_endtag(self, tag):
        if tag in ('th', 'td'):
            self.found.append((*self.open[:2], ''.join(self.open[2]), self.open[3]))
            self.open = None


def cells(page, tag):
    return [cell for cell in Cells(page).found if cell[0] == tag]


def test_csv_holds_values_not_texts():
    rows = list(csv.reader(io.StringIO(document.csv(RICH), newline='')))
    assert rows[0] == ['method', 'gain', 'note']
    assert rows[1:] == [[HOSTILE, '0.0125', 'first'], ['τ = 4', '-0.005', 'second'], ['none', '', 'third']]


def test_csv_keeps_every_digit():
    value = 0.1 + 0.2
    table = Table('', 'r', ('x',), ((TableCell('0.30', value),),))
    assert float(list(csv.reader(io.StringIO(document.csv(table))))[1][0]) == value


def test_markdown_makes_the_best_bold_and_nothing_else():
    said = document.markdown([RICH])
    assert '| **+1.25 ↑** |' in said
    assert said.count('**') == 2


def test_html_sorts_by_value():
    heads, body = cells(document.html('t', [RICH], {}), 'th'), cells(document.html('t', [RICH], {}), 'td')
    assert [head[2] for head in heads] == ['method', 'gain', 'note']
    assert all(head[3] == [('button', {'type': 'button'})] for head in heads)
    assert not any('aria-sort' in head[1] for head in heads)  # nothing is sorted yet
    assert [cell[1].get('data-value') for cell in body[:3]] == [HOSTILE, '0.0125', None]
    assert body[7][1]['data-value'] == ''
    assert body[1][3] == [('strong', {})]
    assert [cell[2] for cell in body[:3]] == [HOSTILE, '+1.25 ↑', 'first']


def test_a_table_without_values_has_neither_buttons_nor_script():
    page = document.html('t', [PLAIN], {})
    assert '<script' not in page
    assert 'script-src' not in page
    assert '<button' not in page
    assert 'data-value' not in page


def test_the_policy_allows_this_script_and_no_other():
    page = document.html('t', [PLAIN, RICH], {})
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
    (script,) = re.findall(r'<script>(.*?)</script>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    directives = dict(part.split(' ', 1) for part in policy.split('; '))
    assert directives == {
        'default-src': "'none'",
        'img-src': 'data:',
        'style-src': "'unsafe-inline'",
        'script-src': f"'sha256-{digest}'",
    }
    assert not re.search(r'\son\w+=|https?://', page)


def test_assets_go_into_the_wheel():
    """Whatever stands beside the code is named as package data, or an installed kdjax has no report."""
    options = configparser.ConfigParser()
    options.read(ROOT / 'setup.cfg')
    (pattern,) = options['options.package_data']['kdjax.study.report'].split()
    packed = {path.name for path in (ROOT / 'kdjax' / 'study' / 'report').glob(pattern)}
    assert packed == {'report.css', 'report.html', 'report.js'}
    for name in packed:
        assert document.asset(name)


def test_long_tables_scroll_below_their_header():
    long = PLAIN._replace(rows=PLAIN.rows * document.LONG)
    assert 'class="scroll long"' in document.html('t', [long], {})
    assert 'class="scroll"' in document.html('t', [PLAIN], {})


def test_terminal_shows_the_texts():
    console = Console(width=120, file=io.StringIO())
    console.print(document.terminal([RICH]))
    said = console.file.getvalue()
    assert HOSTILE in said
    assert '+1.25 ↑' in said


def unescaped(text):
    """LaTeX's special characters that are still special: outside of $...$ and not behind a backslash."""
    text = re.sub(r'\\textbackslash\{\}|\\[a-z]+\{\}|\\[%&$#_{}]', '', text)
    return re.findall(r'[&%#_^~]', re.sub(r'\$[^$]*\$', '', text))


def test_latex_escapes_everything_that_is_special():
    said = latex.latex([RICH])
    line = next(line for line in said.splitlines() if 'first' in line)
    expected = (
        r'a\_b \& 50 \% of \#1 \{x\} \textasciitilde{} \textasciicircum{}2 \textbackslash{} \$y\$ $<$i$>$$|$'
        r'"q" & \textbf{+1.25 $\uparrow$} & first \\'
    )
    assert line == expected
    assert unescaped(line) == ['&', '&']


def test_latex_sets_minus_and_greek_as_mathematics():
    said = latex.latex([RICH])
    assert r'$\tau$ = 4 & $-$0.50 $\downarrow$ & second \\' in said
    assert r'\caption{Gains $\pm$ sd}' in said
    assert 'none & -- & third' in said


@pytest.mark.parametrize('rows', [1, latex.PAGE + 1])
def test_latex_has_booktabs_structure(rows):
    said = latex.latex([Heading('x'), Text('y'), PLAIN._replace(rows=PLAIN.rows[:1] * rows)])
    kind = 'tabular' if rows == 1 else 'longtable'
    begun, ended = (re.findall(rf'\\{word}\{{(\w+)\}}', said) for word in ('begin', 'end'))
    assert sorted(begun) == sorted(ended)
    assert kind in begun
    assert r'{@{}lr@{}}' in said
    order = [said.index(rule) for rule in (r'\toprule', r'\midrule')]
    assert order == sorted(order)
    assert said.count(r'\bottomrule') == 1
    assert said.count(r'one & 1 \\') == rows
    lines = [line for line in said.splitlines() if line.endswith(r' \\')]
    assert {line.count('&') for line in lines} == {1}


def test_latex_holds_tables_only():
    said = latex.latex([Heading('Title'), Text('words'), Items(('item',)), Picture('a.png', 'says')])
    assert said == latex.PREAMBLE


@pytest.mark.parametrize('start', ['[a', '*a'])
def test_a_line_break_takes_no_argument_from_the_next_row(start):
    said = latex.latex([PLAIN._replace(rows=((start, '1'),))])
    assert '\n{}' + start in said


def test_what_is_folded_is_in_the_page_and_among_the_tables():
    page = [Fold('How <to>', (Text('some prose'), PLAIN)), Card((Fact('gain', '+1', 'of *x*', 'good'),))]
    said = document.html('t', page, {})
    assert '<details><summary>How &lt;to&gt;</summary>' in said
    assert '<div class="good"><dt>gain</dt><dd><b>+1</b><span>of *x*</span></dd></div>' in said
    assert 'some prose' in document.markdown(page)
    assert '- gain: **+1** – of \\*x\\*' in document.markdown(page)
    assert r'one & 1 \\' in latex.latex(page)
    console = Console(width=80, file=io.StringIO())
    console.print(document.terminal(page))
    assert 'prose' not in console.file.getvalue()


def test_sections_can_be_linked_to():
    said = document.html('t', [Heading('T', 1), *(Heading(f'What it is {place}') for place in range(3))], {})
    assert said.index('<nav') < said.index('<h2 id="what-it-is-0">')
    assert '<a href="#what-it-is-2">What it is 2</a>' in said
    assert '<nav' not in document.html('t', [Heading('one')], {})


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('$x$ a_b _c_', r'\$x\$ a_b \_c\_'),
        ('[a](b) ![c](d)', r'[a\](b) \![c\](d)'),
        ('+0.1 [0.0, 0.2]', '+0.1 [0.0, 0.2]'),
        ('# x', r'\# x'),
        ('= x', r'\= x'),
        ('1. x', r'1\. x'),
        ('0.200', '0.200'),
        ('[a]: b', r'[a\]: b'),
        ('&amp; ~~x~~', r'\&amp; \~\~x\~\~'),
    ],
)
def test_markdown_reads_no_name_as_its_own(text, said):
    assert document.markdown([Text(text)]) == f'{said}\n'


def test_a_listing_ends_where_it_ends():
    said = document.markdown([document.Listing('code', 'a\n`````\nb')])
    assert said.count('``````') == 2


@pytest.mark.parametrize('name', ['=1+1', '+x', '-x', '@x', '\tx'])
def test_a_spreadsheet_computes_no_name(name):
    rows = list(
        csv.reader(
            io.StringIO(
                document.csv(Table('', 'lr', ('a', 'b'), ((TableCell(name, name), TableCell('-1', -1.0)),))), newline=''
            )
        )
    )
    assert rows[1] == [f"'{name}", '-1.0']
