"""The step of a detector in PyTorch is ours: from the same weights, the same losses."""

import pytest

pytest.importorskip('torch')

import numpy as np

from experiments.speed import detector


@pytest.mark.parametrize('channels_last', [False, True])
def test_both_loops_do_the_same_step(monkeypatch, channels_last):
    monkeypatch.setattr(detector, 'PICTURES', 2)
    monkeypatch.setattr(detector, 'CHUNK', 3)
    taking = detector.contenders('student')
    wanted = taking['kdjax']()
    assert wanted[0] != wanted[1]
    found = taking['torch channels_last' if channels_last else 'torch plain']()
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_the_table_is_made_of_what_was_measured():
    row = {'ms': dict.fromkeys(('kdjax', 'torch plain', 'torch channels_last'), 12.4), 'losses': {},
           'ratios': {'kdjax': 1.0, 'torch plain': 1.5, 'torch channels_last': 1.25}}  # fmt: skip
    found = {'networks': {'student': row}, 'machine': {'processor': 'A', 'cores': 2}, 'load': 'nothing else ran',
             'versions': {'jax': '1', 'torch': '2'}, 'convolutions': 'XLA'}  # fmt: skip
    table = detector.table(found)
    assert '| student | 12 | 12 | 12 | 1.50 | 1.25 |' in table
    page = detector.filled('before', table)
    assert detector.filled(page, table) == page
