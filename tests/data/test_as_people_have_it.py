"""Data as people have them: other integers, other names, hidden files, deep pixels, damage. Made right or refused."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from kdjax.data import arrays, folder
from kdjax.data.base import checked, completed
from kdjax.data.lazy import Lazy
from kdjax.data.preprocess import normalise
from kdjax.dataset import GROUPS, Dataset, Split, folds, grouped
from kdjax.errors import Remark, UsageError
from kdjax.tasks.classification import Classification

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (24, 4, 4), np.uint8)
LABELS = np.arange(24) % 3


def three(inputs, labels=LABELS, **more):
    """A data set whose splits are alike."""
    return Dataset(dict.fromkeys(('train', 'validation', 'test'), Split(inputs, labels, more)), ('a', 'b', 'c'))


def saved(path, **given):
    np.savez(path, **given)
    return str(path)


@pytest.mark.parametrize('dtype', [np.int64, np.uint16, np.int32, np.uint64])
def test_images_of_wide_integers_from_0_to_255_are_bytes(dtype):
    found = checked(three(BYTES.astype(dtype))).splits['train'].inputs
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, BYTES)


def test_images_of_16_bits_are_scaled_and_booleans_are_0_and_1():
    words = BYTES.astype(np.uint16) * 257
    np.testing.assert_allclose(checked(three(words)).splits['test'].inputs, BYTES / 255, atol=1e-7)
    bits = checked(three(BYTES > 99)).splits['test'].inputs
    assert bits.dtype == np.float32
    np.testing.assert_array_equal(bits, BYTES > 99)


def test_what_is_mapped_stays_in_its_file_and_is_made_right_when_it_is_read(tmp_path):
    np.save(tmp_path / 'x.npy', BYTES.astype(np.int64))
    found = checked(three(np.load(tmp_path / 'x.npy', mmap_mode='r'))).splits['train'].inputs
    assert isinstance(found, Lazy)
    np.testing.assert_array_equal(found[:], BYTES)


HOLE = np.where(np.arange(24)[:, None, None] == 3, np.nan, BYTES / 255)


@pytest.mark.parametrize(
    ('inputs', 'message'),
    [
        (BYTES.astype(np.int64) * 300, r'inputs are int64 of \d+ to \d+, and nothing says what stands for black'),
        (BYTES.reshape(24, 16).astype(np.int64), 'inputs are int64 .*; give images as uint8'),
        (BYTES.astype(str), r'inputs of split .train. are <U3, no numbers'),
        (BYTES.astype(complex), 'are complex128, no numbers'),
        (HOLE, r"inputs of split 'train' have 1 example with nan or infinite numbers, the first at position 3"),
        (BYTES * 1e300, "inputs of split 'train' have 24 examples with nan"),
        (np.array(3.0), r'inputs of split .train. must be an array of examples'),
        (np.zeros((24, 0)), r'inputs of split .train. have no numbers: they are 24x0'),
        (np.zeros((0, 4)), "split 'train' is empty"),
    ],
)
def test_what_no_network_can_read_is_refused(inputs, message):
    with pytest.raises(UsageError, match=message):
        checked(three(inputs))


def test_splits_of_other_shapes_or_kinds_are_refused():
    whole = three(BYTES)
    for inputs, message in (
        (BYTES[:, :2], r"inputs of 'test' are 2x4, of 'train' 4x4"),
        (BYTES / 255, "inputs are uint8 in 'train', uint8 in 'validation', float64 in 'test': bytes and floats"),
    ):
        with pytest.raises(UsageError, match=message):
            checked(whole._replace(splits={**whole.splits, 'test': Split(inputs, LABELS)}))
    with pytest.raises(UsageError, match=r'must return a kdjax\.dataset\.Dataset, got str'):
        checked('/somewhere')


def test_what_is_read_when_it_is_asked_for_is_met_then_by_its_position():
    found = checked(three(Lazy(HOLE)))
    with pytest.raises(UsageError, match=r"inputs of split 'train' .*the first at position 3"):
        found.splits['train'].inputs[:]


def test_normalise_computes_in_float32():
    found = normalise(mean=(0.1307,), std=(0.3081,))(np.arange(0, 250, 50)[:, None])
    np.testing.assert_allclose(found, (np.arange(0, 250, 50)[:, None] - 0.1307) / 0.3081, rtol=1e-5)
    assert found.dtype == np.float32
    with pytest.raises(UsageError, match='a positive std'):
        normalise(mean=(0.1,), std=(float('nan'),))


KERAS = {'x_train': BYTES, 'y_train': LABELS[:, None], 'x_test': BYTES[:6], 'y_test': LABELS[:6]}


def test_the_names_of_others_are_understood(tmp_path):
    found = checked(arrays.arrays(path=saved(tmp_path / 'keras.npz', **KERAS), validation=0.25))
    assert {name: split.size for name, split in found.splits.items()} == {'train': 18, 'validation': 6, 'test': 6}
    assert found.splits['train'].labels.shape == (18,)
    np.testing.assert_array_equal(np.bincount(found.splits['validation'].labels), [2, 2, 2])
    medical = {f'{split}_{part}': value for split in ('train', 'val', 'test')
               for part, value in (('images', BYTES), ('labels', LABELS))}  # fmt: skip
    assert checked(arrays.arrays(path=saved(tmp_path / 'medical.npz', **medical))).splits['validation'].size == 24
    with pytest.raises(UsageError, match=r"'x_train' and 'train_images' in .* are both the inputs of train"):
        arrays.arrays(path=saved(tmp_path / 'both.npz', **KERAS, train_images=BYTES), validation=0.25)
    with pytest.raises(UsageError, match=r'unknown array .validation_inputs.*draw it from training: validation=0\.1'):
        arrays.arrays(path=saved(tmp_path / 'keras.npz', **KERAS))
    with pytest.raises(UsageError, match=r'test=0\.1 is for data without such a split'):
        arrays.arrays(path=saved(tmp_path / 'keras.npz', **KERAS), test=0.1, validation=0.25)


@pytest.mark.parametrize('names', [('x', 'y'), ('images', 'labels'), ('inputs', 'targets')])
def test_arrays_without_splits_are_divided_once_and_for_all(names, tmp_path):
    path = saved(tmp_path / 'own.npz', **dict(zip(names, (BYTES, LABELS), strict=True)))
    found, again = (arrays.arrays(path=path, test=0.25, validation=6) for _ in range(2))
    assert [split.size for split in checked(found).splits.values()] == [12, 6, 6]
    assert found.checksum() == again.checksum()
    together = np.concatenate([split.inputs for split in found.splits.values()])
    assert sorted(map(bytes, together)) == sorted(map(bytes, BYTES))


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        (LABELS + 1, 'labels in .* are 3 numbers from 1 to 3, and class 0 has no example: number the classes from 0'),
        (LABELS * 100, 'labels in .* are 3 numbers from 0 to 200, and class 1 has no example'),
        (np.where(LABELS == 2, 10**9, LABELS), 'from 0 to 1000000000, and class 2 has no example'),
        (LABELS + 2**40, r'labels of .train. in .* are 1099511627776 to \d+: classes are numbered from 0'),
    ],
)
def test_labels_that_leave_classes_out_are_refused_unless_they_are_named(labels, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        arrays.arrays(path=saved(tmp_path / 'own.npz', x=BYTES, y=labels), test=0.25, validation=0.25)


def test_named_classes_may_be_absent_but_not_from_training_alone(tmp_path):
    names = np.array(['none', 'a', 'b', 'c'])
    found = arrays.arrays(path=saved(tmp_path / 'x.npz', x=BYTES, y=LABELS + 1, classes=names), test=6, validation=6)
    Classification().check(checked(found))
    fewer = found.splits['train']._replace(labels=np.where(found.splits['train'].labels == 3, 1, 2).astype(np.int32))
    with pytest.raises(UsageError, match=r"class 'c' \(3\) has examples in split 'validation' and none in training"):
        Classification().check(found._replace(splits={**found.splits, 'train': fewer}))
    alone = Dataset(dict.fromkeys(('train', 'validation', 'test'), Split(BYTES, LABELS * 0)), ('0',))
    with pytest.raises(UsageError, match="needs at least 2 classes, the data have 1: '0'"):
        Classification().check(alone)


def test_files_that_are_not_what_their_names_say_are_refused(tmp_path):
    np.save(tmp_path / 'x.npy', BYTES)
    (tmp_path / 'empty.npz').write_bytes(b'')
    said = b"{'descr': '<f8', 'fortran_order': False, 'shape': (500000000000,), }"
    header = np.lib.format.magic(1, 0) + b'v\x00' + said.ljust(117) + b'\n'
    with zipfile.ZipFile(tmp_path / 'huge.npz', 'w') as archive:
        archive.writestr('x.npy', header)
    for name, message in (('x.npy', 'it holds one array'), ('empty.npz', 'cannot be read'),
                          ('huge.npz', r'x\.npy is said to be \(500000000000,\) float64')):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            arrays.arrays(path=str(tmp_path / name))
    with pytest.raises(UsageError, match='path must be the name of'):
        arrays.arrays(path=5)


def drawn(root, names=('a', 'b'), count=10, suffix='.png', make=lambda k: Image.new('RGB', (4, 4), (k, k, k))):
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            make(k).save(root / name / f'{k}{suffix}')
    return root


def grey16(k):
    return Image.fromarray(np.full((4, 4), 257 * 20 * k, np.uint16))


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.TIFF'])
def test_grey_images_of_16_bits_are_no_whiter_than_those_of_8(suffix, tmp_path):
    drawn(tmp_path, suffix=suffix, make=grey16)
    found = checked(folder.images(folder=str(tmp_path), size=4, test=0.2, validation=0.1))
    shades = np.sort(np.concatenate([split.inputs[:, 0, 0, 0] for split in found.splits.values()]))
    np.testing.assert_array_equal(shades, np.repeat(20 * np.arange(10), 2))


@pytest.mark.parametrize('dtype', [np.float32, np.int32])
def test_pixels_whose_white_is_not_known_are_refused_by_name_and_mode(dtype, tmp_path):
    drawn(tmp_path, suffix='.tif', make=lambda k: Image.fromarray(np.full((4, 4), 1, dtype)))
    with pytest.raises(UsageError, match=r"a/\d\.tif has pixels of mode '[FI]', whose white is not known"):
        folder.images(folder=str(tmp_path), size=4, test=0.2, validation=0.1)


def test_what_is_hidden_is_no_class_and_no_image(tmp_path):
    drawn(tmp_path)
    (tmp_path / '.ipynb_checkpoints').mkdir()
    (tmp_path / 'a' / '._0.png').write_text('of another system')
    found = folder.images(folder=str(tmp_path), size=4, test=0.2, validation=0.1)
    assert found.classes == ('a', 'b')
    for name, each in (('train', 7), ('validation', 1), ('test', 2)):
        np.testing.assert_array_equal(np.bincount(found.splits[name].labels), [each, each])


def test_what_is_left_out_is_counted_and_a_class_without_images_is_named(tmp_path):
    drawn(tmp_path)
    (tmp_path / 'a' / 'x.svg').write_text('')
    Image.new('RGB', (4, 4)).save(tmp_path / 'loose.png')
    with pytest.warns(Remark, match=r'2 entries in .* are left out, .*: 1 \.png, 1 \.svg'):
        folder.images(folder=str(tmp_path), size=4, test=0.2, validation=0.1)
    drawn(tmp_path / 'c', names=('images',))
    with pytest.raises(UsageError, match=r"class 'c' has no training image .* there is a folder 'images' in it"):
        folder.images(folder=str(tmp_path), size=4, test=0.2, validation=0.1)


def test_a_folder_of_training_and_val_lends_its_test_split_from_training(tmp_path):
    drawn(tmp_path / 'train')
    drawn(tmp_path / 'val', count=3)
    found = folder.images(folder=str(tmp_path), size=4, test=0.2)
    assert [split.size for split in found.splits.values()] == [16, 6, 4]
    with pytest.raises(UsageError, match=r'no folder .*/test; images lie in .* test=0\.2'):
        folder.images(folder=str(tmp_path), size=4)


def test_images_with_too_many_pixels_are_refused(tmp_path, monkeypatch):
    drawn(tmp_path)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 7)
    with pytest.raises(UsageError, match=r'\.png has too many pixels; make it smaller'):
        folder.images(folder=str(tmp_path), size=4, test=0.2, validation=0.1)


def test_no_group_stands_on_two_sides(tmp_path):
    owners = RANDOM.integers(0, 30, 400)
    sizes = (280, 40, 80)
    parts = grouped(owners, np.arange(400) % 4, sizes, 0)
    assert sorted(np.concatenate(parts)) == list(range(400))
    assert all(abs(len(part) - size) <= 20 for part, size in zip(parts, sizes, strict=True))
    places = folds(np.arange(400) % 4, 5, 0, owners)
    assert all(len(np.unique(places[owners == one])) == 1 for one in np.unique(owners))
    given = {'x': np.zeros((400, 3), np.float32), 'y': np.arange(400) % 4, 'groups': owners}
    found = checked(arrays.arrays(path=saved(tmp_path / 'own.npz', **given), test=0.2, validation=0.1))
    kept = [set(split.more[GROUPS].tolist()) for split in found.splits.values()]
    assert sum(map(len, kept)) == len(set.union(*kept))
    with pytest.raises(UsageError, match='2 groups cannot be dealt out to 3 sets'):
        completed({'train': Split(BYTES, LABELS, {GROUPS: np.arange(24) % 2})}, test=6, validation=6)


@pytest.mark.parametrize(('own', 'other'), [('test', 'validation'), ('validation', 'test')])
def test_one_split_may_serve_as_both(own, other):
    train, there = Split(BYTES, LABELS), Split(BYTES[:6], LABELS[:6])
    for given, size in (({'train': train, own: there}, {}), ({'train': train}, {own: 6})):
        found = completed(given, **{other: own}, **size)
        assert found[own] is found[other]
        assert [found[name].size for name in ('train', own)] == [24 - 6 * bool(size), 6]
    with pytest.raises(UsageError, match="test='validation' and validation='test' say of each other"):
        completed({'train': train}, test='validation', validation='test')
