"""Students of every task are pruned and rounded as those of digits are: whole runs of a few steps, on real data."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from compressed import put
from ml_collections import ConfigDict

from kdjax import trees
from kdjax.compress import masks
from kdjax.compress.quantized import ROUNDING
from kdjax.study import run
from kdjax.train.checkpoint import load_variables

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
STEPS = 4


@pytest.mark.slow
@pytest.mark.parametrize(('said', 'data'), [
    ('sst2:quick,student=textcnn', 'sst2'), ('wnut17:quick', 'wnut17'), ('fsdd:quick', 'fsdd'),
    ('fsdd_ctc:quick', 'fsdd'), ('bccd:quick', 'bccd'), ('bccd_masks:quick', 'bccd'),
    ('multi30k:quick', 'multi30k_en_de'), ('shakespeare:quick', 'tiny_shakespeare'),
])  # fmt: skip
def test_half_of_the_weights_go_and_the_rest_has_few_bits(tmp_path, restored, monkeypatch, said, data):
    monkeypatch.setenv('KDJAX_DATA', str(restored(data)))
    name, _, arg = said.partition(':')
    config = runpy.run_path(str(CONFIGS / f'{name}.py'))['get_config'](arg)
    with config.unlocked(), config.ignore_type():
        chain = config.methods[config.accept.method]
        config.fits.smaller = ConfigDict(config.fits[chain[-1]].to_dict())
        for field, value in {'optim.pruning': 'layer', 'optim.prune_every': 1, 'sparsity': 0.5, 'bits': 4.0,
                             'change': {'kind': 'quantize'}}.items():  # fmt: skip
            put(config.fits.smaller, field, value)
        for fit in (config.teacher.fit, *config.fits.values()):
            fit.steps = STEPS
            fit.optim.warmup, fit.optim.average_last = 1, 0
        config.methods = ConfigDict({config.baseline: config.methods[config.baseline], 'smaller': (*chain, 'smaller')})
        if 'scanned' in config.student.args:
            config.student.args.scanned = False  # products in a loop cannot be rounded
        config.accept.method, config.seeds, config.run.chunk = 'smaller', 1, 2
    run.run(config.lock(), tmp_path, 'test')
    (folder,) = tmp_path.glob(f'{"+".join((*chain, "smaller"))}-*')
    found = load_variables(folder / 'variables')
    if (bits := np.asarray(found['stats'][ROUNDING]['bits'])).ndim == 2:  # a grid of seeds
        found, bits = trees.take(found, 0), bits[0]
    assert bits.tolist() == [4, 8]
    leaves = jax.tree.leaves(found['params'])
    kernels = [leaves[place] for place in masks.kernel_places(found['params'])]
    assert kernels
    for kernel in kernels:
        assert np.sum(kernel == 0) == round(kernel.size / 2)
