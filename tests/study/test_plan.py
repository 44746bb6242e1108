"""Addresses: a stage is done again when, and only when, something that it depends on has changed."""

import copy
import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from kdjax.study import plan

TINY = runpy.run_path(str(Path(__file__).resolve().parents[1] / 'configs' / 'tiny.py'))['get_config']
STUDENTS = {'baseline', 'distill', 'distill+finetune', 'combined'}


def keys(change=lambda config: None):
    config = copy.deepcopy(TINY())
    with config.unlocked():
        change(config)
    return {name: stage.key for name, stage in plan.stages_of(config).items()}


def temperature(config):
    config.terms.soft.temperature = (3.0,)


def feature_term(config):
    config.terms.hint = ConfigDict({'kind': 'fitnets.Hint', 'layer': 'hidden1'})
    config.fits.combined.weights.hint = (1.0,)


def set_to(dotted, value):
    def change(config):
        *path, last = dotted.split('.')
        for part in path:
            config = config[part]
        config[last] = value

    return change


CHANGES = [
    (set_to('student.args.widths', (4,)), STUDENTS),
    (set_to('seeds', 3), STUDENTS),
    (set_to('data.transfer_sizes', (60,)), STUDENTS),
    (temperature, {'distill', 'distill+finetune', 'combined'}),
    (feature_term, {'cache', 'combined'}),
    (set_to('fits.finetune.steps', 40), {'distill+finetune'}),
    (set_to('data.views', 2), {'cache', *STUDENTS}),
    (set_to('teacher.args.widths', (16,)), {'teacher', 'cache', 'distill', 'distill+finetune', 'combined'}),
    (set_to('run.precision', 'bfloat16'), {'teacher', 'cache', *STUDENTS}),
    (set_to('run.layout', 'map'), set()),
    (set_to('run.runner', 'pmap'), set()),
    (set_to('accept.accuracy', 0.5), set()),
]


@pytest.mark.parametrize(('change', 'again'), CHANGES)
def test_only_what_depends_on_a_change_gets_a_new_address(change, again):
    before, after = keys(), keys(change)
    changed = {name for name in before if before[name] != after[name]}
    assert changed - {'evaluate'} == again
    assert ('evaluate' in changed) == bool(again - {'cache'})
