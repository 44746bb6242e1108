"""Images of any size, cropped while they are read: what is kept of each, and that a view is a function of numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from kdjax.data import folder, pictures, synthetic
from kdjax.data.augment import flip, identity
from kdjax.data.base import checked
from kdjax.data.feed import feed
from kdjax.data.lazy import Lazy, Viewed, drawn_while_read, subset
from kdjax.data.order import Stream
from kdjax.data.pictures import Crops, piece
from kdjax.data.stream import streamed
from kdjax.errors import UsageError
from kdjax.train import cache
from kdjax.types import Outputs

CLASSES, COUNTS = ('ant', 'bee', 'cat'), {'train': 6, 'val': 2}
SIZE, RESIZE, AREA = 8, 10, (0.2, 1.0)
ALL = np.arange(18)


@pytest.fixture(scope='module')
def painted(tmp_path_factory):
    """A tiny folder of JPEG and PNG images, no two of one size."""
    root, random = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for split, count in COUNTS.items():
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (*random.integers(12, 40, 2), 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f'{number}.{("png", "JPEG")[number % 2]}')
    return root


def read(root, **more):
    how = {'size': SIZE, 'resize': RESIZE, 'area': AREA, 'test': 'validation', 'lazy': True}
    return checked(folder.images(folder=str(root), **{**how, **more}))


@pytest.fixture(scope='module')
def train(painted):
    return read(painted).splits['train']


def test_the_middle_is_that_of_the_image_whose_shorter_side_is_resized():
    ramp = np.broadcast_to(np.linspace(0, 255, 120)[None, :, None], (80, 120, 3)).astype(np.uint8)
    found = Crops(size=28, resize=32).middle(Image.fromarray(ramp))
    scaled = np.asarray(Image.fromarray(ramp).resize((48, 32), Image.Resampling.BILINEAR))[2:30, 10:38]
    np.testing.assert_allclose(found.astype(int), scaled.astype(int), atol=1)
    whole = Crops(size=28).middle(Image.fromarray(ramp))
    np.testing.assert_array_equal(whole, np.asarray(Image.fromarray(ramp).resize((28, 28), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize('size', [(500, 375), (40, 40), (9, 7)])
def test_a_piece_lies_within_and_its_area_and_shape_are_of_their_ranges(size):
    random, shares = np.random.default_rng(0), []
    for _ in range(400):
        left, top, right, bottom = piece(*size, (0.08, 1.0), random)
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        assert (right - left - 0.5) / (bottom - top + 0.5) <= 4 / 3
        assert (right - left + 0.5) / (bottom - top - 0.5) >= 3 / 4
        shares.append((right - left) * (bottom - top) / np.prod(size))
    if min(size) > 9:  # of a few pixels all are rounded
        assert 0.07 < min(shares) < 0.1
        assert max(shares) > 0.9
        assert 0.4 < np.mean(shares) < 0.55  # uniform, but for large pieces that do not fit


def test_of_an_image_without_room_the_middle_is_taken():
    assert piece(1000, 10, (0.5, 1.0), np.random.default_rng(0)) == pytest.approx((493.33, 0, 506.67, 10), abs=0.01)
    assert piece(10, 1000, (0.5, 1.0), np.random.default_rng(0)) == pytest.approx((0, 493.33, 10, 506.67), abs=0.01)


def test_a_view_is_a_function_of_seed_example_and_number_and_the_first_is_what_evaluation_sees(train, painted):
    column = train.inputs
    assert isinstance(column, Viewed)
    assert (column.shape, column.dtype) == ((18, SIZE, SIZE, 3), np.uint8)
    views = np.arange(18) % 4
    found = column.seen(ALL, views, seed=3)
    np.testing.assert_array_equal(found[views == 0], column[ALL[views == 0]])
    order = np.random.default_rng(1).permutation(18).reshape(3, 6)
    np.testing.assert_array_equal(column.seen(order, views[order], 3), found[order])
    for other in (column.seen(ALL, views, 4), column.seen(ALL, views + 1, 3)):
        assert not any(np.array_equal(*pair) for pair in zip(other[views > 0], found[views > 0], strict=True))
    plain = read(painted, area=()).splits['train'].inputs
    assert not isinstance(plain, Viewed)
    np.testing.assert_array_equal(plain[:], column[:])


def test_a_part_of_a_column_still_has_views_and_another_identity(train):
    part = subset(train.inputs, np.array([4, 2]))
    np.testing.assert_array_equal(part[:], train.inputs[[4, 2]])
    assert not np.array_equal(part.seen(np.array([0]), np.array([2]), 0), part[:1])
    assert len({part.identity, train.inputs.identity, subset(train.inputs, np.array([2, 4])).identity}) == 3


def test_what_evaluation_sees_and_its_checksum_need_no_view_and_no_second_reading(painted, monkeypatch):
    found = read(painted)
    assert found.splits['validation'].inputs is found.splits['test'].inputs
    before = found.checksum()
    monkeypatch.setattr(pictures, 'read', lambda *_: pytest.fail('an image was read'))
    assert found.checksum() == before
    monkeypatch.undo()
    assert read(painted, area=(0.3, 1.0)).checksum() != before


class Counting:
    """The files of a column, which notes who was read."""

    def __init__(self, source):
        self.source, self.asked = source, []

    def __len__(self):
        return len(self.source)

    def __getitem__(self, position):
        self.asked.append(position)
        return self.source[position]


def stream(train, streams=None, source=None, **more):
    files = train.inputs._source if source is None else source
    column = Viewed(files, train.inputs._decode, train.inputs._draw, 'counted')
    columns = {'inputs': column, 'labels': train.labels}
    return streamed(streams or (Stream(ALL, 5),), 6, columns, flip(), 7, 4, **more)


def test_a_stream_shows_the_views_of_its_epochs_wherever_it_is_entered_and_by_parts(train):
    whole = stream(train)(0, 9)  # three epochs
    pixels, ids, views = (np.asarray(whole[name]) for name in ('inputs', 'id', 'view'))
    assert sorted({*views.ravel().tolist()}) == [0, 1, 2]
    wanted = train.inputs.seen(ids, views, 7).astype(np.float32) / 255
    straight, mirrored = (np.isclose(pixels, each, atol=1e-6).all((2, 3, 4)) for each in (wanted, wanted[..., ::-1, :]))
    assert (straight | mirrored).all()
    assert straight[views == 0].all()
    assert mirrored[views > 0].any()
    for start, stop, part in ((4, 9, slice(None)), (2, 5, slice(0, 2)), (2, 5, slice(2, 6))):
        source = Counting(train.inputs._source)
        again = stream(train, source=source, ahead=1, threads=1)(start, stop, part)
        for name, leaf in again.items():
            np.testing.assert_array_equal(leaf, whole[name][start:stop, part])
        if part != slice(None):  # a process reads its share alone, of these steps and a few that come after
            own = {*stream(train)(start, stop + 6, part)['id'].ravel().tolist()}
            assert {*source.asked[1:]} <= own


def test_cells_that_share_a_stream_share_what_is_read(train):
    source = Counting(train.inputs._source)
    same = [Stream(np.arange(6), seed) for seed in range(3)]  # all see the six in every step, in the same view
    assert stream(train, same, source, threads=1, ahead=1)(0, 2)['inputs'].shape == (2, 3, 6, SIZE, SIZE, 3)
    assert len(source.asked) <= 1 + 6 * (2 + 3)


def test_a_cache_holds_what_is_said_of_the_pixels_of_the_stream(train):
    def mean(variables, batch):
        return Outputs(jnp.mean(batch['inputs'], axis=(1, 2)), {})

    tables = cache.compute(mean, {}, {'inputs': train.inputs}, flip(), 7, 3, batch_size=6)
    batch = stream(train, tables=None)(0, 9)
    said = tables['teacher/logits'][batch['id'], batch['view']]
    np.testing.assert_allclose(said, np.mean(batch['inputs'], axis=(2, 3)), atol=1e-5)


def test_a_broken_image_is_named_by_its_path(painted, train, tmp_path):
    broken = tmp_path / 'broken.JPEG'
    broken.write_bytes((painted / 'train' / 'ant' / '1.JPEG').read_bytes()[:200])
    files = [*train.inputs._source[:17], broken]
    with pytest.raises(UsageError, match=r'broken\.JPEG cannot be read as an image'):
        stream(train, source=files)(0, 9)


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        ({'lazy': False}, r'area=\(0\.2, 1\.0\) draws another piece .*: set lazy=True, data\.stream=True'),
        ({'area': (0.5, 0.2)}, r'area must be two shares of a picture, 0 < least <= most <= 1, or \(\), got \(0\.5'),
        ({'area': (0.5,)}, r'area must be two shares'),
        ({'resize': 7}, r'size of images must be >= 1, and resize >= size or 0, got 8 and 7'),
        ({'test': 0}, r'no folder .*/test; images lie in'),
        ({'test': 'val'}, r"test must be 'validation', a number of training examples"),
        ({'folder': 'nowhere'}, r'no folder nowhere/train; images lie in'),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_read_so_is_refused(more, message, painted):
    with pytest.raises(UsageError, match=message):
        folder.images(**{'folder': str(painted), 'size': SIZE, 'resize': RESIZE, 'area': AREA, 'test': 'validation',
                         'lazy': True, **more})  # fmt: skip


def test_training_and_validation_must_both_be_there_and_have_the_same_classes(painted, tmp_path):
    (tmp_path / 'train').symlink_to(painted / 'train')
    with pytest.raises(UsageError, match=r"test='validation' needs a folder of that name, validation or val or valid"):
        read(tmp_path)
    (tmp_path / 'val' / 'dog').mkdir(parents=True)
    with pytest.raises(UsageError, match=r"val has the class 'dog', which has no training images"):
        read(tmp_path)


def test_who_reads_them_once_is_refused(train):
    columns = {'inputs': train.inputs, 'labels': train.labels}
    assert drawn_while_read(columns) == ['inputs']
    with pytest.raises(UsageError, match=r'inputs are cropped while they are read, anew for every view'):
        feed((Stream(ALL, 0),), 6, columns, identity(), 0, 4)
    with pytest.raises(UsageError, match=r'once for student and teacher: set data\.consistent=True'):
        stream(train, consistent=False)


def test_noise_has_the_numbers_of_imagenet_and_is_made_when_it_is_asked_for():
    found = checked(synthetic.images(size=4))
    assert [found.splits[name].size for name in ('train', 'validation', 'test')] == [1_281_167, 50_000, 50_000]
    assert len(found.classes) == 1000
    pixels = found.splits['train'].inputs
    assert isinstance(pixels, Lazy)
    np.testing.assert_array_equal(pixels[[5, 1_000_000]], np.stack([pixels[5], pixels[1_000_000]]))
    assert not np.array_equal(pixels[5], found.splits['test'].inputs[5])
    assert found.checksum() != checked(synthetic.images(size=4, train=2000)).checksum()
    small = synthetic.images(size=4, classes=2, train=6, test=2, lazy=False).splits['train']
    assert isinstance(small.inputs, np.ndarray)
    assert small.labels.tolist() == [0, 1, 0, 1, 0, 1]
    with pytest.raises(UsageError, match=r'train >= classes, got 4, 3, 50000 and 2'):
        synthetic.images(size=4, classes=3, train=2)


def test_batches_lie_on_the_device(train):
    assert isinstance(stream(train)(0, 1)['inputs'], jax.Array)
