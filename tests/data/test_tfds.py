"""TFDS: what is prepared from originals is what the originals say, and nothing of another data set."""

import hashlib
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets
from tensorflow_datasets.core.download import DownloadManager, extractor
from tensorflow_datasets.core.features import image_feature
from tensorflow_datasets.image_classification import mnist

from kdjax.data import originals, prepare, tfds, without_tensorflow
from kdjax.data.lazy import Lazy
from kdjax.errors import UsageError

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def prepared(tmp_path, restored):
    """From the names of data sets to a folder in which they were prepared, one after the other, by the command."""

    def folder(*names):
        for name in names:
            command = (sys.executable, ROOT / 'run.py', '--mode=prepare', f'--data={name}', f'--data_dir={tmp_path}')
            done = subprocess.run((*command, f'--originals={restored(name)}'), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip().splitlines()[-1].startswith(f'{tmp_path}/{name}/')
        return tmp_path

    return folder


def same(data_dir, name, folder, **how):
    """Whether a prepared data set is that of the original files, to the bit and in order."""
    found = tfds.prepared(name=name, data_dir=str(data_dir), **how)
    wanted = getattr(originals, name)(folder=str(folder), **how)
    for split in ('train', 'validation', 'test'):
        for part in ('inputs', 'labels'):
            np.testing.assert_array_equal(getattr(found.splits[split], part), getattr(wanted.splits[split], part))
    return found.checksum() == wanted.checksum() and found.classes == wanted.classes


FEW = {'train': 600, 't10k': 100}


@pytest.fixture
def few(monkeypatch):
    """Of the files of MNIST the first images alone, as TFDS and as we read them: all take half a minute."""
    monkeypatch.setattr(mnist, '_TRAIN_EXAMPLES', FEW['train'])
    monkeypatch.setattr(mnist, '_TEST_EXAMPLES', FEW['t10k'])
    whole = originals.content

    def content(data, name, place):
        header, size = (16, 28 * 28) if 'images' in name else (8, 1)
        return whole(data, name, place)[: header + size * FEW[name.partition('-')[0]]]

    monkeypatch.setattr(originals, 'content', content)


def test_mnist_is_prepared_from_its_originals_and_nothing_else_is_left(few, restored, tmp_path):
    place = prepare.prepare('mnist', str(restored('mnist')), str(tmp_path))
    assert place == tmp_path / 'mnist' / '3.0.1'
    assert same(tmp_path, 'mnist', restored('mnist'), validation=50)
    assert [path.name for path in tmp_path.iterdir()] == ['mnist']
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert prepare.prepare('tfds:mnist', data_dir=str(tmp_path)) == place
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == before


def test_lazy_inputs_are_decoded_when_they_are_asked_for(few, restored, tmp_path):
    prepare.prepare('mnist', str(restored('mnist')), str(tmp_path))
    found = tfds.prepared(name='mnist', data_dir=str(tmp_path), lazy=True, validation=50)
    wanted = originals.mnist(folder=str(restored('mnist')), validation=50)
    for name, split in wanted.splits.items():
        inputs, labels, _ = found.splits[name]
        assert isinstance(inputs, Lazy)
        assert (inputs.shape, inputs.dtype) == (split.inputs.shape, split.inputs.dtype)
        np.testing.assert_array_equal(labels, split.labels)
        np.testing.assert_array_equal(inputs[[0, 7, -1]], split.inputs[[0, 7, -1]])
    assert_cropped(tmp_path, wanted.splits['test'].inputs[:, :, :, 0])
    with pytest.raises(UsageError, match=r'made 20x20 while they are read: set size and lazy=True, got lazy=False'):
        tfds.prepared(name='mnist', data_dir=str(tmp_path), size=20)


def assert_cropped(data_dir, stored):
    """Their files are read, of whatever size, and cropped as those of a folder are."""
    how = {'size': 20, 'resize': 28, 'area': (0.3, 1.0)}
    column = tfds.prepared(name='mnist', data_dir=str(data_dir), lazy=True, validation=50, **how).splits['test'].inputs
    assert (column.shape, column.dtype) == ((len(stored), 20, 20, 3), np.uint8)
    np.testing.assert_array_equal(column[[0, 3]], np.repeat(stored[[0, 3], 4:24, 4:24, None], 3, axis=-1))
    views = column.seen(np.array([3, 3, 3]), np.array([0, 1, 2]), 0)
    np.testing.assert_array_equal(views[0], column[3])
    assert len({view.tobytes() for view in views}) == 3


@pytest.mark.slow
def test_all_three_prepared_in_one_folder_by_the_command_are_those_of_their_originals(prepared, restored):
    data_dir = prepared('mnist', 'fashion_mnist', 'cifar100')
    for name in ('mnist', 'fashion_mnist', 'cifar100'):
        assert same(data_dir, name, restored(name))
    assert sorted(path.name for path in data_dir.iterdir()) == ['cifar100', 'fashion_mnist', 'mnist']


def extracted(name, place, folder):
    """The labels that TFDS would prepare a data set from, with a download folder."""
    builder = tfds.builder(name, str(folder))
    (url,) = [url for url in builder.url_infos if url.endswith('t10k-labels-idx1-ubyte.gz')]
    manager = DownloadManager(download_dir=folder, manual_dir=place, url_infos=builder.url_infos, dataset_name=name)
    with without_tensorflow.preparing(name):
        return pathlib.Path(manager.download_and_extract(url)).read_bytes()


def test_a_download_folder_of_two_data_sets_would_mix_them_up_and_ours_has_one(restored, tmp_path, monkeypatch):
    places = {name: restored(name) / name for name in ('mnist', 'fashion_mnist')}
    truth = {name: originals.content(name, 't10k-labels-idx1-ubyte', place) for name, place in places.items()}
    common = {name: extracted(name, place, tmp_path / 'common') for name, place in places.items()}
    assert common == {'mnist': truth['mnist'], 'fashion_mnist': truth['mnist']}, 'the trap is gone: simplify prepare'
    found = {}

    def take(builder, download_dir, download_config):
        found[builder.name] = extracted(builder.name, download_config.manual_dir, download_dir)

    monkeypatch.setattr(tensorflow_datasets.core.DatasetBuilder, 'download_and_prepare', take)
    for name in places:
        prepare.prepare(name, str(restored(name)), str(tmp_path / 'ours'))
    assert found == truth


@pytest.mark.parametrize('name', ['mnist', 'fashion_mnist'])
def test_our_hashes_are_of_the_files_whose_packed_hashes_tfds_publishes(name, restored):
    infos = tfds.builder(name).url_infos
    assert len(infos) == 4
    for url, info in infos.items():
        packed = restored(name) / name / url.rpartition('/')[2]
        assert hashlib.sha256(packed.read_bytes()).hexdigest() == info.checksum
        originals.content(name, packed.stem, packed.parent)  # refuses what is not ours


def test_members_of_an_archive_are_refused_where_a_byte_differs(tmp_path):
    inside = tmp_path / 'originals' / 'cifar100' / 'cifar-100-binary'
    inside.mkdir(parents=True)
    for name in ('train.bin', 'test.bin', 'fine_label_names.txt', 'coarse_label_names.txt'):
        (inside / name).write_bytes(b'another')
    with pytest.raises(UsageError, match=r'train\.bin is not the original of cifar100'):
        prepare.prepare('cifar100', str(tmp_path / 'originals'), str(tmp_path / 'out'))
    assert not list((tmp_path / 'out').iterdir())


def test_an_archive_that_tfds_would_not_take_is_refused(tmp_path):
    for name in originals.FILES['mnist']:
        (tmp_path / f'{name}.gz').write_bytes(b'another')
    with pytest.raises(UsageError, match=f'mnist: a file in {tmp_path} is not the original: Artifact'):
        prepare.prepare('mnist', str(tmp_path), str(tmp_path / 'out'))
    for name in originals.FILES['mnist']:
        (tmp_path / f'{name}.gz').rename(tmp_path / name)
    with pytest.raises(UsageError, match=r'mnist: train-images-idx3-ubyte\.gz is not in .*; TFDS takes the files as'):
        prepare.prepare('mnist', str(tmp_path), str(tmp_path / 'out'))


def test_what_stands_in_for_tensorflow_is_taken_out_again():
    before = extractor.tf, image_feature._ImageEncoder._encode_image
    with pytest.raises(ZeroDivisionError), without_tensorflow.preparing('mnist'):
        1 / 0  # noqa: B018
    assert (extractor.tf, image_feature._ImageEncoder._encode_image) == before
    assert 'tensorflow' not in sys.modules


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ('imagenet2012',),
            r"preparing 'imagenet2012' needs TensorFlow: pip install tensorflow-cpu\. Without it, TFDS",
        ),
        (('kmnist', 'somewhere'), "unknown data set with originals 'kmnist'; there is: 'mnist'"),
        (('mnits',), "unknown data set of TFDS 'mnits'; there is: 'mnist'"),
        ((), 'say which data set to prepare: --data=mnist'),
    ],
)
def test_what_cannot_be_prepared_is_answered_with_what_can(arguments, message, tmp_path):
    name, folder = (*arguments, '', '')[:2]
    with pytest.raises(UsageError, match=message):
        prepare.prepare(name, folder, str(tmp_path))


def test_the_version_that_is_patched_is_the_one_that_is_asked_for(monkeypatch):
    assert f'tensorflow-datasets=={without_tensorflow.VERSION}' in (ROOT / 'setup.cfg').read_text()
    monkeypatch.setattr(tensorflow_datasets, '__version__', '4.9.11')
    with pytest.raises(UsageError, match=r'installed: 4\.9\.11'), without_tensorflow.preparing('mnist'):
        pass


def test_a_data_set_that_is_not_prepared_is_answered_with_the_command(tmp_path):
    command = f'python run.py --mode=prepare --data=mnist --data_dir={tmp_path}'
    with pytest.raises(
        UsageError, match=f"data set 'mnist' is not in {tmp_path}/mnist/3.0.1; prepare it with: {command}"
    ):
        tfds.prepared(name='mnist', data_dir=str(tmp_path))


# ---- other data sets, made here: vectors, which no codec touches


class Vectors(tensorflow_datasets.core.GeneratorBasedBuilder):
    """With a validation split of its own."""

    VERSION = tensorflow_datasets.core.Version('1.0.0')
    MODULE_NAME = 'vectors'
    LABEL = tensorflow_datasets.features.ClassLabel(names=['no', 'yes'])
    SPLITS = ('train', 'validation', 'test')

    def _info(self):
        features = tensorflow_datasets.features.FeaturesDict({
            'x': tensorflow_datasets.features.Tensor(shape=(None,), dtype=np.float32), 'y': self.LABEL})  # fmt: skip
        return tensorflow_datasets.core.DatasetInfo(builder=self, features=features, supervised_keys=('x', 'y'))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(k) for k, name in enumerate(self.SPLITS)}

    def length(self, index):
        return 3

    def _generate_examples(self, k):
        for i in range(4):
            yield i, {'x': np.full(self.length(i), 10 * k + i, np.float32), 'y': i % 2}


class Ragged(Vectors):
    def length(self, index):
        return 3 + index


class Measured(Vectors):
    LABEL = tensorflow_datasets.features.Scalar(np.int64)


def made(kind, data_dir, file_format='array_record'):
    kind(data_dir=data_dir, file_format=file_format).download_and_prepare()
    return {'name': kind.__name__.lower(), 'data_dir': str(data_dir)}


def test_a_validation_split_of_its_own_is_used_by_its_name(tmp_path):
    arguments = made(Vectors, tmp_path)
    own = tfds.prepared(**arguments, validation='validation')
    assert own.classes == ('no', 'yes')
    for k, split in enumerate(Vectors.SPLITS):
        inputs, labels, _ = own.splits[split]
        assert sorted(inputs[:, 0]) == [10 * k + i for i in range(4)]
        np.testing.assert_array_equal(labels, inputs[:, 0] % 2)
        assert (inputs.shape, inputs.dtype, labels.dtype) == ((4, 3), np.float32, np.int32)
    held = tfds.prepared(**arguments, validation=2)
    assert sorted(held.splits['validation'].labels) == [0, 1]
    assert tfds.prepared(**arguments, validation='test').splits['validation'].inputs.min() == 20
    other = tfds.prepared(**arguments, validation='validation', test='validation')
    assert other.splits['test'].inputs.min() == 10
    with pytest.raises(UsageError, match="unknown split 'tset' of data set 'vectors'; there is: 'test'"):
        tfds.prepared(**arguments, test='tset')


def test_what_cannot_be_held_in_one_array_or_is_no_classification_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"data set 'ragged' has inputs of different shapes, .*kdjax\.data\.lazy"):
        tfds.prepared(**made(Ragged, tmp_path), validation='validation')
    with pytest.raises(UsageError, match="data set 'measured' is not a classification: its features are x, y"):
        tfds.prepared(**made(Measured, tmp_path))
