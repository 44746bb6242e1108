"""What the site is made of beside the files in docs/: sections and pages of the repository, and pages from the code.

A page in docs/ takes a section of another file over with `<!-- section FILE: HEADING -->`, so that what is said is said
in one place. Pages of the repository stand at the same relative path on the site, with the files that they link to.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from ml_collections import ConfigDict

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import techniques
from sections import PAGES, linked, resolved

from configs import base
from kdjax.study import help
from kdjax.study.listing import GROUPS

WHOLE = ('terms', 'methods', 'track', 'teacher.fit')  # fields of a config that are shown as one
equations: dict[str, str] = {}  # of all generated pages, by what stands for each in Markdown


def on_config(config: Any) -> Any:
    """Adds the groups of techniques, and experiments that the menu does not name."""
    menu = {title: pages for section in config.nav for title, pages in section.items()}
    menu['Techniques'] += [{title.partition(':')[0]: f'techniques/{group}.md'} for group, title in GROUPS.items()]
    menu['Results'] += [page for page in PAGES if page not in str(config.nav)]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages of the repository, those that are made from the code, and what all of them link to."""
    made = {page: (ROOT / page).read_text() for page in PAGES}
    made |= techniques.pages(equations)
    made['config.md'] = fields()
    for path, text in made.items():
        files.append(File.generated(config, path, content=resolved(text, path)))
    ours = [file for file in files.documentation_pages() if file.src_uri not in made]
    for path, text in [*made.items(), *((file.src_uri, file.content_string) for file in ours)]:
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
        lines.append(f'| `{name}` | `{value!r}` | {meaning} |')
    return '\n'.join(lines)


def _flat(config: ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Fields by dotted name; those of a fit once, as of any fit; terms and methods, which are examples, as they are."""
    for name, value in config.items():
        key = f'{prefix}{name}'
        if key == 'fits':
            yield from _flat(value.baseline, 'fits.*.')
        elif isinstance(value, ConfigDict) and len(value) and not prefix.startswith('fits') and key not in WHOLE:
            yield from _flat(value, f'{key}.')
        elif key != 'teacher.fit':
            yield key, value.to_dict() if isinstance(value, ConfigDict) else value
