"""Makes a finished run of configs/multi30k.py the one that is shown, with what its sentences say of its methods.

Command: KDJAX_DATA=folder python run.py --config=configs/multi30k.py
         python experiments/multi30k/publish.py multi30k [WORKDIR]
         KDJAX_DATA=folder python run.py --config=configs/multi30k.py:full,methods=word+sequence
         python experiments/multi30k/publish.py multi30k_full [WORKDIR]

Beside the tables of experiments/publish.py it writes results/sentences.json: BLEU of every method by sacrebleu's
counts, the mean over seeds, and its difference to the references alone by paired bootstrap over the test sentences
(Koehn, Statistical Significance Tests for Machine Translation Evaluation, EMNLP 2004), where sentences are drawn and
not seeds; what the cache said of the teacher's translations; and sacrebleu's signatures.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import pages, publish
from kdjax.decoding.bleu import SIGNATURES, bleu
from kdjax.errors import unknown
from kdjax.study.report import document
from kdjax.study.report.document import Table

NAMES = ('multi30k', 'multi30k_full')
DRAWS, SEED = 2000, 0
WRITTEN = {  # columns, and the metrics that they have
    'greedy': 'bleu', 'in lower case': 'bleu_lower', 'chrF': 'chrf', 'search': 'beam_bleu',
    'search, lower case': 'beam_bleu_lower', 'search, chrF': 'beam_chrf', 'length': 'length_ratio',
}  # fmt: skip
BEGIN, END = '<!-- sentences: written by experiments/multi30k/publish.py -->', '<!-- end of sentences -->'


def bootstrapped(counts: Mapping[str, np.ndarray], baseline: str) -> dict[str, dict[str, Any]]:
    """BLEU by method, and its difference to the baseline over draws of sentences.

    Args:
      counts: by method (seeds, N, 10), as `kdjax.decoding.bleu.counts` has them.
      baseline: the method that others are held against.

    Returns:
      Of each method its 'bleu', the mean over seeds, and of others the 'gain', its 95 % 'interval' and 'p', twice the
      share of draws that do not gain, or do not lose: two-sided.
    """
    random = np.random.default_rng(SEED)
    size = counts[baseline].shape[1]
    times = random.multinomial(size, np.full(size, 1 / size), DRAWS).astype(np.float64)  # how often each is drawn
    whole = {method: bleu(rows.sum(axis=1)).mean() for method, rows in counts.items()}
    drawn = {method: bleu(np.einsum('dn,snk->dsk', times, rows)).mean(axis=1) for method, rows in counts.items()}
    found: dict[str, dict[str, Any]] = {}
    for method, value in whole.items():
        found[method] = {'bleu': float(value)}
        if method != baseline:
            gains = drawn[method] - drawn[baseline]
            tail = min(np.mean(gains <= 0), np.mean(gains >= 0))
            found[method] |= {
                'gain': float(value - whole[baseline]),
                'interval': np.quantile(gains, [0.025, 0.975]).tolist(),
                'p': float(min(1.0, 2 * (tail * DRAWS + 1) / (DRAWS + 1))),
            }
    return found


def table(content: Mapping[str, Any]) -> str:
    """The Markdown between the marks, from what sentences.json holds."""
    methods, labels = content['methods'], content['translations']
    rows = [
        (method, f'{row["bleu"]:.2f}', *(
            (f'{row["gain"]:+.2f} [{row["interval"][0]:+.2f}, {row["interval"][1]:+.2f}]', f'{row["p"]:.3f}')
            if 'gain' in row else ('–', '–')
        ))
        for method, row in methods.items()
    ]  # fmt: skip
    gains = Table(
        f'BLEU and its gain over {content["baseline"]}, with the 95 % interval and p-value of {content["draws"]} '
        f'paired draws of the {content["sentences"]} test sentences',
        'lrrr', ('method', 'BLEU', 'gain', 'p'), tuple(rows),
    )  # fmt: skip
    faults = ('unended', 'too_long', 'ratio', 'unlike')
    kept = Table(
        'What the teacher writes of the training sentences: learned, left out by filters, and its BLEU',
        'llrrrrrr',
        ('search', 'of its n best', 'learned', 'no end', 'too long', 'ratio', 'unlike', 'BLEU'),
        tuple(
            (str(said['searched']), which, str(said[which]['learned']), *(str(said[which][fault]) for fault in faults),
             f'{said[which]["bleu"]:.2f}')
            for said in labels.values() for which in ('best', 'closest')
        ),
    )  # fmt: skip
    signatures = ', '.join(f'`{signature}`' for signature in content['signatures'].values())
    written = Table(
        'What is written greedily and by a search of 5, on the test split: the mean over seeds',
        'l' + 'r' * len(WRITTEN), ('method', *WRITTEN),
        tuple((method, *(f'{value:.2f}' for value in values)) for method, values in content['written'].items()),
    )  # fmt: skip
    return f'{document.markdown([written, gains, kept]).strip()}\n\nsacrebleu {content["sacrebleu"]}: {signatures}.'


def content(name: str, workdir: Path) -> dict[str, Any]:
    """What sentences.json holds, of a finished run that is shown under a name."""
    import sacrebleu

    (examples,), (cache,) = (list(workdir.glob(pattern)) for pattern in ('evaluate-*/examples.npz', 'cache-*'))
    with np.load(examples) as file:
        counts = {name.rpartition('/')[0]: file[name] for name in file}
    summary = json.loads((ROOT / 'experiments' / name / 'results' / 'summary.json').read_text())
    baseline, teacher = summary['baseline'], summary['teachers']['teacher']['metrics']
    means = {row['method']: {name: one['mean'] for name, one in row['last'].items()} for row in summary['rows']}
    said = json.loads((cache / 'artifact.json').read_text())['result']
    order = sorted(counts, key=lambda method: (method != baseline, method))
    return {
        'baseline': baseline,
        'written': {
            method: [row[name] for name in WRITTEN.values()] for method, row in {'teacher': teacher, **means}.items()
        },
        'draws': DRAWS,
        'sentences': counts[baseline].shape[1],
        'methods': bootstrapped({method: counts[method] for method in order}, baseline),
        'translations': {name: found for name, found in said.items() if name.startswith('written')},
        'signatures': SIGNATURES,
        'sacrebleu': sacrebleu.__version__,
    }


def main(name: str, workdir: Path) -> None:
    """Publishes the run in `workdir` as one of NAMES."""
    if name not in NAMES:
        raise unknown('experiment', name, NAMES, ' of multi30k')
    publish.main(name, workdir)
    found, page = content(name, workdir), ROOT / 'experiments' / name / 'README.md'
    (page.parent / 'results' / 'sentences.json').write_text(json.dumps(found, indent=1, ensure_ascii=False) + '\n')
    page.write_text(pages.filled(page.read_text(), BEGIN, table(found), END))


if __name__ == '__main__':
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / 'runs' / 'multi30k')
