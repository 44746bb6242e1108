"""A config is resolved once, and what is wrong with it is said at once and together."""

import copy
import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from kdjax.errors import UsageError
from kdjax.study.config import check, fields
from kdjax.study.config.search import Search
from kdjax.study.recipe import inputs, plan
from kdjax.study.recipe.recipe import BucketSpec, TaskSpec
from kdjax.study.recipe.resolve import resolve

ROOT = Path(__file__).resolve().parents[3]
TINY = runpy.run_path(str(ROOT / 'tests' / 'configs' / 'tiny.py'))['get_config']


def changed(**changes):
    return fields.changed(TINY(), {name.replace('__', '.'): value for name, value in changes.items()})


def test_all_that_is_wrong_is_said_one_a_line():
    config = changed(run__chunk=0, teacher__mode='cashed', baseline='nobody', fits__combined__learning_rate=-1.0)
    with pytest.raises(UsageError) as error:
        resolve(config)
    assert str(error.value).splitlines() == [
        "unknown teacher.mode 'cashed'; there is: 'cached', 'online'",
        'fits.combined.learning_rate must be a finite number >= 0, got -1.0',
        'run.chunk must be an integer >= 1, got 0',
        "unknown method 'nobody' in baseline; there is: 'combined', 'soft, then hard', 'hard labels'",
    ]


def test_what_terms_object_to_is_said_together_too():
    config = changed(terms__soft__form='kll', fits__baseline__optim__name='adam')
    with pytest.raises(UsageError) as error:
        resolve(config)
    assert sorted(line.partition(';')[0] for line in str(error.value).splitlines()) == [
        "fit 'baseline': unknown optimiser 'adam'",
        "fit 'combined', fit 'distill': unknown form 'kll' of SoftTargets",
    ]


def test_what_a_config_alone_shows_is_met_without_jax():
    code = """
import sys
from configs import base
from kdjax.study.config import check
check.check(base.get_config())
assert 'jax' not in sys.modules, 'JAX was loaded'
"""
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_a_knob_that_is_a_tuple_is_told_the_new_form():
    config = changed()
    with config.unlocked(), config.ignore_type():
        config.terms.soft.temperature = (2.0, 4.0)
    with pytest.raises(UsageError, match=r"config\.search: \{'terms\.soft\.temperature': \(2\.0, 4\.0\)\}"):
        resolve(config)


def test_a_field_that_a_fit_does_not_have_is_refused():
    config = changed()
    with config.unlocked():
        config.fits.combined.epochs = 3
    with pytest.raises(UsageError, match=r"unknown config field 'epochs' in 'fits.combined.epochs'; there is: 'steps'"):
        resolve(config)


# ---- what validation chooses from


def searched(**candidates):
    return resolve(changed(search=Search({name.replace('__', '.'): values for name, values in candidates.items()})))


def test_candidates_are_the_grid_of_every_fit_that_reads_them():
    recipe = searched(terms__soft__temperature=(2.0, 4.0))
    assert recipe.fits['combined'].candidates == [{'soft.temperature': 2.0}, {'soft.temperature': 4.0}]
    assert recipe.fits['baseline'].candidates == [{}]


def test_a_field_is_more_particular_than_a_star():
    recipe = resolve(
        changed(search=Search({'fits.*.learning_rate': (1e-3, 1e-2), 'fits.finetune.learning_rate': (3e-4,)}))
    )
    assert recipe.fits['combined'].knobs['learning_rate'] == (1e-3, 1e-2)
    assert recipe.fits['finetune'].knobs['learning_rate'] == (3e-4,)
    assert recipe.teachers['teacher'].fit.knobs['learning_rate'] == (1e-2,)


def test_a_number_that_is_given_is_not_searched():
    config = changed(search=Search({'fits.*.learning_rate': (1e-3, 1e-2)}))
    recipe = resolve(fields.changed(config, {'fits.combined.learning_rate': 0.5}))
    assert recipe.fits['combined'].knobs['learning_rate'] == (0.5,)
    assert recipe.fits['distill'].knobs['learning_rate'] == (1e-3, 1e-2)


@pytest.mark.parametrize(
    ('candidates', 'message'),
    [
        ({'terms__soft__form': (1.0, 2.0)}, "unknown knob 'form' of term 'soft' in config.search; there is: "),
        ({'fits__combined__steps': (1.0, 2.0)}, "unknown knob 'steps' of fit 'combined' in config.search"),
        ({'teacher__fit__learning_rate': (1.0, 2.0)}, 'must have one value for each knob'),
        ({'run__chunk': (1.0, 2.0)}, "'run.chunk' is no knob of a term or of a fit"),
        ({'terms__sofd__temperature': (1.0,)}, "unknown config field 'sofd'"),
        ({'terms__soft__temperature': (1.0, 0.0)}, 'temperature of SoftTargets must be > 0, got 0.0'),
    ],
)
def test_what_cannot_be_searched_is_refused(candidates, message):
    with pytest.raises(UsageError, match=message):
        searched(**candidates)


@pytest.mark.parametrize('values', [(), 4.0, ('four',), (True, False)])
def test_candidates_are_several_numbers(values):
    with pytest.raises(UsageError, match=r'config\.search: (a candidate|candidates) of'):
        Search({'terms.soft.temperature': values})


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'seed': -1}, 'seed must be an integer from 0 to 4294967295, got -1'),
        ({'seed': 2**32}, 'seed must be an integer from 0 to 4294967295'),
        ({'seeds': 10**12}, 'seeds must be an integer from 1 to 100000, got 1000000000000'),
        ({'data.views': 10**12}, 'data.views must be an integer from 1 to 10000'),
        ({'retry.attempts': -1}, 'retry.attempts must be an integer from 0 to 1000, got -1'),
        ({'fits.combined.batch_size': 10**11}, 'fits.combined.batch_size must be an integer from 1 to 2147483647'),
        ({'fits.combined.batch_size': 0}, '^fits.combined.batch_size must be an integer >= 1, got 0$'),
        ({'fits.combined.steps': -1}, 'fits.combined.steps must be an integer >= 0, got -1'),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(change, message):
    config = TINY()
    config.update_from_flattened_dict(change)
    with pytest.raises(UsageError, match=message):
        check.check(config)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('/elsewhere/x', "fit '/elsewhere/x' names a folder"),
        ('a+b', 'names a folder'),
        ('n' * 300, 'names a folder: use up to 80 letters'),
        ('evaluate', "fit 'evaluate' has the name of a stage"),
    ],
)
def test_names_that_become_folders_stay_inside_of_the_workdir(name, message):
    config = TINY()
    with config.unlocked():
        config.fits[name] = config.fits.combined
    with pytest.raises(UsageError, match=message):
        check.check(config)


def test_a_fit_stands_once_in_a_method():
    config = TINY()
    config.methods.combined = ('combined', 'combined')
    with pytest.raises(UsageError, match="method 'combined' has a fit twice: combined, combined"):
        check.check(config)


# ---- what stages are given


def test_a_stage_is_given_what_its_address_hashes_and_no_config():
    """Every field is hashed, or the inputs of a stage that is needed, or the place of a file whose hash is a field."""
    for stage in plan.stages_of(resolve(TINY())).values():
        names = {field.name for field in dataclasses.fields(stage.inputs)}
        known = {field.name for field in dataclasses.fields(stage.inputs) if 'by_key' in field.metadata}
        assert known <= {'source', 'before', 'teacher', 'ends', 'path', 'folded', 'parent'}
        assert not any(type(getattr(stage.inputs, name)).__name__ == 'ConfigDict' for name in names)


def test_a_field_of_the_inputs_that_changes_changes_the_address():
    stage = plan.stages_of(resolve(TINY()))['combined']
    others = {
        'seed': 7, 'precision': 'bfloat16', 'validate_every': 70, 'teaching': 'bfloat16', 'chain': ('x',), 'seeds': 9,
        'transfer_sizes': (9,), 'draw': 'groups', 'order': 'shared', 'classes': (1,), 'label_noise': 0.5,
        'gradient_every': 5,
        'student': dataclasses.replace(stage.inputs.student, net='x'),
        'views': dataclasses.replace(stage.inputs.views, views=9),
        'fit': dataclasses.replace(stage.inputs.fit, spec=dataclasses.replace(stage.inputs.fit.spec, steps=9)),
        'data': stage.inputs.data._replace(source='x'), 'task': TaskSpec('x'), 'column': 'x', 'start': {'a': 'b'},
        'buckets': BucketSpec((8,)), 'keep': 4, 'bound': 0.1, 'pretrained': 'x', 'new': ('x',),
    }  # fmt: skip
    hashed = {f.name for f in dataclasses.fields(stage.inputs) if 'by_key' not in f.metadata}
    assert set(others) == hashed
    for name, value in others.items():
        assert dataclasses.replace(stage.inputs, **{name: value}).reads() != stage.inputs.reads(), name


def test_whether_a_network_is_a_student_is_no_matter_of_identity():
    """A copied config resolves to the same."""
    assert plan.stages_of(resolve(copy.deepcopy(TINY()))).keys() == plan.stages_of(resolve(TINY())).keys()
    one, other = (plan.stages_of(resolve(config))['combined'] for config in (TINY(), copy.deepcopy(TINY())))
    assert one.key == other.key
    assert one.inputs.presented == other.inputs.presented


def test_checks_know_every_network_that_teaches():
    assert list(check.teachers(TINY())) == ['teacher']
    assert inputs.plain({'a': (1, 2)}) == {'a': [1, 2]}
