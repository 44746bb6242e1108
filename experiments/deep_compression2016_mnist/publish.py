"""Makes a finished sweep the one that the project shows.

Command: KDJAX_DATA=FOLDER python experiments/deep_compression2016_mnist/publish.py [WORKDIR]

Writes results/mnist.json (every accuracy and size by seed, and of every layer) and the part of README.md between the
marks. A test holds README.md to results/mnist.json.
"""

import json
import statistics as means
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments import students
from experiments.deep_compression2016_mnist import config
from experiments.pages import difference, filled
from experiments.students import accuracies, arm
from kdjax.compress import huffman, sizes
from kdjax.compress.shared import SHARED
from kdjax.study.report import document, formatting, statistics
from kdjax.study.report.statistics import CONSISTENT, HIGHER, LOWER
from kdjax.study.sweep import expand
from kdjax.types import Tree

Results = Mapping[str, Any]

BEGIN = '<!-- results: written by experiments/deep_compression2016_mnist/publish.py -->'
VERDICTS = {CONSISTENT: 'as in the paper', LOWER: 'lower', HIGHER: 'higher', statistics.UNTESTED: 'set, not found'}
FLOATS = 4 * 266_610  # bytes of the network with all its weights
# Of the paper's tables, recalled: error (%) and times smaller of the network; of every layer what stays (%), bits
# of a code and of a distance in their Huffman codes, and size (%) before and after those.
ERRORS, SMALLER = {'dense': 1.64, 'shared': 1.58}, {'weights': 12, 'indexed': 32, 'huffman': 40}
LAYERS = {'dense1': (8, 4.4, 3.7, 3.1, 2.32), 'dense2': (9, 4.4, 4.3, 3.8, 3.04), 'head': (26, 4.3, 3.2, 15.7, 12.70)}
OF_LAYER = ('left', 'code_bits', 'index_bits', 'indexed', 'huffman')


class Line(NamedTuple):
    """A number of the paper and ours, one per seed."""

    what: str
    paper: float
    ours: Sequence[float]
    digits: int


def content(found: Results) -> str:
    """The Markdown between the marks."""
    blocks = [
        compared(lines(found)), document.Items(tuple(findings(found))), steps(found), layers(found),
        document.Text(students.where(found)),
    ]  # fmt: skip
    return document.markdown(blocks).strip()


def lines(found: Results) -> list[Line]:
    """What the paper reports, beside ours."""
    shared = list(arm(found, method='shared').values())
    smaller = {
        'weights': [100 / one['weights'] for one in arm(found, method='pruned').values()],
        **{name: [FLOATS / one['sizes'][name] for one in shared] for name in ('indexed', 'huffman')},
    }
    return [
        *(Line(f'{method}: error (%)', paper, list(errors(found, method).values()), 2)
          for method, paper in ERRORS.items()),
        Line('pruned: times fewer weights', SMALLER['weights'], smaller['weights'], 1),
        Line('shared, with distances: times smaller', SMALLER['indexed'], smaller['indexed'], 1),
        Line('and in Huffman codes: times smaller', SMALLER['huffman'], smaller['huffman'], 1),
    ]  # fmt: skip


def compared(found: Sequence[Line]) -> document.Table:
    """Paper, ours, verdict."""

    def row(line: Line) -> tuple[str, ...]:
        ours, form = statistics.estimate(line.ours), f'.{line.digits}f'
        told = statistics.against(line.ours, line.paper)
        verdict = statistics.verdict(told.mean, told.p, words=statistics.BESIDE_A_PAPER)
        spread = '' if ours.ci95 is None else f' [{ours.ci95[0]:{form}}, {ours.ci95[1]:{form}}]'
        return line.what, f'{line.paper:{form}}', f'{ours.mean:{form}}{spread}', VERDICTS[verdict]

    says = 'The paper, ours as mean over seeds with its 95 % interval, and a one-sample t test at 5 %'
    return document.Table(says, 'lrrl', ('quantity', 'paper', 'ours', 'verdict'), tuple(map(row, found)))


def findings(found: Results) -> list[str]:
    """What the paper claims, and what the control says of it."""
    dense, longer, shared = (errors(found, method) for method in ('dense', 'longer', 'shared'))
    own, control = statistics.paired(shared, dense), statistics.paired(shared, longer)
    return [
        f'{"Does not hold" if _lost(own) else "Holds, as far as these seeds tell"}: no accuracy is lost. The error of '
        f'the shared network minus that of the dense one, paired, is {difference(own)} points.',
        f'Minus that of the control, the dense network trained on for as many steps, it is {difference(control)} points'
        f'{": training on alone would have been better" if _lost(control) else ""}.',
    ]


def _lost(test: statistics.Test) -> bool:
    return statistics.verdict(test.mean, test.p, sign=-1) == statistics.HURTS


def steps(found: Results) -> document.Table:
    """Errors and sizes after every step."""

    def row(method: str) -> tuple[str, ...]:
        seeds = arm(found, method=method).values()
        values = errors(found, method)
        one, paired = statistics.estimate(values.values()), statistics.paired(values, errors(found, 'dense'))
        half = formatting.NOTHING if one.ci95 is None else f'{(one.ci95[1] - one.ci95[0]) / 2:.2f}'
        size = [f'{means.mean(each["sizes"][name] for each in seeds) / 1000:.1f}'
                for name in ('bytes', 'deflated', 'indexed', 'huffman', 'entropy')]  # fmt: skip
        gain = formatting.NOTHING if method == 'dense' else difference(paired)
        return method, f'{one.mean:.2f} ± {half}', gain, *size

    header = ('network', 'error (%)', 'minus dense (points)', 'as it is', 'deflated', 'distances', 'Huffman', 'entropy')
    says = 'Test errors, ± half their 95 % interval, and sizes in kB (1000 bytes), mean over seeds'
    return document.Table(says, 'lrrrrrrr', header, tuple(map(row, config.METHODS)))


def layers(found: Results) -> document.Table:
    """The paper's table of layers, ours in front of theirs."""
    seeds = list(arm(found, method='shared').values())

    def row(layer: str) -> tuple[str, ...]:
        ours = (means.mean(one['layers'][layer][name] for one in seeds) for name in OF_LAYER)
        return layer, *(f'{own:.1f} ({paper:g})' for own, paper in zip(ours, LAYERS[layer], strict=True))

    header = ('layer', 'weights left (%)', 'bits of a code', 'of a distance', 'size with distances (%)', 'Huffman (%)')
    says = 'Every layer of the shared network with its biases, mean over seeds, and in brackets what the paper has'
    return document.Table(says, 'lrrrrr', header, tuple(map(row, LAYERS)))


def errors(found: Results, method: str) -> dict[int, float | None]:
    """Percent, by seed."""
    return {seed: None if one is None else 100 - one for seed, one in accuracies(arm(found, method=method)).items()}


def measured(student: students.Student) -> dict[str, Any]:
    """What is left of a student's weights (%), and of each layer, where it shares them."""
    variables = student.variables
    stats = variables['stats'].get(SHARED, {})
    kernels = {layer: stats.get(f'{layer}.kernel', node['kernel']) for layer, node in variables['params'].items()}
    left, whole = (sum(map(count, kernels.values())) for count in (np.count_nonzero, np.size))
    each = {layer: _layer(variables, layer, stats[f'{layer}.kernel']) for layer in kernels if stats}
    return {'weights': 100 * left / whole, 'layers': each}


def _layer(variables: Tree, layer: str, codes: np.ndarray) -> dict[str, float]:
    own = {SHARED: {f'{layer}.kernel': codes}}
    size = sizes.size_of({'params': {layer: variables['params'][layer]}, 'stats': own})
    floats = 4 * (codes.size + variables['params'][layer]['bias'].size)
    entries = huffman.relative(np.asarray(codes))
    bits = (huffman.coded_bits(part) / len(part) for part in (entries.values, entries.distances))
    left = 100 * np.count_nonzero(codes) / codes.size
    return dict(zip(OF_LAYER, (left, *bits, 100 * size.indexed / floats, 100 * size.huffman / floats), strict=True))


def main(workdir: Path) -> None:
    """Measures and publishes what is in `workdir`."""
    (HERE / 'results').mkdir(exist_ok=True)
    found = students.results(expand.expand(config.get_config(), config.sweep()), workdir, measured)
    (HERE / 'results' / 'mnist.json').write_text(json.dumps(found, indent=1) + '\n')
    readme = HERE / 'README.md'
    readme.write_text(filled(readme.read_text(), BEGIN, content(found)))


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'deep_compression2016_mnist'))
