"""The tiny run with fits that change their student, one of each kind."""

import runpy
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from configs import base
from kdjax.study.recipe import plan
from kdjax.study.recipe.resolve import resolve
from kdjax.train import storage
from kdjax.train.checkpoint import load_variables

TINY = runpy.run_path(str(Path(__file__).resolve().parent / 'configs' / 'tiny.py'))['get_config']
FITS = {
    'prune': {'optim.pruning': 'global', 'optim.prune_every': 3, 'sparsity': 0.5},
    'qat': {'change': {'kind': 'quantize'}, 'bits': 4.0, 'teacher': 'before'},
    'pqk': {'change': {'kind': 'quantize'}, 'bits': 4.0, 'teacher': 'dense'},
    'ptq': {'change': {'kind': 'quantize'}, 'steps': 0},
    'narrow': {'change': {'kind': 'narrow', 'keep': 0.5}},
    'taylor': {'change': {'kind': 'narrow', 'keep': 0.5, 'score': 'taylor'}},
    'factor': {'change': {'kind': 'factor', 'ranks': {'dense1/kernel': 3}}},
    'share': {'change': {'kind': 'share', 'bits': 3}},
    'after': {},
    'own': {'teacher': 'dense'},
}  # fmt: skip


def config(methods, search=None, **fields):
    """The tiny run with these methods beside the baseline; fields by dotted name."""
    new = TINY()
    with new.unlocked(), new.ignore_type():
        for name in ('distill', 'finetune', 'combined'):
            del new.fits[name]
        for name, settings in FITS.items():
            new.fits[name] = base.fit(hard=0.1, soft=0.9)
            new.fits[name].steps, new.fits[name].learning_rate = 20, 1e-2
            for field, value in settings.items():
                put(new.fits[name], field, value)
        new.methods = ConfigDict({'hard labels': ('baseline',), **methods})
        new.accept.method = next(iter(methods))
        new.search = base.Search(search or {})
        for field, value in fields.items():
            put(new, field.replace('__', '.'), value)
    return new.lock()


def put(node, field, value):
    *way, last = field.split('.')
    for name in way:
        node = node[name]
    node[last] = ConfigDict(value) if isinstance(value, dict) else value


def chain(*fits, **fields):
    """What the last fit of a chain reads."""
    made = config({'method': fits}, **fields)
    return plan.stages_of(resolve(made))['+'.join(fits)].inputs


def variables(workdir, chain, which='variables'):
    (folder,) = workdir.glob(f'{chain}-*')
    return load_variables(folder / which), storage.read_json(folder / storage.ARTIFACT)['result']


def zeros(variables):
    return [np.asarray(variables['params'][layer]['kernel']) == 0 for layer in ('dense1', 'head')]
