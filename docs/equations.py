"""What docstrings write on one line, such as `T^2 KL(p^t_T || p^s_T)`, as equations in LaTeX."""

import re
from typing import NamedTuple

GREEK = {
    'alpha', 'beta', 'gamma', 'delta', 'epsilon', 'eta', 'theta', 'lambda', 'mu', 'nu', 'xi', 'pi', 'rho', 'sigma',
    'tau', 'phi', 'psi', 'omega', 'Phi', 'Sigma', 'Delta', 'Lambda',
}  # fmt: skip
FUNCTIONS = {'log', 'exp', 'max', 'min', 'tanh', 'cos', 'sum', 'argmax'}
# Words that are the name of something in an equation wherever they stand.
NAMES = {'KL', 'CE', 'JSD', 'MSE', 'softmax', 'sigmoid', 'mean', 'vec', 'std', 'sqrt', *FUNCTIONS}
SIGNS = {
    '||': r'\|', '!=': r'\neq ', '>=': r'\geq ', '<=': r'\leq ', '->': r'\to ', '...': r'\ldots ', '*': r'\cdot ',
    '{': r'\{', '}': r'\}', '%': r'\%', '&': r'\&', '#': r'\#',
}  # fmt: skip
# What is left as it is: shapes, citations, links, code, what is quoted.
KEPT = re.compile(
    r'(?P<shape>\(B,[^()]*\))|\([^()]*\b(?:eqs?|secs?|algs?|figs?|tables?|paper|code)\b[^()]*\)|\[[^\]]*\]\([^)]*\)'
    r'|`[^`]*`|\"[^\"]*\"|\*\w+\*'
)
# Code that docstrings do not mark as such: names of several words, of a place, calls with text.
CODE = re.compile(rf"\b(?!(?:{'|'.join(NAMES)})_)[A-Za-z]{{3,}}_\w{{2,}}|\b\w{{3,}}\.\w{{3,}}|\w{{3,}}=\S|[\[(]'")
PROSE = re.compile(r"""[('"]*[A-Za-zÀ-ÿ][A-Za-zÀ-ÿ0-9'’+-]+['")]*[.,:;)]*|'[^']*'[.,:;]?|[aAI]""")
OPERATOR = re.compile(r'[-+*/=<>]')
NUMBER = re.compile(r'-?\d[\dxe.-]*[a-z]?|-+|[A-Za-z]\)')  # with perhaps a unit or a letter of a list: no equation
# Words one after the other in an equation, which keep their spaces.
WORD = rf"(?!(?:{'|'.join(GREEK | NAMES)})\b)[a-z]{{2,}}(?:'s)?"
WORDS = re.compile(rf"(?<![\w⟨']){WORD}(?: {WORD})+(?![\w'])")


class Equation(NamedTuple):
    """An equation in a paragraph."""

    written: str  # in the docstring
    latex: str


Part = str | Equation


def typeset(text: str) -> list[Part]:
    """A paragraph of prose and equations, in parts: prose as text, and equations."""
    parts: list[Part] = []
    place = 0
    for kept in [*KEPT.finditer(text), None]:
        parts += _typeset(text[place : kept.start() if kept else len(text)])
        if kept:
            parts.append(f'`{kept[0]}`' if kept['shape'] else kept[0])
            place = kept.end()
    return parts


def _typeset(text: str) -> list[Part]:
    """What is no prose is an equation, up to the next word or to what ends a clause."""
    parts: list[Part] = []
    run = ''
    tokens = re.split(r'(\s+)', text)
    for token, after in zip(tokens, [*tokens[2:], '', ''], strict=False):
        if token.isspace() or (token and not _prose(token, run, after)):
            run += token
            if not re.search(r'[;:]$|[^\s.]\.$', token) or _open(run):
                continue
            token = ''
        parts += [*_equation(run), token]
        run = ''
    return [*parts, *_equation(run)]


def _open(run: str) -> bool:
    """Whether an equation has opened a bracket that it has not closed."""
    return any(run.count(begin) > run.count(end) for begin, end in ('()', '[]'))


def _prose(token: str, run: str, after: str) -> bool:
    """Whether a token is a word: one beside an operator, or in brackets, is of the equation."""
    if token.strip('.,:;-(') in GREEK | NAMES or _open(run) or re.search(r'\S\s+[-+*/=<>]\s*$', run):
        return False
    beside = after != '-' and OPERATOR.fullmatch(after) and not token.endswith(',')
    return PROSE.fullmatch(token) is not None and not beside


def _equation(run: str) -> list[Part]:
    """An equation between the spaces and the punctuation around it; text where it is none, or not closed."""
    before, body, after = re.fullmatch(r'([\s.,:;]*)(.*?)([\s.,:;]*)', run, re.DOTALL).groups()  # type: ignore[union-attr]
    closed = all(body.count(begin) == body.count(end) for begin, end in ('()', '[]', '{}'))
    if not closed or not re.search(r'[A-Za-z]', body) or NUMBER.fullmatch(body):
        return [run]
    if body in NAMES or (body.isalpha() and len(body) > 2 and body not in GREEK):
        return [run]
    if CODE.search(body):
        return [f'{before}`{body}`{after}']
    return [before, Equation(body, latex(body)), after]


def latex(text: str) -> str:
    """An equation in LaTeX.

    Indices that are one word are upright from three letters on, as in L_soft; 'ij' are two indices.
    """
    text = re.sub(r'\s+', ' ', text)
    text = re.sub(r'([_^])(\(\w\))', lambda index: f'{index[1]}⟨{index[2]}⟩', text)
    text = re.sub(r'([_^])\{([^{}]*)\}', lambda group: f'{group[1]}⟨{group[2]}⟩', text)
    text = re.sub(r'([_^])(-?\d+|[A-Za-z]+\d*|\*)(?![A-Za-z])', lambda index: f'{index[1]}⟨{index[2]}⟩', text)
    text = re.sub(r'(?<![\w^])1/2(?!\w)', '½', text)
    text = re.sub(r' \. ', ' * ', text)
    text = WORDS.sub(lambda words: rf'\text⟨ {words[0]} ⟩', text)
    pattern = '|'.join(map(re.escape, sorted(SIGNS, key=len, reverse=True)))
    text = re.sub(rf'\\text⟨[^⟩]*⟩|[A-Za-z]+|{pattern}', lambda found: _symbol(found[0]), text)
    return text.replace('⟨', '{').replace('⟩', '}').replace('½', r'\tfrac{1}{2} ')


def _symbol(word: str) -> str:
    if word.startswith('\\text'):
        return word
    if word in SIGNS:
        return SIGNS[word]
    if word in GREEK:
        return f'\\{word} '
    if word in FUNCTIONS - {'argmax'}:
        return f'\\{word} '
    return word if len(word) < 3 and word not in NAMES else rf'\mathrm{{{word}}}'
