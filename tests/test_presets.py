"""Presets: each is a job that could run, and every technique that a classifier can learn from has one."""

import functools
import runpy
from pathlib import Path

import numpy as np
import pytest
import rotation

from configs import bccd, preset
from configs.sweeps import presets as sweep
from kdjax.dataset import SPLITS, Dataset, Split
from kdjax.study.recipe import build, plan
from kdjax.study.recipe.resolve import resolve
from kdjax.study.report import technique_list

PRESETS = sweep.presets()
# What neither a classifier nor a detector of cells shows: several labels of one example, numbers, sequences of tags,
# items that a recommender scores, alignments of what is spoken, and what other detectors learn from labels.
WITHOUT = {
    'binary_cross_entropy', 'mld', 'mean_squared_error', 'bounded_regression', 'crf',
    'structural', 'structural_kl', 'bpr', 'ncf', 'ir_rrd', 'cd', 'dcd', 'topology', 'ctc',
    'ctc_frames', 'ctc_guided', 'ctc_sequences', 'focal', 'diou', 'centernet',
}  # fmt: skip


@functools.cache
def dataset(nets):
    """Digits, or as many made-up pictures as there are of blood cells."""
    if nets in preset.NETS:
        return build.dataset(resolve(preset.config(PRESETS['kd'])).data)
    count = bccd.PICTURES
    columns = {'boxes': np.full((count, 2, 4), 0.5, np.float32), 'size': np.full((count, 2), 100, np.int32)}
    pictures = Split(np.zeros((count, 32, 40, 3), np.uint8), np.zeros((count, 2), np.int32), columns)
    return Dataset(dict.fromkeys(SPLITS, pictures), bccd.CLASSES)


def quick(name):
    return sweep.importlib.import_module(f'configs.presets.{name}').get_config('quick')


@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_says_what_it_is_and_resolves(name):
    module = sweep.importlib.import_module(f'configs.presets.{name}')
    assert f'python run.py --config=configs/presets/{name}.py' in module.__doc__
    assert quick(name).is_locked
    assert resolve(quick(name)).methods


# A third of them a day.
@pytest.mark.parametrize('name', rotation.params([(name,) for name in PRESETS], [k // 3 for k in range(len(PRESETS))]))
def test_a_preset_could_run(name):
    """Every fit of it is traced with the shapes of real data: networks, taps, teachers, losses, updates."""
    costs = plan.check_shapes(resolve(quick(name)), dataset(PRESETS[name].nets))
    assert costs
    assert all(cost.flops > 0 for cost in costs.values())


def test_every_paper_has_a_preset():
    used = {term['kind'] for found in PRESETS.values() for term in found.terms.values()}
    known = {technique.kind for technique in technique_list.techniques()}
    assert used <= known
    assert {kind.partition('.')[0] for kind in known} - {kind.partition('.')[0] for kind in used} == WITHOUT


@pytest.mark.parametrize('nets', [*preset.NETS, preset.DETECTOR])
def test_the_sweep_has_them_all_side_by_side(nets):
    config = sweep.get_config(f'nets={nets},quick')
    assert set(config.methods) == {config.baseline, *(name for name, found in PRESETS.items() if found.nets == nets)}
    resolve(config)


@pytest.mark.parametrize('path', ['digits', 'sst2', 'wnut17', 'presets/kd'])
def test_a_quick_look_demands_nothing_and_so_ends_well(path):
    config = runpy.run_path(str(Path(__file__).parents[1] / 'configs' / f'{path}.py'))['get_config']('quick')
    assert (config.accept.score, config.accept.accuracy, config.accept.gap_recovered) == (0, 0, 0)
    assert config.retry.attempts == 0
