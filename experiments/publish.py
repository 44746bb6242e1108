"""Makes a finished run the one that an experiment shows.

Command: python run.py && python experiments/publish.py digits [WORKDIR]
         KDJAX_DATA=folder python run.py --config=configs/sst2.py && python experiments/publish.py sst2
         KDJAX_DATA=folder python run.py --config=configs/wnut17.py && python experiments/publish.py wnut17
         KDJAX_DATA=folder python run.py --config=configs/fsdd.py && python experiments/publish.py fsdd
         KDJAX_DATA=folder python run.py --config=configs/bccd.py && python experiments/publish.py bccd
         KDJAX_DATA=folder python run.py --config=configs/bccd_masks.py && python experiments/publish.py bccd_masks
         KDJAX_DATA=folder python run.py --config=experiments/tfmot_keywords/config.py, published as tfmot_keywords
         and experiments/crepe_fsdd/config.py and experiments/silero_fsdd/config.py likewise

and likewise of sweeps (sst2_views, sst2_techniques, derrd2020_citeulike, topology2021_citeulike, compress,
compression_order, bccd_inherit, fitnets2015_mnist,
cifar100_techniques), whose pages have the commands.

Copies the run's summary (numbers, configuration hash, versions, machine, seconds) and figures to the experiment's
results/, and writes its tables between the marks of the pages that show it. A test holds the tables to summary.json.
"""

import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from experiments import pages
from kdjax.study.report import document, networks, records, tables

BEGIN = '<!-- results: written by experiments/publish.py -->'
SIZES = ('gain_vs_size.png', 'accuracy_vs_size.png', 'learning_curves.png')
FIGURES = {  # by experiment
    'digits': (*SIZES, 'soft_labels.png'),
    'sst2': SIZES,
    'sst2_views': ('gains.png',),
    'sst2_techniques': ('gains.png',),
    'wnut17': ('gains.png', 'learning_curves.png', 'tags.png'),
    'compress': ('gains.png', 'pareto_deflated_bytes.png'),
    'compression_order': ('gains.png', 'pareto_deflated_bytes.png'),
    'tfmot_keywords': ('gains.png',),
    'derrd2020_citeulike': ('gains.png', 'learning_curves.png', 'ranking.png'),
    'derrd2020_citeulike_long': ('learning_curves.png',),
    'topology2021_citeulike': ('gains.png',),
    'fsdd': ('gains.png', 'learning_curves.png'),
    'fsdd_folds': ('gains.png',),  # by experiments/fsdd_folds/publish.py, which has more to show
    'fsdd_ctc': ('gains.png', 'learning_curves.png'),
    'crepe_fsdd': ('gains.png', 'learning_curves.png'),
    'silero_fsdd': ('gains.png', 'learning_curves.png'),
    'bccd': ('gains.png', 'boxes.png'),
    'bccd_256': ('gains.png', 'boxes.png'),
    'bccd_inherit': ('gains.png',),
    'multi30k': ('gains.png', 'learning_curves.png'),  # by experiments/multi30k/publish.py, which has more to show
    'multi30k_full': ('gains.png', 'learning_curves.png'),  # by it as well
    'bccd_masks': ('gains.png',),
    'shakespeare': ('gains.png',),
    'fitnets2015_mnist': ('gains.png', 'learning_curves.png'),
    'cifar100_techniques': ('gains.png',),
}
SEVERAL = ('ap50',)  # scores of tasks of which other metrics are read beside it, with their intervals
ALSO_IN = {'digits': ROOT / 'README.md'}


def shown(name: str) -> list[Path]:
    """The pages that show the results of an experiment."""
    return [HERE / name / 'README.md', *([ALSO_IN[name]] if name in ALSO_IN else [])]


def table(content: dict) -> str:
    """The Markdown between the marks, from what summary.json holds."""
    summary = records.from_json(records.Summary, content)
    made = summary.provenance
    where = (
        f'{summary.rows[0].n} seeds; {made.machine["processor"]}, {made.machine["cores"]} cores; '
        f'JAX {made.versions["jax"]}; {sum(made.seconds.values()):.0f} s in all stages; '
        f'configuration {made.config_hash}; `{made.command}`.'
    )
    costly = any(row.cost and row.cost.more for row in summary.rows)
    costs = [networks.costs(summary), *networks.steps(summary)] if costly else []
    # Of networks that write, what they write counts as much as what decides.
    writes = any(metric.name == 'own_kl' for metric in summary.metrics)
    several = [tables.leading(summary)] if writes or summary.score in SEVERAL else []
    paper = [tables.paper(summary)] if summary.published else []
    blocks = [tables.plain(summary), *several, *tables.further(summary), *paper, *costs]
    return f'{document.markdown(blocks).strip()}\n\n{where}'


def main(name: str, workdir: Path) -> None:
    """Publishes the report in `workdir` as that of an experiment."""
    results = HERE / name / 'results'
    results.mkdir(exist_ok=True)
    for file in ('summary.json', *FIGURES[name]):
        shutil.copyfile(workdir / 'report' / file, results / file)
    summary = json.loads((results / 'summary.json').read_text())
    for path in shown(name):
        path.write_text(pages.filled(path.read_text(), BEGIN, table(summary)))


if __name__ == '__main__':
    if len(sys.argv) < 2 or sys.argv[1] not in FIGURES:
        sys.exit(f'usage: python experiments/publish.py {"|".join(FIGURES)} [WORKDIR]')
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / 'runs' / sys.argv[1])
