"""Images in files of ArrayRecord: the same as in folders, and what is wrong with files and records."""

import io

import numpy as np
import pytest
import tensorflow_datasets
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from kdjax.data import folder, records
from kdjax.data.base import checked
from kdjax.errors import UsageError

CLASSES, COUNTS = ('ant', 'bee', 'cat'), {'train': 6, 'val': 2}


def number(value):
    """A varint of protobuf."""
    value %= 2**64
    return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + number(value // 128)


def nested(place, content):
    """A field of a message: a message, bytes or text."""
    return number(8 * place + 2) + number(len(content)) + content


def example(packed=True, **features):
    """A tf.train.Example, written from its .proto: bytes, texts, integers and floats, lists of one."""

    def feature(value):
        if isinstance(value, str | bytes):
            return nested(1, nested(1, value if isinstance(value, bytes) else value.encode()))
        if isinstance(value, float):
            return nested(2, nested(1, np.float32(value).tobytes()))
        return nested(3, nested(1, number(value)) if packed else number(8) + number(value))

    entries = (nested(1, nested(1, name.encode()) + nested(2, feature(value))) for name, value in features.items())
    return nested(1, b''.join(entries))


def encoded(pixels, kind='png'):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write(path, examples):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = ArrayRecordWriter(str(path), 'group_size:1')
    for one in examples:
        writer.write(one)
    writer.close()


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """The same images in folders of classes and in files of ArrayRecord, in one order."""
    root, random = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for split, count in COUNTS.items():
        examples = []
        for label, name in enumerate(CLASSES):
            for place in range(count):
                content = encoded(random.integers(0, 256, (*random.integers(9, 20, 2), 3), np.uint8))
                file = root / 'folders' / split / name / f'{place}.png'
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                examples.append((content, label, name))
        half = len(examples) // 2
        for part, some in enumerate((examples[:half], examples[half:])):
            numbers = [example(part == 0, image=image, label=label, size=1.5) for image, label, _ in some]
            write(root / 'numbers' / f'pets-{split}.array_record-0000{part}-of-00002', numbers)
            texts = [example(picture=image, kind=name) for image, _, name in some]
            write(root / 'texts' / split / f'{part}.arrayrecord', texts)
    (root / 'numbers' / 'label.labels.txt').write_text('\n'.join(CLASSES) + '\n')
    return root


@pytest.mark.parametrize(('where', 'named'), [('numbers', {}), ('texts', {'image': 'picture', 'label': 'kind'})])
@pytest.mark.parametrize('how', [{}, {'resize': 10}, {'lazy': True, 'area': (0.2, 1.0)}])
def test_records_are_the_images_of_folders(roots, where, named, how):
    wanted, found = (
        checked(source(folder=str(roots / place), size=8, test='validation' if how else 3, **how, **more))
        for source, place, more in ((folder.images, 'folders', {}), (records.images, where, named))
    )
    assert found.classes == wanted.classes == CLASSES
    assert {*found.splits} == {*wanted.splits}
    for name, split in wanted.splits.items():
        np.testing.assert_array_equal(found.splits[name].labels, split.labels)
        np.testing.assert_array_equal(found.splits[name].inputs[:], split.inputs[:])
    if 'area' in how:
        ids, views = np.arange(18), np.full(18, 3)
        inputs = found.splits['train'].inputs
        np.testing.assert_array_equal(inputs.seen(ids, views, 0), wanted.splits['train'].inputs.seen(ids, views, 0))


class Painted(tensorflow_datasets.core.GeneratorBasedBuilder):
    """Images of two classes, as TFDS writes them."""

    VERSION = tensorflow_datasets.core.Version('1.0.0')

    def _info(self):
        return self.dataset_info_from_configs(features=tensorflow_datasets.features.FeaturesDict({
            'image': tensorflow_datasets.features.Image(shape=(5, 7, 3)),
            'label': tensorflow_datasets.features.ClassLabel(names=['no', 'yes']),
        }), supervised_keys=('image', 'label'))  # fmt: skip

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples(4), 'test': self._generate_examples(2)}

    def _generate_examples(self, count):
        for place in range(count):
            yield place, {'image': encoded(np.full((5, 7, 3), 40 * place, np.uint8)), 'label': place % 2}


def test_what_tfds_has_written_is_read_without_it(tmp_path):
    builder = Painted(data_dir=tmp_path, file_format='array_record')
    builder.download_and_prepare()
    found = checked(records.images(folder=str(builder.data_path), size=5, validation=2))
    assert found.classes == ('no', 'yes')
    for name, size in (('train', 2), ('validation', 2), ('test', 2)):
        split = found.splits[name]
        assert split.inputs.shape == (size, 5, 5, 3)
        np.testing.assert_array_equal(split.inputs[:, 0, 0, 0] // 40 % 2, split.labels)


def test_what_is_wrong_with_files_is_said(tmp_path, roots):
    def read(**more):
        return records.images(**{'folder': str(tmp_path), 'size': 4, **more})

    with pytest.raises(UsageError, match=r'no files of ArrayRecord \(\*\.array_record\*, .* in '):
        read()
    some = [example(image=encoded(np.zeros((3, 3, 3), np.uint8)), label=0)] * 4
    write(tmp_path / 'a.array_record', some)
    with pytest.raises(UsageError, match=r'a\.array_record must be of one split .* and is of none'):
        read()
    (tmp_path / 'a.array_record').rename(tmp_path / 'train-test.array_record')
    with pytest.raises(UsageError, match=r"of one split .* and is of 'train' and of 'test'"):
        read()
    train = tmp_path / 'x-train.array_record-00000-of-00003'
    (tmp_path / 'train-test.array_record').rename(train)
    with pytest.raises(UsageError, match=r'x-train\.array_record is in 3 files, of which 2 are missing: .* number 1'):
        read(test=2)
    train = train.rename(tmp_path / 'x-train.array_record')
    with pytest.raises(UsageError, match=r"no file of ArrayRecord in .* has 'test' in its name .*test=0\.2"):
        read()
    assert read(test=1, validation=1).splits['train'].size == 2
    content = train.read_bytes()
    for damaged in (content[: len(content) // 2], b'', b'something else' * 20):
        train.write_bytes(damaged)
        with pytest.raises(UsageError, match=r'x-train\.array_record cannot be read as ArrayRecord: '):
            read(test=1)


@pytest.mark.parametrize(('one', 'match'), [
    (b'\xff\xff', 'a record of 2 bytes is no tf.train.Example'),
    (example(label=0), "unknown feature 'image' of a record; there is: 'label'"),
    (example(image=b'x'), "unknown feature 'label' of a record; there is: 'image'"),
    (example(image=b'x', label=0.0), "feature 'label' of a record must be one number .* got 1 of float_list"),
    (example(image=3, label=0), "feature 'image' of a record must be the bytes of one image, got 1 of int64_list"),
    (example(image=b'x', label=0), 'an image of 1 bytes cannot be read as an image'),
    (example(image=b'x', label=-2), "unknown class -2 of a record in .* split 'train'"),
])  # fmt: skip
def test_what_is_wrong_with_records_is_said(tmp_path, one, match):
    whole = example(image=encoded(np.zeros((3, 3, 3), np.uint8)), label=0)
    write(tmp_path / 'train.array_record', [whole, one])
    write(tmp_path / 'test.array_record', [whole])
    with pytest.raises(UsageError, match=match):
        records.images(folder=str(tmp_path), size=4)


def test_a_class_that_is_new_in_another_split_is_said(tmp_path):
    content = encoded(np.zeros((3, 3, 3), np.uint8))
    for split, label in (('train', 'ant'), ('test', 'bee')):
        write(tmp_path / f'{split}.array_record', [example(image=content, label=label)])
    with pytest.raises(UsageError, match=r"unknown class 'bee' of a record in .* split 'test'; there is: 'ant'"):
        records.images(folder=str(tmp_path), size=4)


def test_numbers_that_count_no_classes_and_files_of_nothing_are_said(tmp_path):
    write(tmp_path / 'train.array_record', [example(image=encoded(np.zeros((3, 3, 3), np.uint8)), label=10**9)])
    write(tmp_path / 'test.array_record', [])
    with pytest.raises(UsageError, match=r'test\.array_record and the files after it have no records'):
        records.images(folder=str(tmp_path), size=4)
    (tmp_path / 'test.array_record').unlink()
    with pytest.raises(UsageError, match=r'1 records for training cannot have 1000000001 classes.*label\.labels\.txt'):
        records.images(folder=str(tmp_path), size=4, test=1)


def test_without_the_library_its_extra_is_named(tmp_path, monkeypatch):
    write(tmp_path / 'train.array_record', [example(label=0)])
    monkeypatch.setitem(__import__('sys').modules, 'array_record.python.array_record_data_source', None)
    with pytest.raises(UsageError, match="need the extra 'stream': pip install"):
        records.images(folder=str(tmp_path), size=4, test=1)
