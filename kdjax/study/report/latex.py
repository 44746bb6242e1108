r"""Tables as LaTeX, for a paper: booktabs, and longtable where one page is not enough.

A fragment for \input, in the document's own font. Characters that LaTeX would read as its own are escaped, and what
pdflatex has no letter for is set in mathematics.
"""

import re
import unicodedata
from collections.abc import Sequence

from kdjax.study.report.document import Block, Table, TableCell, as_cell, flat

PREAMBLE = '% In the preamble: \\usepackage{booktabs, graphicx, longtable}\n'
PAGE = 40  # rows
FITTED = '\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}'  # no wider than the text
SPECIAL = {
    '\\': '\\textbackslash{}', '{': '\\{', '}': '\\}', '%': '\\%', '&': '\\&', '$': '\\$', '#': '\\#', '_': '\\_',
    '~': '\\textasciitilde{}', '^': '\\textasciicircum{}', '<': '$<$', '>': '$>$', '|': '$|$',
    '±': '$\\pm$', '×': '$\\times$', '→': '$\\rightarrow$', '↑': '$\\uparrow$', '↓': '$\\downarrow$',
    '≤': '$\\leq$', '≥': '$\\geq$', '−': '$-$', '²': '$^2$', '–': '--', '—': '---', '…': '\\ldots{}', '\u2009': '\\,',
    'ς': '$\\varsigma$', 'ο': 'o',
}  # fmt: skip


def latex(blocks: Sequence[Block]) -> str:
    """All tables among the blocks, one after the other."""
    return '\n'.join([PREAMBLE, *(_table(block) for block in flat(blocks) if isinstance(block, Table))])


def _table(table: Table) -> str:
    header, *body = (_row(row) for row in (table.header, *table.rows))
    columns, caption = '@{}' + table.align + '@{}', f'\\caption{{{_escape(table.caption)}}}'
    head, rows = f'\\toprule\n{header}\n\\midrule', '\n'.join(body)
    if len(body) > PAGE:  # what spans pages cannot be scaled as a whole
        return (
            f'\\begingroup\n\\footnotesize\n\\setlength{{\\tabcolsep}}{{3pt}}\n\\begin{{longtable}}{{{columns}}}\n'
            f'{caption}\\\\\n{head}\n\\endfirsthead\n{head}\n\\endhead\n\\bottomrule\n\\endfoot\n'
            f'{rows}\n\\end{{longtable}}\n\\endgroup\n'
        )
    return (
        f'\\begin{{table}}\n\\centering\n{caption}\n{FITTED}{{%\n\\begin{{tabular}}{{{columns}}}\n{head}\n{rows}\n'
        '\\bottomrule\n\\end{tabular}}\n\\end{table}\n'
    )


def _row(cells: Sequence[str | TableCell]) -> str:
    line = ' & '.join(map(_cell, cells)) + ' \\\\'
    return '{}' + line if line.startswith(('[', '*')) else line  # the line break before it would take these as its own


def _cell(cell: str | TableCell) -> str:
    text = _escape(as_cell(cell).text)
    return f'\\textbf{{{text}}}' if as_cell(cell).best else text


def _escape(text: str) -> str:
    text = ''.join(map(_letter, ' '.join(text.split())))
    return re.sub(r'(?<![\w-])-(?=[\d.])', '$-$', text)  # a minus is longer than a hyphen


def _letter(letter: str) -> str:
    greek = re.fullmatch(r'GREEK SMALL LETTER (\w+)', unicodedata.name(letter, ''))
    if greek and letter not in SPECIAL:
        return '$\\' + greek[1].lower().replace('lamda', 'lambda') + '$'
    return SPECIAL.get(letter, letter)
