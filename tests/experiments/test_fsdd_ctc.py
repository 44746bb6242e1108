"""A CTC teacher that is heard: which strings it says of a clip, and the config that learns them."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs import fsdd_ctc
from experiments.fsdd_ctc import hear
from kdjax.dataset import Split
from kdjax.errors import UsageError

FOLDER = Path(__file__).resolve().parents[2] / 'experiments' / 'fsdd_ctc'


def spoken(*classes):
    """Logits of frames of which each says a class, with little doubt."""
    return 8.0 * np.eye(4, dtype=np.float32)[list(classes)]


def test_the_first_string_is_what_was_spoken_where_the_network_hears_it():
    logits = np.stack([spoken(0, 3, 1, 1, 3), spoken(2, 3, 2, 3, 3), spoken(1, 3, 3, 0, 0)])
    mask = np.asarray([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.float32)
    found = hear.strings({'logits': logits, 'mask': mask})
    assert found['hypotheses'].shape[:2] == found['hypothesis_weights'].shape == (3, hear.COUNT)
    np.testing.assert_allclose(found['hypothesis_weights'].sum(axis=1), 1, rtol=1e-5)
    labels = np.asarray([[0, 1, 0], [2, 2, 0], [1, 0, 0]], np.int32)
    split = Split(np.zeros(3), labels, {'label_length': np.asarray([2, 2, 1])})
    assert hear.right(found, split) == 1
    split = Split(np.zeros(3), labels, {'label_length': np.asarray([2, 1, 2])})
    assert hear.right(found, split) == pytest.approx(1 / 3)


def test_what_was_heard_is_learned_from_a_table():
    config = fsdd_ctc.get_config('heard=heard.npz')
    assert (config.teacher.outputs, config.data.consistent) == ('heard.npz', False)
    assert {name for name in config.methods} == {'CTC alone', *fsdd_ctc.HEARD.values()}
    assert config.fits.n_best.weights.to_dict() == {'ctc': 0.5, 'heard': 0.5}
    with pytest.raises(UsageError, match="unknown method 'frames' of fsdd_ctc; there is: 'first', 'n_best'"):
        fsdd_ctc.get_config('heard=heard.npz,methods=frames')


def test_the_table_of_n_best_strings_is_that_of_its_results():
    summary = json.loads((FOLDER / 'results' / 'heard' / 'summary.json').read_text())
    page = (FOLDER / 'README.md').read_text()
    for row in summary['rows']:
        (low, high), told = row['score']['ci95'], '– | –'
        if gain := row['difference']:
            least, most = (f'{100 * end:+.2f}' for end in gain['ci95'])
            told = f'{100 * gain["mean"]:+.2f} [{least}, {most}] | {gain["p"]:.3f}'
        rate = f'{100 * row["score"]["mean"]:.2f} ± {50 * (high - low):.2f}'
        assert f'| {row["point"]["method"]} | {rate} | {told} | {row["n"]} |' in page
