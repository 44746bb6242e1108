"""Translations by PyTorch's loops are those of kdjax, on the same weights."""

import numpy as np
import pytest

pytest.importorskip('torch')
from experiments.speed import decoding

LITTLE = {'vocabulary': 40, 'width': 16, 'depth': 2, 'heads': 2, 'inner': 32}


@pytest.mark.slow
@pytest.mark.parametrize('width', [1, 3])
def test_both_sides_write_alike(width):
    net, variables = decoding.made(**LITTLE)
    source = decoding.sentences(6, LITTLE['vocabulary'])
    sides = decoding.writers(net, variables, width, LITTLE['heads'])
    torch, ours = (sides[side](source) for side in ('torch', 'kdjax'))
    assert np.any(ours > 0)
    np.testing.assert_array_equal(torch, ours)
