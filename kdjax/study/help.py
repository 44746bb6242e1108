"""What `--help` says: usage, modes, examples and flags; with a config file, its docstring and its fields.

Without JAX, so that the answer comes at once.
"""

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

ASKED = ('-h', '--help', '-help', 'help')
WIDTH = 110
EXAMPLES = (
    ('python run.py', 'handwritten digits, about a minute: teacher, students, report'),
    ('python run.py --config=configs/digits.py:quick', 'a look at the machinery, in seconds'),
    ('python run.py --config=configs/digits.py --mode=plan', 'what would run, and what it would cost'),
    ('python run.py --config.terms.soft.temperature=8 --config.seeds=5', 'every field of a config is a flag'),
    ('python run.py --config=configs/sweeps/temperature.py --mode=sweep', 'an ablation, compared by statistics'),
    ('python run.py --config=configs/preset.py --help', 'what a config is about, its fields and their meaning'),
)


def general(modes: Mapping[str, str], flags: Mapping[str, str]) -> str:
    """Usage, modes, examples and flags.

    Args:
      modes: mode -> what it does.
      flags: flag -> what it says.
    """
    return '\n'.join([
        'usage: python run.py [--config=FILE[:ARGUMENTS]] [--config.FIELD=VALUE ...] [--workdir=DIR] [--mode=MODE]',
        '',
        'Distils a large network into a small one: trains the teacher, keeps what it says, trains students, reports.',
        'The same command goes on where it was stopped, and trains nothing twice.',
        '',
        'modes:', *_columns(modes),
        '', 'examples:', *_columns({command: what for command, what in EXAMPLES}),
        '', 'flags:', *_columns({f'--{name}': what for name, what in flags.items()}),
        '', 'Exit codes: 0 done, 1 an acceptance bar was missed, 2 unusable input, 3 a program fault, 130 stopped.',
    ])  # fmt: skip


def of_config(path: str, config: ConfigDict, base: Path) -> str:
    """The docstring of a config file, and all its fields with their values and what they mean.

    Args:
      path: of the file.
      config: what it returns.
      base: the file that has the defaults, whose comments say what fields mean.
    """
    docstring = ast.get_docstring(ast.parse(Path(path).read_text())) or 'This file has no docstring.'
    return '\n'.join([f'{path}: {docstring}', '', 'fields:', *_fields(config, comments(base))])


def comments(base: Path) -> dict[str, str]:
    """Comments of the fields of the defaults by dotted name, '*' for any: {'fits.*.steps': 'updates'}."""
    source = base.read_text()
    lines = source.splitlines()
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}

    def walk(table: ast.Dict, prefix: str) -> Iterator[tuple[str, str]]:
        for key, value in zip(table.keys, table.values, strict=True):
            if not isinstance(key, ast.Constant):
                continue
            name = prefix + str(key.value)
            yield name, _comment(lines, key.lineno, value.end_lineno or key.lineno)
            inner = value.func.id if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) else ''
            if inner in functions:
                yield from fields(inner, f'{name}.')
            elif isinstance(value, ast.Dict):
                yield from walk(value, f'{name}.')

    def fields(function: str, prefix: str) -> Iterator[tuple[str, str]]:
        for node in ast.walk(functions[function]):
            call = node.value if isinstance(node, ast.Return) else None
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Dict):
                yield from walk(call.args[0], prefix)

    return {
        **dict(fields('fit', 'fits.*.')),
        **dict(fields('teacher', 'assistants.*.')),
        **{name: said for name, said in fields('config', '') if said},
    }


def _comment(lines: list[str], start: int, end: int) -> str:
    """What stands behind a field on its line, or in the lines above it."""
    behind = re.search(r'\s#\s(.*)$', lines[start - 1])
    if behind:
        return behind[1]
    above: list[str] = []
    for line in reversed(lines[: start - 1]):
        if not line.strip().startswith('# '):
            break
        above.insert(0, line.strip()[2:])
    return ' '.join(above)


def _fields(config: ConfigDict, said: Mapping[str, str]) -> Iterator[str]:
    told: set[str] = set()  # each meaning once: every fit has the same fields
    for name, value in _flat(config):
        meaning = said.get(name) or said.get(re.sub(r'^(fits|assistants)\.[^.]+', r'\1.*', name), '')
        yield f'  {name} = {value!r}'
        if meaning and meaning not in told:
            told.add(meaning)
            yield from textwrap.wrap(meaning, WIDTH, initial_indent=' ' * 6, subsequent_indent=' ' * 6)


def _flat(config: ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, ConfigDict) and len(value):
            yield from _flat(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value.to_dict() if isinstance(value, ConfigDict) else value


def _columns(table: Mapping[str, str]) -> Iterator[str]:
    """Names, and beside each what it is."""
    wide = min(24, max(map(len, table)) + 2)
    for name, what in table.items():
        if len(name) + 2 > wide:
            yield f'  {name}'
            name = ''
        indent = ' ' * (wide + 2)
        first = f'  {name:<{wide}}'
        yield from textwrap.wrap(what, WIDTH, initial_indent=first, subsequent_indent=indent)
