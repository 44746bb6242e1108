"""What the site is made of beside the files in docs/: sections and pages of the repository, and pages from the code.

A page in docs/ takes a section of another file over with `<!-- section FILE: HEADING -->`, so that what is said is said
in one place. Pages of the repository stand at the same relative path on the site, with the files that they link to.
"""

import json
import posixpath
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import techniques

from configs import base
from kdjax.study import help

PAGES = ('CONTRIBUTING.md', 'CHANGELOG.md', *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('experiments/*/README.md')))
SECTION = re.compile(r'^<!-- section (\S+): (.+) -->$', re.MULTILINE)
LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)')
equations: dict[str, str] = {}  # of all generated pages, by what stands for each in Markdown


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages of the repository, those that are made from the code, and what all of them link to."""
    made = {page: (ROOT / page).read_text() for page in PAGES}
    made |= techniques.pages(equations)
    made['config.md'] = fields()
    for path, text in made.items():
        files.append(File.generated(config, path, content=resolved(text, path)))
    own = {file.src_uri: Path(file.abs_src_path).read_text() for file in files.documentation_pages() if file.src_uri not in made}
    for path, text in [*made.items(), *own.items()]:
        for target in linked(resolved(text, path), path):
            if files.get_file_from_path(target) is None:
                files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Pages of docs/ with the sections that they take over."""
    return resolved(markdown, page.file.src_uri)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Equations, which Markdown must not look into."""
    return re.sub(r'EQUATION\d+E', lambda found: equations[found[0]], html)


def resolved(text: str, path: str) -> str:
    """The text of a page at `path` of the site: with its sections, and with links that lead to pages of the site."""
    if path not in PAGES:
        text = SECTION.sub(lambda found: section(found[1], found[2]), text)
    return LINK.sub(lambda found: _link(found, path), text)


def section(file: str, heading: str) -> str:
    """A section of a file up to its next heading, as one of the second level, its links as from the root.

    Raises:
      PluginError: there is none.
    """
    found = re.search(rf'^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)', _without_code((ROOT / file).read_text()), re.MULTILINE | re.DOTALL)
    if not found:
        raise PluginError(f'{file} has no section {heading!r}')
    folder = posixpath.dirname(file)
    text = LINK.sub(lambda link: f'{link[1]}[{link[2]}]({_from_root(link[3], folder)})', found[1].replace('\0', '#'))
    return f'## {heading}\n{text}'


def _without_code(text: str) -> str:
    """Comments in code, which look like headings, masked."""
    return re.sub(r'^```.*?^```', lambda code: code[0].replace('#', '\0'), text, flags=re.MULTILINE | re.DOTALL)


def _from_root(target: str, folder: str) -> str:
    return target if _outside(target) else posixpath.normpath(posixpath.join(folder, target))


def _outside(target: str) -> bool:
    return target.startswith(('#', 'http:', 'https:', 'mailto:'))


def _link(found: re.Match[str], path: str) -> str:
    """A link of a page; from docs/ to the rest of the repository it is one floor lower here, and folders are no pages."""
    target, hash_, anchor = found[3].partition('#')
    if _outside(found[3]):
        return found[0]
    if path not in PAGES and target.startswith('../') and not (ROOT / 'docs' / posixpath.dirname(path) / target).resolve().is_relative_to(ROOT / 'docs'):
        target = target.removeprefix('../')
    place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if (ROOT / place).is_dir():
        return found[2]
    if place == 'README.md':
        target = posixpath.relpath('index.md', posixpath.dirname(path) or '.')
    return f'{found[1]}[{found[2]}]({target}{hash_}{anchor})'


def linked(text: str, path: str) -> Iterator[str]:
    """Files of the repository that a page links to, and that are no pages."""
    for found in LINK.finditer(text):
        target = found[3].partition('#')[0]
        if target and not _outside(target):
            place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if not place.startswith('..') and not place.endswith('.md') and (ROOT / place).is_file():
                yield place


def fields() -> str:
    """A page of every field of a config."""
    said = help.comments(ROOT / 'configs' / 'base.py')
    lines = [
        '# Every field of a config', '',
        'With its default, its unit and its reason, from [`configs/base.py`](configs/base.py). Any of them is a flag:',
        '`--config.terms.soft.temperature=8`. A star stands for every fit, or every assistant.', '',
        '| field | default | |', '| --- | --- | --- |',
    ]  # fmt: skip
    for name, value in _flat(base.config()):
        meaning = re.sub(r'([|<>_*])', r'\\\1', said.get(name, ''))
        lines.append(f'| `{name}` | `{json.dumps(value, default=str) if not isinstance(value, str) else value!r}` | {meaning} |')
    return '\n'.join(lines)


def _flat(config: Any, prefix: str = '') -> Iterable[tuple[str, Any]]:
    told = set()
    for name, value in config.items():
        key = f'{prefix}{name}'
        if prefix == 'fits.' or key == 'teacher.fit':
            key = 'fits.*' if prefix == 'fits.' else key
            if key in told or key == 'teacher.fit':
                continue
            told.add(key)
        if hasattr(value, 'items') and len(value) and key not in ('terms', 'methods', 'track', 'search') and not key.endswith(('.optim', '.weights', '.args')):
            yield from _flat(value, f'{key}.')
        else:
            yield key, value.to_dict() if hasattr(value, 'to_dict') else value
