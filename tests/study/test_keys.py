"""Addresses stay: what was trained under one is found under it. `pinned_keys.json` has those of earlier versions.

A key may change only where it was wrong; then it is changed here, and CHANGELOG says so.
"""

import json
import runpy
from pathlib import Path

import pytest

from configs.sweeps import presets
from kdjax import trees
from kdjax.study.recipe import plan
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep import expand

ROOT = Path(__file__).resolve().parents[2]
PINNED = json.loads(Path(__file__).with_name('pinned_keys.json').read_text())
SINGLE = [name for name in PINNED if name not in ('presets', 'sweeps')]
LARGE = 600  # runs of a sweep beyond which its expansion takes the tests too long


def config_file(path):
    return runpy.run_path(str(ROOT / path))


def keys(config):
    return {name: stage.key for name, stage in plan.stages_of(resolve(config)).items()}


@pytest.mark.parametrize('name', SINGLE)
def test_stages_of_a_config_are_found_where_they_were(name):
    path, _, argument = name.partition(':')
    assert keys(config_file(path)['get_config'](argument)) == PINNED[name]


def test_presets_are_found_where_they_were():
    found = {}
    for name in presets.presets():
        stages = keys(config_file(f'configs/presets/{name}.py')['get_config'](''))
        found[name] = trees.digest({stage: key for stage, key in stages.items() if stage != 'evaluate'})
    assert found == PINNED['presets']


@pytest.mark.parametrize(
    'path',
    [
        pytest.param(path, marks=[pytest.mark.slow] * (PINNED['sweeps'][path]['runs'] > LARGE))
        for path in PINNED['sweeps']
    ],
)
def test_cells_of_a_sweep_are_found_where_they_were(path):
    file = config_file(path)
    planned = expand.expand(file['get_config'](''), file['sweep'](''))
    assert {
        'runs': len(planned.runs),
        'cells': len(planned.cells),
        'structures': len(planned.structures()),
        'keys': trees.digest([sorted(planned.cells), sorted(planned.stages)]),
        'grids': trees.digest(sorted(planned.structures())),
    } == PINNED['sweeps'][path]
