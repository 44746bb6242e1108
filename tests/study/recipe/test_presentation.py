"""What a config says of data: which, how it is seen, by whom; wrong combinations are met before anything trains."""

import copy
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError
from kdjax.study.config.search import Search
from kdjax.study.recipe import build, context, dry_run, execute, plan
from kdjax.study.recipe.recipe import DataSource
from kdjax.study.recipe.resolve import resolve
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

ROOT = Path(__file__).resolve().parents[3]
TINY = runpy.run_path(str(ROOT / 'tests' / 'configs' / 'tiny.py'))['get_config']
MIXUP = {'kind': 'mix.mixup', 'alpha': 0.4}
CROPPED = ({'kind': 'augment.crop', 'padding': 1}, {'kind': 'augment.flip'})
NORMALISED = {'kind': 'preprocess.normalise', 'mean': (0.5,), 'std': (0.3,)}


def changed(**data):
    """The tiny config with other data fields; `mode` and `terms` are those of the teacher and the config."""
    config = copy.deepcopy(TINY())
    with config.unlocked(), config.ignore_type():
        config.teacher.mode = data.pop('mode', 'cached')
        for name, spec in data.pop('terms', {}).items():
            config.terms[name] = ConfigDict(spec)
            config.fits.combined.weights[name] = 1.0
        for name, value in data.items():
            config.data[name] = ConfigDict(value) if isinstance(value, dict) else value
    return config


def stripes(*, count, colour=False):
    """A data set of bytes, made here."""
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3 if colour else 1), np.uint8)
    split = Split(images, np.arange(count, dtype=np.int32) % 4)
    return Dataset(dict.fromkeys(('train', 'validation', 'test'), split), tuple('abcd'))


def source(config):
    return DataSource(config.data.source, config.data.args.to_dict(), config.data.preprocess.to_dict())


def dataset(config):
    return build.dataset(source(config))


OWN = {'source': f'{__name__}:stripes', 'args': {'count': 60}}


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """A data set of one's own is named by its module, and pytest imports this one under a name of its own making."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or type(sys)(__name__))
    monkeypatch.setattr(sys.modules[__name__], 'stripes', stripes, raising=False)


def test_a_source_gets_its_arguments_and_a_wrong_one_is_answered_with_those_it_takes():
    assert len(dataset(changed(**OWN)).splits['train'].labels) == 60
    wrong = changed(source=OWN['source'], args={'number': 60})
    with pytest.raises(UsageError, match=r"unknown argument 'number' of data set .*; there is: 'colour', 'count'"):
        dataset(wrong)
    with pytest.raises(UsageError, match="unknown data set of TFDS 'mnits'; there is: 'mnist'"):
        dataset(changed(source='tfds:mnits'))
    with pytest.raises(UsageError, match="data set 'mnist' is not in /nowhere/mnist"):
        dataset(changed(source='tfds:mnist', args={'data_dir': '/nowhere'}))


def test_two_data_sets_of_one_source_are_kept_apart():
    datasets = context.Datasets()
    few, many = source(changed(**OWN)), source(changed(source=OWN['source'], args={'count': 80}))
    assert datasets(few) is datasets(few)
    assert len(datasets(many).splits['train'].labels) == 80
    assert datasets.checksum(few) != datasets.checksum(many)


@pytest.mark.parametrize(
    ('data', 'again'),
    [
        ({'args': {'count': 60}}, 'all'),
        ({'preprocess': NORMALISED}, 'all'),
        ({'augment': CROPPED}, 'students and cache'),
        ({'mix': MIXUP, 'mode': 'online'}, 'students'),
        ({'consistent': False, 'views': 2}, 'students'),
    ],
)
def test_only_what_sees_a_change_gets_a_new_address(data, again):
    common = {name: value for name, value in data.items() if name in ('mode', 'views')}
    before, after = (plan.stages_of(resolve(changed(**{**common, **own}))) for own in ({}, data))
    others = {name for name in before if before[name].key != after[name].key}
    students = {'baseline', 'distill', 'distill+finetune', 'combined', 'evaluate'}
    wanted = {'all': set(before), 'students and cache': {'cache', *students}, 'students': students}[again]
    assert others == wanted


def batch_of(config, stage='combined'):
    return dry_run._batch(plan.stages_of(resolve(config))[stage].inputs, stripes(count=60))


def test_a_traced_batch_is_what_the_feed_gives():
    config = changed(augment=CROPPED, mix=MIXUP, consistent=False, views=3, preprocess=NORMALISED, mode='online')
    size = config.fits.combined.batch_size
    shapes = {name: (leaf.shape, str(leaf.dtype)) for name, leaf in batch_of(config).items()}
    image, vector = ((size, 8, 8, 1), 'float32'), ((size,), 'int32')
    assert shapes == {
        'inputs': image, 'teacher_inputs': image, 'id': vector, 'view': vector, 'mask': ((size,), 'float32'),
        'labels_mixed': ((size, 2), 'int32'), 'mix': ((size, 2), 'float32'),
    }  # fmt: skip
    assert set(batch_of(config, 'teacher')) == {'inputs', 'labels', 'id', 'view', 'mask'}


CACHED = "what 'teacher' tells fit '(distill|combined)' cannot be cached: set mode='online' of 'teacher'"
SOBOLEV = {'sobolev': {'kind': 'sobolev.Sobolev'}}
RANDAUGMENT = {'kind': 'randaugment.randaugment'}
COLOUR = {'kind': 'preprocess.normalise', 'mean': (0.5,) * 3, 'std': (0.3,) * 3}
DECOUPLED = {'decoupled': {'kind': 'dkd.DecoupledTargets'}}


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        ({'mix': MIXUP}, CACHED),
        ({'mix': {'kind': 'mix.mixpu'}, 'mode': 'online'}, "unknown mixing 'mix.mixpu'; there is: 'mix.mixup'"),
        ({'mix': MIXUP, 'mode': 'online', 'terms': DECOUPLED}, "term 'decoupled' reads labels, and mixed"),
        ({'consistent': False}, r'data\.consistent=False needs data\.views >= 2'),
        ({'consistent': 'no'}, r"data\.consistent must be True or False, got 'no'"),
        ({'consistent': False, 'views': 2, 'terms': SOBOLEV}, r"fit 'combined' compares \['tangents'\] at the pixels"),
        ({'augment': ({'kind': 'augment.crop'}, {'padding': 2})}, r'data\.augment\[1\]\.kind is missing'),
        ({'augment': RANDAUGMENT, 'source': 'digits.digits', 'args': {}}, 'randaugment needs images of bytes'),
        ({'preprocess': COLOUR}, 'normalise has 3 channels, but inputs are'),
    ],
)
def test_what_cannot_be_seen_so_is_met_before_anything_trains(data, message):
    config = changed(**{**OWN, **data})
    with pytest.raises(UsageError, match=message):
        checked(config)


def checked(config):
    recipe = resolve(config)
    plan.check_shapes(recipe, build.dataset(recipe.data))


def test_mixing_and_other_views_may_be_had_together_with_a_teacher_online():
    config = changed(**OWN, mix=MIXUP, consistent=False, views=2, mode='online', augment=CROPPED)
    checked(config)


def test_what_the_readme_says_of_data_is_a_config():
    code = (ROOT / 'README.md').read_text().partition('### Data\n')[2].partition('```python\n')[2].partition('```')[0]
    config = changed()
    with config.unlocked(), config.ignore_type():
        exec(code, {'config': config, 'ConfigDict': ConfigDict, 'FOLDER': '/nowhere'})
    photographs = Dataset({'train': Split(np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2))}, ())
    batch = dry_run._batch(plan.stages_of(resolve(config))['combined'].inputs, photographs)
    assert batch['inputs'].shape[1:] == (32, 32, 3)
    with pytest.raises(UsageError, match=r"cifar100: 'train\.bin' is neither in /nowhere nor in /nowhere/cifar100"):
        dataset(config)


# ---- whole runs, on real digits as bytes


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """scikit-learn's digits as bytes, and the same numbers as networks are to see them, each in a file."""
    folder, raw = tmp_path_factory.mktemp('digits'), load_digits()
    parts = {'train': slice(0, 1000), 'validation': slice(1000, 1300), 'test': slice(1300, 1797)}
    images = (raw.images * 15).astype(np.uint8)[..., None]
    for name, inputs in (('stored', images), ('seen', ((images / 255 - 0.5) / 0.3).astype(np.float32))):
        arrays = {f'{split}_{what}': of[part] for split, part in parts.items()
                  for what, of in (('inputs', inputs), ('labels', raw.target))}  # fmt: skip
        np.savez(folder / f'{name}.npz', **arrays)
    return folder


def ran(workdir, path, **data):
    """What a short run of two methods found."""
    flipped = ({'kind': 'augment.flip'}, {'kind': 'augment.flip'})
    config = changed(**{'source': 'arrays.arrays', 'args': {'path': str(path)}, 'augment': flipped, 'views': 3, **data})
    with config.unlocked(), config.ignore_type():
        config.methods = ConfigDict({'hard labels': ('baseline',), 'combined': ('combined',)})
        config.seeds, config.data.transfer_sizes, config.search = 1, (500,), Search()
        for fit in (config.teacher.fit, *config.fits.values()):
            fit.steps = 150
    with StopSignals() as stop, Screen() as screen:
        recipe = resolve(config.lock())
        done = context.Context(recipe.execution, screen, stop)
        execute.execute(list(plan.stages_of(recipe).values()), done, workdir)
    found = done.done['evaluate'].result
    students = {method: sizes['500']['last'][0]['nll'] for method, sizes in found['metrics'].items()}
    return {'teacher': found['teacher']['nll'], **students}


@pytest.mark.rotating(0, 2)
def test_a_run_on_bytes_is_the_run_on_what_they_are_seen_as(digits, tmp_path):
    """By teacher, cache, student and whoever judges them: one that saw another scale would find other numbers."""
    stored = ran(tmp_path / 'stored', digits / 'stored.npz', preprocess=NORMALISED)
    seen = ran(tmp_path / 'seen', digits / 'seen.npz')
    assert stored == pytest.approx(seen, rel=0.01)
    assert max(seen.values()) < 1  # nats; chance is 2.3


@pytest.mark.slow
def test_students_learn_from_mixed_examples_and_a_teacher_that_sees_other_views(digits, tmp_path):
    found = ran(tmp_path, digits / 'stored.npz', preprocess=NORMALISED, mix=MIXUP, consistent=False, mode='online')
    assert max(found.values()) < 1.2
