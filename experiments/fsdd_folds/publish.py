"""Makes a finished sweep of experiments/fsdd_folds the one that is shown, with what holds over speakers.

Command: KDJAX_DATA=folder python run.py --config=experiments/fsdd_folds/config.py --mode=sweep
         python experiments/fsdd_folds/publish.py [WORKDIR]

Beside the tables of experiments/publish.py it writes the gain over hard labels of every method as the mean of six
speakers, each the mean of its seeds, with the interval of a paired t-test over speakers.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import pages, publish
from kdjax.data.fsdd import SPEAKERS
from kdjax.study.report import document, formatting, statistics
from kdjax.study.report.document import Table

NAME, BASELINE = 'fsdd_folds', 'hard labels'
BEGIN, END = '<!-- speakers: written by experiments/fsdd_folds/publish.py -->', '<!-- end of speakers -->'


def over_speakers(summary: dict[str, Any]) -> str:
    """The Markdown of accuracy and gains over speakers, from what summary.json holds."""
    means: dict[str, dict[int, float]] = {}
    for row in summary['rows']:
        found = means.setdefault(row['method'], {})
        found[SPEAKERS.index(row['point']['speaker'])] = 100 * row['score']['mean']
    lines = []
    for method, values in means.items():
        test = statistics.paired(values, means[BASELINE]) if method != BASELINE else None
        gain = (pages.difference(test), formatting.p(test.p)) if test else (formatting.NOTHING,) * 2
        lines.append((method, pages.percent(values), *gain, str(len(values))))
    title = (
        f'Test accuracy, the mean of speakers, ± half its 95 % interval, and gain over {BASELINE}, paired by speaker'
    )
    head = ('method', 'accuracy (%)', 'gain (points)', 'p', 'speakers')
    return document.markdown([Table(title, 'lrrrr', head, tuple(lines))]).strip()


def main(workdir: Path) -> None:
    """Publishes the report in `workdir`."""
    publish.main(NAME, workdir)
    folder = ROOT / 'experiments' / NAME
    page, summary = folder / 'README.md', json.loads((folder / 'results' / 'summary.json').read_text())
    page.write_text(pages.filled(page.read_text(), BEGIN, over_speakers(summary), END))


if __name__ == '__main__':
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / 'runs' / NAME)
