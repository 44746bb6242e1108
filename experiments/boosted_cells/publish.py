"""Makes a finished sweep the one that the project shows.

Command: python experiments/boosted_cells/publish.py [WORKDIR]

Writes results/boosted.json and the part of README.md between the marks. A test holds the one to the other.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments import students
from experiments.boosted_cells import config
from experiments.pages import difference, filled, percent
from experiments.students import accuracies, arm
from kdjax.study.report import document, formatting, statistics
from kdjax.study.sweep import expand

Results = Mapping[str, Any]

BEGIN = '<!-- results: written by experiments/boosted_cells/publish.py -->'
# What is asked: a sentence, one teacher and the other.
QUESTIONS = (
    ('Trees help', 'trees', ''),
    ('Trees out of fold help', 'trees, out of fold', ''),
    ('A network helps', 'network', ''),
    ('A network out of fold helps', 'network, out of fold', ''),
    ('Out of fold trees teach better', 'trees, out of fold', 'trees'),
    ('Trees out of fold teach better than a network out of fold', 'trees, out of fold', 'network, out of fold'),
)


def of(found: Results, labels: int, teacher: str) -> dict[int, float | None]:
    """Accuracies by seed, percent; of students of labels alone where no teacher is named."""
    point = {'method': config.TAUGHT, 'teacher': teacher} if teacher else {'method': config.LABELS}
    return accuracies(arm(found, labels=labels, **point))


def scored(found: Results) -> document.Table:
    """Students by their teacher."""
    rows = []
    for teacher in ('', *config.TEACHERS):
        own = f'{100 * found["taught"][teacher]:.1f}' if teacher else formatting.NOTHING
        rows.append((teacher or 'labels alone', own, *(_cell(of(found, size, teacher)) for size in config.SIZES)))
    header = ('taught by', 'its own (%)', *(f'{size} labels (%)' for size in config.SIZES))
    return document.Table('Test accuracy, of students ± half its 95 % interval', 'lrrr', header, tuple(rows))


def _cell(values: Mapping[int, float | None]) -> str:
    mean = statistics.estimate(values.values()).mean
    alike = len(set(values.values())) == 1
    return f'{mean:.2f} in all seeds' if alike else percent(values)


def asked(found: Results) -> document.Table:
    """Paired differences, and whether they hold."""
    tests = [[statistics.paired(of(found, size, one), of(found, size, other)) for size in config.SIZES]
             for _, one, other in QUESTIONS]  # fmt: skip
    adjusted = iter(statistics.holm([test.p for row in tests for test in row]))
    words = ('holds', 'the contrary', formatting.NOTHING)
    rows = [
        (says, *(cell for test in line
                 for cell in (difference(test), statistics.verdict(test.mean, next(adjusted), words=words))))
        for (says, *_), line in zip(QUESTIONS, tests, strict=True)
    ]  # fmt: skip
    says = ('Paired differences in points with 95 % intervals; a claim holds, or the contrary, where p < 0.05 in a '
            f"paired t test with Holm's correction over the {2 * len(QUESTIONS)} of this table")  # fmt: skip
    header = ('', *(title for size in config.SIZES for title in (f'{size} labels', '')))
    return document.Table(says, 'lrlrl', header, tuple(rows))


def content(found: Results) -> str:
    """The Markdown between the marks."""
    return document.markdown([scored(found), asked(found), document.Text(students.where(found))]).strip()


def main(workdir: Path) -> None:
    """Publishes what is in `workdir`."""
    (HERE / 'results').mkdir(exist_ok=True)
    planned = expand.expand(config.get_config(), config.sweep())
    found = students.results(planned, workdir)
    found['taught'] = {
        run.point['teacher']: found['teachers'][planned.judges[run.cells[-1].key]]['metrics']['accuracy']
        for run in planned.runs if run.method == config.TAUGHT
    }  # fmt: skip
    (HERE / 'results' / 'boosted.json').write_text(json.dumps(found, indent=1) + '\n')
    readme = HERE / 'README.md'
    readme.write_text(filled(readme.read_text(), BEGIN, content(found)))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'boosted_cells'))
