"""A run that reads its inputs batch by batch ends in the bits of one that has them in memory, and never has them."""

import sys

import jax
import numpy as np
import pytest
from blobs import blobs

from configs import base
from kdjax import trees
from kdjax.dataset import Split
from kdjax.errors import UsageError
from kdjax.study.recipe import build, execute, plan
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep.rows import applied
from kdjax.train.checkpoint import load_variables
from kdjax.train.ledger import Ledger
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

FIELDS = {
    'seeds': 2, 'student.args.widths': (8,), 'teacher.args.widths': (16,),
    'data.source': 'arrays.arrays', 'data.transfer_sizes': (60,), 'data.views': 2, 'data.label_noise': 0.1,
    'data.augment': {'kind': 'augment.shift', 'pixels': 1}, 'data.preprocess': {'kind': 'preprocess.unit'},
    'methods': {'combined': ('combined',), 'hard labels': ('baseline',)}, 'teacher.fit.steps': 30, 'fits.*.steps': 30,
    'run.chunk': 10, 'run.validate_every': 10, 'run.save_every': 20, 'run.anatomy_every': 20,
}  # fmt: skip


pytestmark = pytest.mark.xdist_group('streamed')  # its tests share what takes long to make


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A data set as a folder of .npy files."""
    found = tmp_path_factory.mktemp('arrays')
    for name, split in blobs().splits.items():
        np.save(found / f'{name}_inputs.npy', split.inputs)
        np.save(found / f'{name}_labels.npy', split.labels)
    return found


@pytest.fixture(scope='module')
def ran(folder, tmp_path_factory):
    """Of both runs: the folder, what each stage said, and the splits whose inputs lay on the device at any log line."""
    return [_ran(folder, tmp_path_factory.mktemp('run'), stream) for stream in (False, True)]


def _ran(folder, workdir, stream):
    config = applied(base.config().lock(), {**FIELDS, 'data.args': {'path': str(folder)}, 'data.stream': stream})
    recipe = resolve(config)
    context = Context(recipe.execution, Screen(quiet=True), StopSignals())
    dataset = context.datasets(recipe.data)
    plan.check_shapes(recipe, dataset)
    shapes, seen = {name: split.inputs.shape for name, split in dataset.splits.items()}, set()

    def flush(ledger):
        on_device = {array.shape for array in jax.live_arrays()}
        seen.update(name for name, shape in shapes.items() if shape in on_device or (1, *shape) in on_device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, 'flush', flush)
        execute.execute(list(plan.stages_of(recipe).values()), context, workdir)
    return workdir, {name: artifact.result for name, artifact in context.done.items()}, seen


def test_it_ends_in_the_same_weights(ran):
    (wanted, *_), (found, *_) = ran
    paths = sorted(path.relative_to(wanted) for path in wanted.glob('*/*') if path.name in ('variables', 'best'))
    assert len(paths) == 5  # of the teacher, and two of each student's fit
    for path in paths:
        assert trees.fingerprint(load_variables(found / path)) == trees.fingerprint(load_variables(wanted / path))


def test_it_says_the_same(ran):
    wanted, found = ran[0][1], ran[1][1]
    assert set(found) == set(wanted) == {'teacher', 'cache', 'baseline', 'combined', 'evaluate'}
    for result in (wanted, found):
        for cost in (result['evaluate']['cost'], result['evaluate']['teacher']):
            cost.pop('latency_ms')
    assert found == wanted


def test_no_split_was_on_the_device_whole(ran):
    assert ran[1][2] == set()
    assert ran[0][2] >= {'train', 'validation'}


def test_in_memory_and_on_disk_it_is_the_same_data_set(folder):
    config = applied(base.config().lock(), {**FIELDS, 'data.args': {'path': str(folder)}})
    dataset = build.dataset(resolve(config).data)
    assert all(isinstance(split.inputs, np.memmap) for split in dataset.splits.values())
    assert dataset.splits['train'].labels.dtype == np.int32
    loaded = {name: Split(np.array(split.inputs), split.labels) for name, split in dataset.splits.items()}
    assert dataset.checksum() == dataset._replace(splits=loaded).checksum() == blobs().checksum()


def test_what_cannot_be_streamed_is_said_before_anything_trains(monkeypatch):
    monkeypatch.setitem(sys.modules, 'grain', None)
    with pytest.raises(UsageError, match=r"data.stream=True needs the extra 'stream'"):
        resolve(applied(base.config().lock(), {'data.stream': True}))
