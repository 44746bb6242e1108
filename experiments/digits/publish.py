"""Makes a finished digits run the one that the project shows.

Command: python run.py && python experiments/digits/publish.py [WORKDIR]

Copies the run's summary (numbers, configuration hash, versions, machine, seconds) and figures to results/, and writes
the table between the marks of the two README files. A test holds the tables to results/summary.json.
"""

import json
import shutil
import sys
from pathlib import Path

from kdjax.study.report import document, records, tables

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHOWN = (ROOT / 'README.md', HERE / 'README.md')
FIGURES = ('gain_vs_size.png', 'accuracy_vs_size.png', 'learning_curves.png', 'soft_labels.png')
BEGIN, END = '<!-- digits results: written by experiments/digits/publish.py -->', '<!-- end of digits results -->'


def table(content: dict) -> str:
    """The Markdown between the marks, from what summary.json holds."""
    summary = records.from_json(records.Summary, content)
    made = summary.provenance
    where = (
        f'{summary.rows[0].n} seeds; {made.machine["processor"]}, {made.machine["cores"]} cores; '
        f'JAX {made.versions["jax"]}; {sum(made.seconds.values()):.0f} s in all stages; '
        f'configuration {made.config_hash}; `{made.command}`.'
    )
    return f'{document.markdown([tables.plain(summary)]).strip()}\n\n{where}'


def filled(text: str, content: str) -> str:
    """`text` with `content` between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f'{before}{BEGIN}\n\n{content}\n\n{END}{after}'


def main(workdir: Path) -> None:
    """Publishes the report in `workdir`."""
    (HERE / 'results').mkdir(exist_ok=True)
    for name in ('summary.json', *FIGURES):
        shutil.copyfile(workdir / 'report' / name, HERE / 'results' / name)
    summary = json.loads((HERE / 'results' / 'summary.json').read_text())
    for path in SHOWN:
        path.write_text(filled(path.read_text(), table(summary)))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'digits'))
