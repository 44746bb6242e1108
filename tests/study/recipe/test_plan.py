"""Addresses: a stage is done again when, and only when, something that it depends on has changed."""

import copy
import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from kdjax.errors import UsageError
from kdjax.study.config.search import Search
from kdjax.study.recipe import plan
from kdjax.study.recipe.resolve import resolve

TINY = runpy.run_path(str(Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'))['get_config']
STUDENTS = {'baseline', 'distill', 'distill+finetune', 'combined'}
EVERY = {'teacher', 'cache', *STUDENTS}  # with other dispatches validation falls on other steps
EVERY = {'teacher', 'cache', *STUDENTS}  # with other dispatches validation falls on other steps


def keys(change=lambda config: None):
    config = copy.deepcopy(TINY())
    with config.unlocked():
        change(config)
    return {name: stage.key for name, stage in plan.stages_of(resolve(config)).items()}


def temperature(config):
    config.search = Search({'terms.soft.temperature': (2.0, 3.0)})


def feature_term(config):
    config.terms.hint = ConfigDict({'kind': 'fitnets.Hint', 'layer': 'hidden1'})
    config.fits.combined.weights.hint = 1.0


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
    (set_to('teacher.precision', 'bfloat16'), {'cache', 'distill', 'distill+finetune', 'combined'}),
    (set_to('run.layout', 'map'), set()),
    (set_to('run.runner', 'pmap'), set()),
    (set_to('run.anatomy_every', 10), STUDENTS),
    (set_to('run.chunk', 7), EVERY),
    (set_to('run.save_every', 7), set()),
    (set_to('run.chunk', 7), EVERY),
    (set_to('run.save_every', 7), set()),
    (set_to('data.classes', (1, 2)), STUDENTS),
    (set_to('accept.accuracy', 0.5), set()),
]


@pytest.mark.parametrize(('change', 'again'), CHANGES)
def test_only_what_depends_on_a_change_gets_a_new_address(change, again):
    before, after = keys(), keys(change)
    changed = {name for name in before if before[name] != after[name]}
    assert changed - {'evaluate'} == again
    assert ('evaluate' in changed) == bool(again - {'cache'})


# ---- who teaches


def assisted(config, **taught):
    """An assistant per entry, taught by the one that is named; the combined fit is taught by the first."""
    for name, by in taught.items():
        config.assistants[name] = copy.deepcopy(config.teacher)
        config.assistants[name].fit.weights = ConfigDict({'hard': 0.5, 'soft': 0.5})
        config.assistants[name].fit.teacher = by
    config.search, config.terms.soft.temperature = Search(), 2.0
    config.fits.combined.teacher = next(iter(taught))


def staged(**taught):
    config = copy.deepcopy(TINY())
    with config.unlocked(), config.ignore_type():
        assisted(config, **taught)
    return config


def test_an_assistant_comes_after_its_teacher_and_has_its_own_cache():
    found = plan.stages_of(resolve(staged(small='middle', middle='teacher')))
    assert list(found)[:3] == ['teacher', 'middle', 'small']
    assert found['middle'].needs == ('teacher',)
    assert found['small'].needs == ('middle',)
    assert found['cache_small'].needs == ('small',)
    assert found['combined'].needs == ('cache_small',)
    assert found['distill'].needs == ('cache',)
    assert 'cache_middle' not in found


def test_an_assistant_of_the_assistant_changes_who_was_taught_by_it_alone():
    before, config = (
        plan.stages_of(resolve(staged(small='middle', middle='teacher'))),
        staged(small='middle', middle='teacher'),
    )
    with config.unlocked():
        config.assistants.middle.fit.steps = 99
    after = plan.stages_of(resolve(config))
    changed = {name for name in before if before[name].key != after[name].key}
    assert changed == {'middle', 'small', 'cache_small', 'combined', 'evaluate'}


@pytest.mark.parametrize(
    ('taught', 'message'),
    [
        ({'small': 'middel', 'middle': 'teacher'}, "unknown teacher 'middel' of a fit; there is: 'middle'"),
        ({'small': 'middle', 'middle': 'small'}, 'teach each other in a circle'),
        ({'distill': 'teacher'}, "assistant 'distill' has the name of a stage"),
        ({'small': 'average'}, 'set optim.ema'),
    ],
)
def test_a_wrong_teacher_is_met_before_anything_trains(taught, message):
    with pytest.raises(UsageError, match=message):
        resolve(staged(**taught))


def test_what_a_term_takes_over_must_not_decay():
    config = copy.deepcopy(TINY())
    with config.unlocked(), config.ignore_type():
        config.terms.srrl = ConfigDict({'kind': 'srrl.SoftmaxRegression', 'layer': 'hidden1'})
        config.fits.combined.weights.srrl = 1.0
        config.fits.combined.terms_weight_decay = 1e-3
    with pytest.raises(UsageError, match=r"terms_weight_decay must be 0, got .*: it would shrink what \['srrl'\] take"):
        resolve(config)
    with config.unlocked():
        config.terms.srrl.classifier = ''
    resolve(config)
