"""Makes the studies of sentences what the project shows: runs what is not done yet, then writes results/ and README.md.

Command: KDJAX_DATA=folder python experiments/sst2/publish.py [WORKDIR]      (about twenty minutes on 2 CPU cores)

The tables stand between the marks of README.md; a test holds them to results/.
"""

import csv
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from kdjax.study.report import networks, records, statistics, tables
from kdjax.study.report.document import Table, Text, markdown

STUDIES = {
    'sizes': ('--config=configs/sst2.py',),
    'views': ('--config=experiments/sst2/views.py', '--mode=sweep'),
    'techniques': ('--config=experiments/sst2/techniques.py', '--mode=sweep'),
}
FIGURES = {'sizes': 'gain_vs_size.png', 'techniques': 'gains.png'}
VIEWS = 'gain_of_views'  # of each method, from the runs of 'views'


def main(workdir: Path) -> None:
    """Runs what is not done yet, then publishes."""
    (HERE / 'results').mkdir(exist_ok=True)
    for name, arguments in STUDIES.items():
        command = [sys.executable, 'run.py', *arguments, f'--workdir={workdir / name}']
        subprocess.run(command, cwd=ROOT, check=True)
        report = workdir / name / 'report'
        summary = json.loads((report / 'summary.json').read_text())
        made = summary['provenance']
        made['command'] = made['command'].partition(' --workdir')[0]  # where it was kept is nobody's business
        write(name, summary)
        if name in FIGURES:
            shutil.copyfile(report / FIGURES[name], HERE / 'results' / f'{name}.png')
    write(VIEWS, gain_of_views(workdir / 'views' / 'report' / 'runs.csv'))
    readme = HERE / 'README.md'
    readme.write_text(filled(readme.read_text(), load()))


def write(name: str, content: Any) -> None:
    (HERE / 'results' / f'{name}.json').write_text(json.dumps(content, indent=1) + '\n')


def load() -> dict[str, Any]:
    """The content of results/, by name."""
    return {name: json.loads((HERE / 'results' / f'{name}.json').read_text()) for name in (*STUDIES, VIEWS)}


def gain_of_views(runs: Path) -> dict[str, Any]:
    """What views change for each method, seed by seed, from the table of all runs."""
    scores: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    with runs.open() as file:
        for run in csv.DictReader(file):
            scores[run['method'], int(run['views'])][int(run['seed'])] = float(run['last_accuracy'])
    most = max(views for _, views in scores)
    return {
        method: statistics.paired(scores[method, most], scores[method, 1])._asdict()
        for method, views in scores if views == most
    }  # fmt: skip


def section(name: str, results: dict[str, Any]) -> str:
    """The Markdown between the marks of one study."""
    summary = records.from_json(records.Summary, results[name])
    made = summary.provenance
    where = (
        f'{summary.rows[0].n} seeds; {made.machine["processor"]}, {made.machine["cores"]} cores; JAX '
        f'{made.versions["jax"]}; configuration {made.config_hash}; data {made.data_checksum}; `{made.command}`'
    )
    more = [_views(results[VIEWS])] if name == 'views' else []
    return markdown([tables.plain(summary), *more, networks.costs(summary), Text(where)]).strip()


def _views(gains: dict[str, Any]) -> Table:
    rows = [
        (method, f'{gain["mean"]:+.2%}', f'[{gain["ci95"][0]:+.2%}, {gain["ci95"][1]:+.2%}]', f'{gain["p"]:.3f}')
        for method, gain in gains.items()
    ]
    header = ('method', 'accuracy with views less that without', '95 % interval', 'p')
    return Table('What views change for one method, over pairs of seeds', 'lrrr', header, tuple(rows))


def filled(text: str, results: dict[str, Any]) -> str:
    """`text` with the section of every study between its marks."""
    for name in STUDIES:
        begin, end = f'<!-- {name}: written by experiments/sst2/publish.py -->', f'<!-- end of {name} -->'
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f'{before}{begin}\n\n{section(name, results)}\n\n{end}{after}'
    return text


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'sst2').resolve())
