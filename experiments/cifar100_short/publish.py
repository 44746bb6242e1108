"""Makes a finished sweep the one that the project shows.

Command: python experiments/cifar100_short/publish.py [WORKDIR]

Copies the report's summary (numbers by seed, configuration hash, versions, machine, seconds) and the figure of learning
to results/, and writes the tables between the marks of README.md. A test holds README.md to results/summary.json.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments.pages import filled
from kdjax.study.report import document, networks, records, tables

COMMAND = 'python run.py --config=experiments/cifar100_short/config.py --mode=sweep'  # wherever its workdir was
PICTURE = 'learning_curves.png'
BEGIN = '<!-- results: written by experiments/cifar100_short/publish.py -->'


def content(stored: Mapping[str, Any]) -> str:
    """The Markdown between the marks, from what summary.json holds."""
    summary = records.from_json(records.Summary, stored)
    made = summary.provenance
    where = (
        f'{made.machine["processor"]}, {made.machine["cores"]} cores; JAX {made.versions["jax"]}; '
        f'{made.seconds["teachers"] / 60:.0f} minutes for the teacher, {made.seconds["grids"] / 60:.0f} for the '
        f'students; configuration {made.config_hash}; {made.command}.'
    )
    blocks = [tables.main(summary), networks.teachers(summary), document.Text(where)]
    picture = f'![Validation accuracy during training](results/{PICTURE})'
    return f'{document.markdown(blocks).strip()}\n\n{picture}'


def main(workdir: Path) -> None:
    """Publishes the report in `workdir`."""
    (HERE / 'results').mkdir(exist_ok=True)
    shutil.copyfile(workdir / 'report' / PICTURE, HERE / 'results' / PICTURE)
    summary = json.loads((workdir / 'report' / 'summary.json').read_text())
    summary['provenance']['command'] = COMMAND
    (HERE / 'results' / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    readme = HERE / 'README.md'
    readme.write_text(filled(readme.read_text(), BEGIN, content(summary)))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'cifar100_short'))
