"""Original files: read as published, in the order of TFDS, and refused where a byte differs."""

import gzip
import hashlib

import numpy as np
import pytest

from kdjax.data import originals
from kdjax.errors import UsageError

RANDOM = np.random.default_rng(0)


def idx(array):
    """The idx format of bytes: two zeros, 8 for unsigned bytes, the number of axes, their sizes, big-endian."""
    header = bytes([0, 0, 8, array.ndim]) + b''.join(size.to_bytes(4, 'big') for size in array.shape)
    return header + array.tobytes()


def put(folder, monkeypatch, data, files):
    """Writes files and makes them the originals of `data`."""
    folder.mkdir(parents=True)
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    known = {name.removesuffix('.gz'): hashlib.md5(gzip.decompress(raw) if name.endswith('.gz') else raw).hexdigest()
             for name, raw in files.items() if not name.endswith('.txt')}  # fmt: skip
    monkeypatch.setitem(originals.FILES, data, known)


def tfds_order(name, count):
    """TFDS sorts by the md5 of the split's name followed by the key, here the position."""
    return sorted(range(count), key=lambda k: int(hashlib.md5(name.encode() + str(k).encode()).hexdigest(), 16))


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """Twenty images and ten in idx files, one of them packed."""
    arrays = {
        'train-images-idx3-ubyte': RANDOM.integers(0, 256, (20, 28, 28), np.uint8),
        'train-labels-idx1-ubyte': np.arange(20, dtype=np.uint8) % 10,
        't10k-images-idx3-ubyte': RANDOM.integers(0, 256, (10, 28, 28), np.uint8),
        't10k-labels-idx1-ubyte': np.arange(10, dtype=np.uint8),
    }
    files = {name: idx(array) for name, array in arrays.items()}
    files['train-images-idx3-ubyte.gz'] = gzip.compress(files.pop('train-images-idx3-ubyte'))
    put(tmp_path / 'mnist', monkeypatch, 'mnist', files)
    return tmp_path, arrays


def test_idx_files_are_read_packed_or_not_in_the_order_of_tfds(digits):
    folder, arrays = digits
    found = originals.mnist(folder=str(folder), validation='test')
    for split, prefix in (('train', 'train'), ('test', 't10k')):
        order = tfds_order(split, len(arrays[f'{prefix}-labels-idx1-ubyte']))
        inputs, labels, _ = found.splits[split]
        np.testing.assert_array_equal(inputs[..., 0], arrays[f'{prefix}-images-idx3-ubyte'][order])
        np.testing.assert_array_equal(labels, arrays[f'{prefix}-labels-idx1-ubyte'][order])
        assert (inputs.dtype, labels.dtype) == (np.uint8, np.int32)
    assert found.classes == tuple('0123456789')


def test_the_folder_may_be_given_itself_or_by_the_environment(digits, monkeypatch):
    folder, _ = digits
    wanted = originals.mnist(folder=str(folder), validation=5).checksum()
    assert originals.mnist(folder=str(folder / 'mnist'), validation=5).checksum() == wanted
    monkeypatch.setenv('KDJAX_DATA', str(folder))
    assert originals.mnist(validation=5).checksum() == wanted


def test_without_a_folder_or_a_file_it_says_what_is_missing_and_where(digits, monkeypatch):
    folder, _ = digits
    monkeypatch.delenv('KDJAX_DATA', raising=False)
    with pytest.raises(UsageError, match=r'mnist: give the folder .* data\.args\.folder or in KDJAX_DATA'):
        originals.mnist()
    (folder / 'mnist' / 't10k-labels-idx1-ubyte').unlink()
    with pytest.raises(UsageError, match=f"'t10k-labels-idx1-ubyte' is neither in {folder} nor in {folder}/mnist"):
        originals.mnist(folder=str(folder))


def test_a_file_that_differs_in_a_byte_or_is_cut_short_is_refused(digits):
    folder, _ = digits
    labels, images = (folder / 'mnist' / name for name in ('t10k-labels-idx1-ubyte', 'train-images-idx3-ubyte.gz'))
    raw = labels.read_bytes()
    labels.write_bytes(raw[:-1] + b'\x00')
    with pytest.raises(UsageError, match=r't10k-labels-idx1-ubyte is not the original of mnist: its md5 is'):
        originals.mnist(folder=str(folder))
    labels.write_bytes(raw)
    images.write_bytes(images.read_bytes()[:-20])
    with pytest.raises(UsageError, match=r'train-images-idx3-ubyte\.gz cannot be read'):
        originals.mnist(folder=str(folder))


@pytest.mark.parametrize(('data', 'label_bytes'), [('cifar10', 1), ('cifar100', 2)])
def test_cifar_rows_are_labels_and_the_planes_of_red_green_and_blue(data, label_bytes, tmp_path, monkeypatch):
    names = {name: RANDOM.integers(0, 10, (4, label_bytes), np.uint8) for name in originals.FILES[data]}
    pixels = {name: RANDOM.integers(0, 256, (4, 32, 32, 3), np.uint8) for name in names}
    files = {
        name: b''.join(
            labels.tobytes() + b''.join(image[..., plane].tobytes() for plane in range(3))
            for labels, image in zip(names[name], pixels[name], strict=True)
        )
        for name in names
    }
    files |= {name: b'apple\naquarium_fish\n' + b'\n'.join(b'c%d' % k for k in range(8)) for name in
              originals.NAMES[data]}  # fmt: skip
    put(tmp_path / data / originals.INSIDE[data], monkeypatch, data, files)
    found = getattr(originals, data)(folder=str(tmp_path), validation='test')
    for split, is_test in (('train', False), ('test', True)):
        own = [name for name in names if ('test' in name) == is_test]
        images, labels = (np.concatenate([table[name] for name in own]) for table in (pixels, names))
        order = tfds_order(split, len(images))
        np.testing.assert_array_equal(found.splits[split].inputs, images[order])
        np.testing.assert_array_equal(found.splits[split].labels, labels[order, -1])
    assert found.classes[:2] == ('apple', 'aquarium_fish')


@pytest.mark.parametrize(
    ('data', 'sums'), [('mnist', (1567298545, 264923200)), ('fashion_mnist', (3431114169, 573469082))]
)
def test_the_real_files_have_the_published_counts_and_the_pixels_that_tfds_gives(data, sums, restored):
    found = getattr(originals, data)(folder=str(restored(data)), validation=10000).splits
    assert {name: len(split.labels) for name, split in found.items()} == {
        'train': 50000,
        'validation': 10000,
        'test': 10000,
    }
    total = {name: int(split.inputs.sum(dtype=np.int64)) for name, split in found.items()}
    assert (total['train'] + total['validation'], total['test']) == sums
    shares = {name: np.bincount(split.labels) / len(split.labels) for name, split in found.items()}
    np.testing.assert_allclose(shares['train'], shares['validation'], atol=1e-4)
