"""The step of a detector in PyTorch is ours: from the same weights, the same losses."""

import importlib.util

import numpy as np
import pytest

from experiments import pages
from experiments.speed import detector, measure


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec('torch'), reason='PyTorch is not installed: pip install "kdjax[bench]"'
)
def test_all_do_the_same_step(monkeypatch, tmp_path):
    monkeypatch.setattr(detector, 'PICTURES', 2)
    losses = {}
    for who, command in detector.commands('student', tmp_path, detector.drawn()).items():
        with measure.Worker(command) as peer:
            losses[who] = [*peer.ready['losses'], *peer.round(2)['losses']]
    assert len(set(losses['kdjax'])) == 3
    for found in losses.values():
        np.testing.assert_allclose(found, losses['kdjax'], rtol=1e-3)


def test_the_table_is_made_of_what_was_measured():
    each = {who: {'median': ms / 1e3, 'seconds': [ms / 1e3], 'ratio': 30 / ms}
            for who, ms in (('torch plain', 30.0), ('kdjax', 20.0))}  # fmt: skip
    found = {'networks': {'student': each}, 'machine': {'processor': 'A', 'cores': 2}, 'convolutions': 'XLA',
             'versions': {'jax': '1', 'torch': '2'}}  # fmt: skip
    table = detector.table(found)
    assert '| student | 20 | 30 | 1.50 |' in table
    page = pages.filled('before', detector.BEGIN, table, detector.END)
    assert pages.filled(page, detector.BEGIN, table, detector.END) == page
