"""The pages of Multi30k: their tables are those of the results, and the bootstrap does what it says."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.multi30k import publish
from experiments.multi30k_full import rules
from kdjax.decoding.bleu import bleu

EXPERIMENTS = Path(__file__).resolve().parents[2] / 'experiments'


@pytest.mark.parametrize('name', publish.NAMES)
def test_the_shown_tables_of_sentences_are_those_of_the_results(name):
    """Where they are not: python experiments/multi30k/publish.py NAME"""
    folder = EXPERIMENTS / name
    found = json.loads((folder / 'results' / 'sentences.json').read_text())
    page = (folder / 'README.md').read_text()
    shown = page.partition(publish.BEGIN)[2].partition(publish.END)[0]
    assert shown.strip() == publish.table(found)
    summary = json.loads((folder / 'results' / 'summary.json').read_text())
    for row in summary['rows']:
        assert found['methods'][row['method']]['bleu'] == pytest.approx(row['last']['bleu']['mean'], abs=1e-3)


def test_the_shown_table_of_rules_is_that_of_the_results():
    """Where it is not: python experiments/multi30k_full/rules.py"""
    folder = EXPERIMENTS / 'multi30k_full'
    found, page = (folder / 'results' / 'rules.json').read_text(), (folder / 'README.md').read_text()
    assert page.partition(rules.BEGIN)[2].partition(rules.END)[0].strip() == rules.table(json.loads(found))


def test_sentences_are_drawn_in_pairs():
    random = np.random.default_rng(0)
    right = random.integers(0, 4, (2, 60, 4)).astype(float)
    counts = np.concatenate([right, np.full((2, 60, 4), 5.0), np.full((2, 60, 2), 6.0)], axis=-1)
    better = counts.copy()
    better[..., :4] += 1
    found = publish.bootstrapped({'alone': counts, 'same': counts.copy(), 'better': better}, 'alone')
    assert found['alone'] == {'bleu': pytest.approx(bleu(counts.sum(axis=1)).mean())}
    assert found['same']['interval'] == [0, 0]
    assert (found['same']['gain'], found['same']['p']) == (0, 1)
    assert found['better']['interval'][0] > 0
    assert found['better']['p'] < 0.01
