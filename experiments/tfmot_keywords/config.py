"""Spoken digits: zeros, 8 bits, and 8 bits that keep the zeros, of a keyword network: score and bytes, zipped.

The columns that TensorFlow's Model Optimization Toolkit shows of its keyword network, for ours: pruning (P),
quantization-aware training (QAT), and the two one after the other, where the zeros of the first stay through the second
(PQAT). All go on from the same network of 2.9 k parameters for as many steps, and so does a control of which nothing
is made smaller.

Command:  KDJAX_DATA=folder python run.py --config=experiments/tfmot_keywords/config.py   (the folder has
          fsdd/recordings)
Cost:     five minutes of CPU time
Expected: 72 % dense, 8 bits cost nothing that could be told, half of the weights zero four points (p = 0.15): README.md
Arguments: quick (2 seeds, few steps: a look at the machinery, not a result)
"""

from ml_collections import ConfigDict

from configs import base, fsdd

AFTER = 200  # steps in which a network is made smaller, in all
SPARSITY = 0.5  # as there


def get_config(arg: str = '') -> ConfigDict:
    """The run, locked."""
    quick = base.arguments(arg, quick=False)['quick']
    config = fsdd.get_config('student=tiny').unlock()
    config.title, config.seeds = 'Keywords: pruned, rounded, both', 2 if quick else 5
    config.data.views = 2
    dense = config.fits.baseline
    del config.terms['smooth']
    with config.ignore_type():
        config.fits = ConfigDict({
            'baseline': dense, 'longer': _after(dense, AFTER), 'p': _after(dense, AFTER), 'qat': _after(dense, AFTER),
            'first_p': _after(dense, AFTER // 2), 'then_qat': _after(dense, AFTER // 2),
        })  # fmt: skip
        for name in ('p', 'first_p'):
            config.fits[name].optim.pruning, config.fits[name].sparsity = 'global', SPARSITY
        config.fits.qat.change = config.fits.then_qat.change = ConfigDict({'kind': 'quantize'})
        config.methods = ConfigDict({
            'dense': ('baseline',),
            'longer': ('baseline', 'longer'),
            'P': ('baseline', 'p'),
            'QAT': ('baseline', 'qat'),
            'PQAT': ('baseline', 'first_p', 'then_qat'),
        })  # fmt: skip
    config.baseline, config.accept.method = 'dense', 'PQAT'
    config.accept.gap_recovered, config.retry.attempts = 0.0, 0
    if quick:
        for fit in (config.teacher.fit, *config.fits.values()):
            fit.steps = 20
        config.teacher.views, config.run.validate_every = 1, 20
    return config.lock()


def _after(dense: ConfigDict, steps: int) -> ConfigDict:
    """A fit that goes on with hard labels, at half the rate."""
    fit = base.fit(hard=1.0)
    fit.update({'steps': steps, 'batch_size': dense.batch_size, 'learning_rate': dense.learning_rate / 2,
                'weight_decay': dense.weight_decay})  # fmt: skip
    return fit
