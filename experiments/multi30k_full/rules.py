"""What a rule of length is worth: BLEU of the teacher of a finished run by how its searches compare short with long.

Command: KDJAX_DATA=folder python run.py --config=configs/multi30k.py:full,methods=word+sequence
         KDJAX_DATA=folder python experiments/multi30k_full/rules.py [WORKDIR]      (a quarter of an hour of one core)

Writes results/rules.json, and its table between the marks of README.md: greedily and by searches of 5 BLEU as it is and
in lower case, and the words written for each of the references, in validation and test.
"""

import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from configs import multi30k
from experiments import pages
from kdjax.dataset import Split, taken
from kdjax.decoding.bleu import bleu, counts
from kdjax.study.recipe import build, plan
from kdjax.study.recipe.resolve import resolve
from kdjax.study.report import document
from kdjax.study.report.document import Table
from kdjax.tasks.translation import Translation, references
from kdjax.train.checkpoint import load_variables
from kdjax.types import Array, Net, Tree

ARGUMENT = 'full,methods=word+sequence'
BATCH = 80
WAYS = ((1, 'gnmt', 0.6), (5, 'gnmt', 0.0), (5, 'gnmt', 0.6), (5, 'gnmt', 1.5), (5, 'mean', 1.0))  # width, rule, alpha
SPLITS = ('validation', 'test')
BEGIN, END = '<!-- rules: written by experiments/multi30k_full/rules.py -->', '<!-- end of rules -->'


def measured(task: Translation, write: Any, split: Split) -> dict[str, float]:
    """What is measured of the translations of a split."""
    places = (np.arange(start, min(start + BATCH, split.size)) for start in range(0, split.size, BATCH))
    ours = [text for rows in places for text in task.read(np.asarray(write(taken(split.inputs, rows)['source'])))]
    found, lower = (counts(ours, references(split), lower=small).sum(axis=0) for small in (False, True))
    return {'bleu': float(bleu(found)), 'bleu_lower': float(bleu(lower)), 'length_ratio': float(found[-2] / found[-1])}


def content(workdir: Path) -> dict[str, Any]:
    """What rules.json holds, of the teacher of a finished run."""
    recipe = resolve(multi30k.get_config(ARGUMENT))
    dataset, spec = build.dataset(recipe.data), recipe.teachers['teacher']
    task = build.task(recipe.task)
    net = build.net(spec.network, build.told(spec.network, task, dataset), recipe.precision, None)
    variables = load_variables(workdir / plan.stages_of(recipe)['teacher'].folder / 'variables')
    rows = []
    for width, rule, alpha in WAYS:
        by_rule = build.fitted_task(recipe.task, {'rule': rule, 'alpha': alpha}).informed(dataset)
        write = jax.jit(functools.partial(_written, by_rule, net, variables, width))
        found = {name: measured(by_rule, write, dataset.splits[name]) for name in SPLITS}
        rows.append({'width': width, 'rule': rule, 'alpha': alpha, **found})
        print(rows[-1], flush=True)
    return {'argument': ARGUMENT, 'jax': jax.__version__, 'rows': rows}


def _written(task: Translation, net: Net, variables: Tree, width: int, source: Array) -> Array:
    return task.written(net, variables, source, width)


def table(found: Mapping[str, Any]) -> str:
    """The Markdown between the marks, from what rules.json holds."""
    names = {'bleu': 'BLEU', 'bleu_lower': 'lower case', 'length_ratio': 'length'}
    rows = [
        (_way(row), *(f'{row[split][name]:.2f}' for split in SPLITS for name in names)) for row in found['rows']
    ]  # fmt: skip
    columns = [f'{split}: {title}' for split in SPLITS for title in names.values()]
    shown = Table('The teacher, by how it writes', 'l' + 'r' * len(columns), ('written', *columns), tuple(rows))
    return document.markdown([shown]).strip()


def _way(row: Mapping[str, Any]) -> str:
    if row['width'] == 1:
        return 'greedily'
    rule = 'mean of the log-probabilities' if row['rule'] == 'mean' else f'GNMT, alpha {row["alpha"]}'
    return f'search of {row["width"]}, {rule}' if row['alpha'] else f'search of {row["width"]}, no rule'


def main(workdir: Path) -> None:
    """Measures, and writes both."""
    found = content(workdir)
    (HERE / 'results' / 'rules.json').write_text(json.dumps(found, indent=1) + '\n')
    page = HERE / 'README.md'
    page.write_text(pages.filled(page.read_text(), BEGIN, table(found), END))


if __name__ == '__main__':
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / 'runs' / 'multi30k')
