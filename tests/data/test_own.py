"""One's own data: arrays in a file, images in folders, and what is held out for validation."""

import numpy as np
import pytest
from PIL import Image

from kdjax.data import arrays, folder
from kdjax.data.base import checked, divided
from kdjax.data.lazy import Lazy
from kdjax.dataset import Split
from kdjax.errors import Remark, UsageError
from kdjax.tasks.classification import Classification

RANDOM = np.random.default_rng(0)
ARRAYS = {
    f'{split}_{part}': value
    for k, split in enumerate(('train', 'validation', 'test'))
    for part, value in (
        ('inputs', RANDOM.integers(0, 256, (4 + k, 3, 3, 1), np.uint8)),
        ('labels', np.arange(4 + k) % 3),
    )
}


def mapped(folder, **changed):
    folder.mkdir()
    for name, value in (ARRAYS | changed).items():
        np.save(folder / f'{name}.npy', value)
    return str(folder)


def test_arrays_of_a_folder_stay_in_their_files(tmp_path):
    found = checked(arrays.arrays(path=mapped(tmp_path / 'own', classes=np.array(['a', 'b', 'c']))))
    assert found.classes == ('a', 'b', 'c')
    assert all(isinstance(split.inputs, np.memmap) for split in found.splits.values())
    assert found.checksum() == arrays.arrays(path=saved(tmp_path / 'own.npz')).checksum()
    (tmp_path / 'own' / 'test_labels.npy').write_text('no array')
    with pytest.raises(UsageError, match=r'arrays .*own. cannot be read'):
        arrays.arrays(path=str(tmp_path / 'own'))
    (tmp_path / 'own' / 'test_labels.npy').unlink()
    with pytest.raises(UsageError, match=r"unknown array 'test_labels' in .*own'; there is: 'train_labels'"):
        arrays.arrays(path=str(tmp_path / 'own'))


def saved(path, **changed):
    np.savez(path, **{name: value for name, value in (ARRAYS | changed).items() if value is not None})
    return str(path)


def test_arrays_are_those_of_the_file(tmp_path):
    found = checked(arrays.arrays(path=saved(tmp_path / 'own.npz')))
    for split in ('train', 'validation', 'test'):
        np.testing.assert_array_equal(found.splits[split].inputs, ARRAYS[f'{split}_inputs'])
        np.testing.assert_array_equal(found.splits[split].labels, ARRAYS[f'{split}_labels'])
        assert found.splits[split].inputs.dtype == np.uint8
        assert found.splits[split].labels.dtype == np.int32
    assert found.classes == ('0', '1', '2')
    named = arrays.arrays(path=saved(tmp_path / 'named.npz', classes=np.array(['a', 'b', 'c'])))
    assert named.classes == ('a', 'b', 'c')


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'test_labels': None}, "unknown array 'test_labels' in .*; there is: 'train_labels'"),
        ({'test_labels': np.zeros(6)}, r"labels of 'test' in .* must be \(N, \.\.\.\) integers, got \(6,\) float64"),
        ({'train_labels': np.zeros((), int)}, r"labels of 'train' in .* got \(\) int64"),
        ({'train_length': np.zeros(4, int)}, "unknown array 'test_length' in .*; there is: 'train_length'"),
        ({'validation_labels': None, 'train_labels': None}, "unknown array 'validation_labels' in"),
        ({'mean': np.zeros((2, 2))}, r'mean in .* must be a value or a list, got \(2, 2\); a column .* train_mean,'),
    ],
)
def test_a_file_without_the_arrays_is_refused(changed, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        arrays.arrays(path=saved(tmp_path / 'own.npz', **changed))


COLUMNS = {
    f'{split}_{column}': values[: 4 + k]
    for k, split in enumerate(('train', 'validation', 'test'))
    for column, values in {
        'inputs': RANDOM.integers(2, 9, (6, 5), np.int32),
        'labels': RANDOM.integers(-1, 3, (6, 5), np.int32),
        'length': np.full(6, 5, np.int32),
        'teacher_inputs': RANDOM.random((6, 2, 2)),
    }.items()
}
FACTS = {'vocabulary': np.array(9), 'words': np.array(['', 'a', 'b']), 'padded': np.array(['inputs', 'labels'])}


@pytest.mark.parametrize('kept', [lambda path, **given: mapped(path, **given),
                                  lambda path, **given: saved(path.with_suffix('.npz'), **given)])  # fmt: skip
def test_arrays_may_have_further_columns_of_any_shape_and_facts(kept, tmp_path):
    found = checked(arrays.arrays(path=kept(tmp_path / 'own', **COLUMNS, **FACTS)))
    for name, split in found.splits.items():
        columns = split.columns()
        assert sorted(columns) == ['inputs', 'labels', 'length', 'teacher_inputs']
        for column, values in columns.items():
            np.testing.assert_array_equal(values, COLUMNS[f'{name}_{column}'])
    assert found.facts == {'vocabulary': 9, 'words': ('', 'a', 'b')}
    assert (found.padded, found.classes) == (('inputs', 'labels'), ('0', '1', '2'))
    with pytest.raises(UsageError, match=r'classification needs integer labels \(N,\), split .* has int32 \(4, 5\)'):
        Classification().check(found)


def test_labels_may_be_absent_from_training_or_altogether(tmp_path):
    some = checked(arrays.arrays(path=saved(tmp_path / 'some.npz', train_labels=None)))
    np.testing.assert_array_equal(some.splits['train'].labels, [-1] * 4)
    np.testing.assert_array_equal(some.splits['test'].labels, ARRAYS['test_labels'])
    assert some.classes == ('0', '1', '2')
    without = {f'{split}_labels': None for split in ('train', 'validation', 'test')}
    none = checked(arrays.arrays(path=saved(tmp_path / 'none.npz', **without)))
    assert all(split.labels is None for split in none.splits.values())
    assert none.classes == ()


def test_what_is_no_file_of_arrays_is_refused(tmp_path):
    (tmp_path / 'text.npz').write_text('no arrays')
    for path in (tmp_path / 'absent.npz', tmp_path / 'text.npz'):
        with pytest.raises(UsageError, match=r'arrays .* cannot be read'):
            arrays.arrays(path=str(path))


def paint(root, split, name, colours):
    """One-coloured images: of any size they stay what they are."""
    (root / split / name).mkdir(parents=True, exist_ok=True)
    for k, colour in enumerate(colours):
        Image.new('RGB', (5 + k, 9), colour).save(root / split / name / f'{k}.png')


@pytest.fixture
def unremarked(painted):
    """The images without what is no image."""
    (painted / 'train' / 'red' / 'notes.txt').unlink()
    return painted


@pytest.fixture
def painted(tmp_path):
    paint(tmp_path, 'train', 'red', [(255, 0, 0), (200, 0, 0), (150, 0, 0)])
    paint(tmp_path, 'train', 'blue', [(0, 0, 255)])
    paint(tmp_path, 'test', 'red', [(100, 0, 0)])
    (tmp_path / 'train' / 'red' / 'notes.txt').write_text('no image')
    return tmp_path


def test_images_in_folders_are_resized_and_labelled_by_folder(painted):
    with pytest.warns(Remark, match=r'1 entries in .* are left out, .*: 1 \.txt \(the first: .*notes\.txt\)'):
        found = folder.images(folder=str(painted), size=4, validation='test')
    assert found.classes == ('blue', 'red')
    train = found.splits['train']
    assert (train.inputs.shape, train.inputs.dtype) == ((4, 4, 4, 3), np.uint8)
    colours = [tuple(image[0, 0].tolist()) for image in train.inputs]
    assert all((image == image[0, 0]).all() for image in train.inputs)
    assert list(zip(train.labels.tolist(), colours, strict=True)) == [
        (0, (0, 0, 255)),
        (1, (255, 0, 0)),
        (1, (200, 0, 0)),
        (1, (150, 0, 0)),
    ]
    assert found.splits['validation'] is found.splits['test']


def test_lazy_images_are_read_when_they_are_asked_for(unremarked):
    found, wanted = (folder.images(folder=str(unremarked), size=4, validation=2, lazy=lazy) for lazy in (True, False))
    assert all(isinstance(found.splits[name].inputs, Lazy) for name in ('train', 'validation', 'test'))
    assert found.checksum() == wanted.checksum()
    (unremarked / 'train' / 'red' / '1.png').write_text('no image')
    with pytest.raises(UsageError, match=r'red/1\.png cannot be read as an image'):
        [found.splits[name].inputs[:] for name in ('train', 'validation')]


def test_a_folder_for_validation_is_used_where_there_is_one(unremarked):
    paint(unremarked, 'validation', 'blue', [(0, 0, 9)])
    found = checked(folder.images(folder=str(unremarked), size=2))
    assert found.splits['validation'].inputs.max() == 9
    assert len(found.splits['train'].labels) == 4


def test_folders_that_are_no_data_set_are_refused(unremarked):
    with pytest.raises(
        UsageError,
        match="validation must be 'test', a number of training examples in 1 to 3 or a share of them below 1, got 0",
    ):
        folder.images(folder=str(unremarked), size=4)
    with pytest.raises(UsageError, match=r'size of images must be >= 1, .*, got 0 and 0'):
        folder.images(folder=str(unremarked), size=0)
    with pytest.raises(UsageError, match=r'no folder .*nowhere/train; images lie in'):
        folder.images(folder=str(unremarked / 'nowhere'), size=4)
    (unremarked / 'test' / 'red' / '1.png').write_text('no image')
    with pytest.raises(UsageError, match=r'red/1\.png cannot be read as an image'):
        folder.images(folder=str(unremarked), size=4, validation=1)
    paint(unremarked, 'test', 'green', [(0, 9, 0)])
    with pytest.raises(UsageError, match=r"test has the class 'green', which has no training images"):
        folder.images(folder=str(unremarked), size=4, validation=1)


LABELS = np.arange(60, dtype=np.int32) % 3
TRAIN, TEST = (Split(np.arange(count, dtype=np.float32)[:, None], LABELS[:count]) for count in (60, 6))


def test_what_is_held_out_is_taken_from_training_in_proportion_and_alike_every_time():
    found, again = (divided(TRAIN, TEST, ('a', 'b', 'c'), 12) for _ in range(2))
    train, held = (found.splits[name] for name in ('train', 'validation'))
    assert sorted(np.concatenate([train.inputs, held.inputs])[:, 0]) == list(range(60))
    np.testing.assert_array_equal(np.bincount(held.labels), [4, 4, 4])
    for split in (train, held):
        np.testing.assert_array_equal(split.labels, LABELS[split.inputs[:, 0].astype(int)])
    assert found.splits['test'] is TEST
    assert found.checksum() == again.checksum()


def test_the_test_split_may_serve_as_validation_and_then_nothing_is_held_out():
    found = divided(TRAIN, TEST, ('a', 'b', 'c'), 'test')
    assert found.splits == {'train': TRAIN, 'validation': TEST, 'test': TEST}


@pytest.mark.parametrize('validation', [0, 60, -1, True, 'tset', 1.0, 0.0])
def test_what_cannot_be_held_out_is_refused(validation):
    with pytest.raises(
        UsageError, match="validation must be 'test', a number of training examples in 1 to 59 or a share"
    ):
        divided(TRAIN, TEST, ('a', 'b', 'c'), validation)
