"""Steps of recommendation and of speech in PyTorch are ours: from the same weights and examples, the same losses."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from experiments import pages
from experiments.speed import measure, tasks

FOLDER = Path(tasks.__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec('torch'), reason='PyTorch is not installed: pip install "kdjax[bench]"'
)
@pytest.mark.parametrize('name', tasks.NAMES)
def test_all_do_the_same_step(tmp_path, name):
    arrays = {'taken': TAKEN} if name == 'bpr' else tasks.data(name)
    losses = {}
    for who, command in tasks.commands(name, 1, tmp_path, arrays).items():
        with measure.Worker(command) as peer:
            losses[who] = [*peer.ready['losses'], *peer.round(tasks.FIRST - 1)['losses']]
    assert len(set(losses['kdjax'])) == tasks.FIRST
    for found in losses.values():
        np.testing.assert_allclose(found, losses['kdjax'], rtol=tasks.CLOSE)


RANDOM = np.random.default_rng(0)
TAKEN = np.unique(np.stack([RANDOM.integers(0, high, 9000) for high in (5219, 25181)], axis=1), axis=0).astype(np.int32)


def test_the_table_is_that_of_its_results():
    """Where it is not: python experiments/speed/tasks.py"""
    found, page = json.loads(tasks.RESULTS.read_text()), tasks.PAGE.read_text()
    assert pages.filled(page, tasks.BEGIN, tasks.page(found), tasks.END) == page
    assert [(row['step'], row['students']) for row in found['rows']] == list(tasks.ROWS)
    assert max(row['apart'] for row in found['rows']) < tasks.CLOSE
