"""Sections and links of the repository's pages, as they stand on the site."""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Pages of the repository, which stand at the same relative path on the site.
PAGES = (
    'CONTRIBUTING.md',
    'CHANGELOG.md',
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('experiments/*/README.md')),
)
SECTION = re.compile(r'^<!-- section (\S+): (.+) -->$', re.MULTILINE)
LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)')


def resolved(text: str, path: str) -> str:
    """The text of a page at `path` of the site: with its sections, and with links that lead to pages of the site."""
    if path not in PAGES:
        text = SECTION.sub(lambda found: section(found[1], found[2]), text)
    text = text.replace('\\<', '&lt;')  # Python's Markdown knows no such escape
    return LINK.sub(lambda found: _link(found, path), text)


def section(file: str, heading: str) -> str:
    """A section of a file up to its next heading, as one of the second level, its links as from the root.

    Raises:
      LookupError: there is none.
    """
    pattern = rf'^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)'
    found = re.search(pattern, _without_code((ROOT / file).read_text()), re.MULTILINE | re.DOTALL)
    if not found:
        raise LookupError(f'{file} has no section {heading!r}')
    folder = posixpath.dirname(file)
    text = LINK.sub(lambda link: f'{link[1]}[{link[2]}]({_from_root(link[3], folder)})', found[1].replace('\0', '#'))
    return f'## {heading}\n{text}'


def _without_code(text: str) -> str:
    """Comments in code, which look like headings, masked."""
    return re.sub(r'^```.*?^```', lambda code: code[0].replace('#', '\0'), text, flags=re.MULTILINE | re.DOTALL)


def _from_root(target: str, folder: str) -> str:
    """A link as from the root of the site, where the pages of docs/ lie."""
    return target if _outside(target) else posixpath.normpath(posixpath.join(folder, target)).removeprefix('docs/')


def _outside(target: str) -> bool:
    return target.startswith(('#', 'http:', 'https:', 'mailto:'))


def _link(found: re.Match[str], path: str) -> str:
    """A link of a page; from docs/ the rest of the repository is one floor lower here, and folders are no pages."""
    target, hash_, anchor = found[3].partition('#')
    if _outside(found[3]):
        return found[0]
    docs = ROOT / 'docs'
    if path not in PAGES and not (docs / posixpath.dirname(path) / target).resolve().is_relative_to(docs):
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
