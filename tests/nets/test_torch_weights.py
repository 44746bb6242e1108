"""Weights from PyTorch: files written byte by byte, a network computed in numpy from them, and what is refused."""

import functools
import io
import itertools
import os
import pickle
import struct
import zipfile

import jax
import numpy as np
import published
import pytest

from kdjax.errors import UsageError
from kdjax.nets import cnn, resnet_cifar, torch_weights

WIDTHS, CLASSES, SIDE = (3, 4, 5, 6), 3, 8
IMAGES = np.random.default_rng(1).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)
NET = resnet_cifar.resnet(classes=CLASSES, depth=8, widths=WIDTHS)


@functools.cache
def like():
    return jax.eval_shape(NET.init, jax.random.key(0), IMAGES.transpose(0, 2, 3, 1))


@functools.cache
def state():
    """A state dict of the network in PyTorch's names and layout, with one block in each stage."""
    random, found = np.random.default_rng(0), {}

    def conv(name, into, out, size):
        found[f'{name}.weight'] = random.normal(0, (2 / (into * size**2)) ** 0.5, (out, into, size, size))

    def norm(name, width):
        found[f'{name}.weight'], found[f'{name}.bias'] = random.uniform(0.5, 1.5, width), random.normal(0, 0.2, width)
        found[f'{name}.running_mean'] = random.normal(0, 0.2, width)
        found[f'{name}.running_var'] = random.uniform(0.5, 1.5, width)

    conv('conv1', 3, WIDTHS[0], 3)
    norm('bn1', WIDTHS[0])
    for stage, (into, out) in enumerate(itertools.pairwise(WIDTHS), start=1):
        for place, source in ((1, into), (2, out)):
            conv(f'layer{stage}.0.conv{place}', source, out, 3)
            norm(f'layer{stage}.0.bn{place}', out)
        conv(f'layer{stage}.0.downsample.0', into, out, 1)
        norm(f'layer{stage}.0.downsample.1', out)
    found['fc.weight'], found['fc.bias'] = random.normal(size=(CLASSES, WIDTHS[3])), random.normal(size=CLASSES)
    return {name: values.astype(np.float32) for name, values in found.items()}


def features():
    """Taps and logits of the network in numpy, in double precision."""
    weights, taps = {name: values.astype(np.float64) for name, values in state().items()}, {}

    def norm(x, name):
        scale, bias, mean, var = (
            weights[f'{name}.{part}'][:, None, None] for part in ('weight', 'bias', 'running_mean', 'running_var')
        )
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

    def layer(x, name, place, stride):
        return norm(published.convolved(x, weights[f'{name}conv{place}.weight'], stride), f'{name}bn{place}')

    x = taps['stem'] = np.maximum(layer(IMAGES.astype(np.float64), '', 1, 1), 0)
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        name = f'layer{stage}.0.'
        inner = layer(np.maximum(layer(x, name, 1, stride), 0), name, 2, 1)
        before = inner + norm(
            published.convolved(x, weights[f'{name}downsample.0.weight'], stride), f'{name}downsample.1'
        )
        x = taps[f'stage{stage}'] = np.maximum(before, 0)
        taps[f'stage{stage}_pre'] = before
    taps['penult'] = x.mean(axis=(2, 3))
    return taps, taps['penult'] @ weights['fc.weight'].T + weights['fc.bias']


def text(value):
    encoded = value.encode()
    return b'X' + struct.pack('<I', len(encoded)) + encoded


def number(value):
    return b'J' + struct.pack('<i', value)


def several(*values):
    return b'(' + b''.join(values) + b't'


EMPTY = b'ccollections\nOrderedDict\n)R'


def tensor(key, count, shape, strides, offset=0, storage='FloatStorage'):
    """The pickle of a tensor: a call that rebuilds it from a storage, which is kept by reference."""
    place = several(text('storage'), f'ctorch\n{storage}\n'.encode(), text(str(key)), text('cpu'), number(count)) + b'Q'
    where = (number(offset), several(*map(number, shape)), several(*map(number, strides)))
    return b'ctorch._utils\n_rebuild_tensor_v2\n' + several(place, *where, b'\x89', EMPTY) + b'R'


def mapping(entries):
    return EMPTY + b'(' + b''.join(text(name) + value for name, value in entries.items()) + b'u'


def written(path, pickled, storages, **others):
    """A file as torch.save writes it: a zip archive of the pickle and of each storage's bytes."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02' + pickled + b'.')
        for name, content in {'byteorder': b'little', 'version': b'3\n', **others}.items():
            archive.writestr(f'archive/{name}', content)
        for key, values in enumerate(storages):
            archive.writestr(f'archive/data/{key}', values.tobytes())
    return path


def contiguous(values):
    return [int(np.prod(values.shape[axis + 1 :])) for axis in range(values.ndim)]


def saved(path, weights, wrap=mapping):
    entries = {
        name: tensor(key, values.size, values.shape, contiguous(values))
        for key, (name, values) in enumerate(weights.items())
    }
    return written(path, wrap(entries), list(weights.values()))


def same(found, want):
    assert set(found) == set(want)
    for name, values in want.items():
        np.testing.assert_array_equal(found[name], values)


def test_a_network_with_loaded_weights_computes_what_they_say(tmp_path):
    variables = torch_weights.load(saved(tmp_path / 'net.pth', state()), like())
    outputs, _ = jax.jit(functools.partial(NET.apply, train=False, key=None))(variables, IMAGES.transpose(0, 2, 3, 1))
    taps, logits = features()
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-4, atol=1e-5)
    assert set(taps) == set(outputs.features)
    for name, want in taps.items():
        want = want if want.ndim == 2 else want.transpose(0, 2, 3, 1)
        np.testing.assert_allclose(outputs.features[name], want, rtol=1e-3, atol=1e-4)


def nested(name):
    return lambda entries: b'}(' + text('epoch') + number(240) + text(name) + mapping(entries) + b'u'


def prefixed(*prefixes):
    return lambda entries: mapping({f'{prefix}{name}': value for prefix in prefixes for name, value in entries.items()})


def averaged(entries):
    """As torch.optim.swa_utils.AveragedModel: its counter has no prefix."""
    return mapping({'n_averaged': tensor(0, 1, (), ()), **{f'module.{name}': value for name, value in entries.items()}})


def lightning(entries):
    """As its checkpoints: the network is one module of several, and there are numbers of numpy."""
    others = {'loss.centres': tensor(0, 4, (2, 2), (2, 1))}
    weights = mapping({**{f'model.{name}': value for name, value in entries.items()}, **others})
    return b'}(' + text('best') + pickle.dumps(np.float64(0.5), 2)[2:-1] + text('state_dict') + weights + b'u'


@pytest.fixture(scope='module')
def wanted():
    return torch_weights.variables(state(), like())


@pytest.mark.parametrize(
    'wrap',
    [mapping, averaged, lightning, *map(nested, torch_weights.WRAPPERS),
     *map(prefixed, ('module.', '_orig_mod.', 'model.', 'net.', 'module.student.', 'module._orig_mod.', 'a.b.c.'))],
)  # fmt: skip
def test_weights_are_found_where_checkpoints_keep_them(tmp_path, wrap, wanted):
    found = torch_weights.load(saved(tmp_path / 'net.pth', state(), wrap), like())
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def deeper():
    """A network of the same names, with one block more and a wider head."""
    more = {name.replace('layer1.0', 'layer1.1'): value for name, value in state().items() if 'layer1.0' in name}
    return {**state(), **more, 'fc.bias': np.zeros(7, np.float32)}


def test_of_student_and_teacher_the_one_that_fits_is_read(wanted):
    both = {f'module.{who}.{name}': value for who, weights in (('student', state()), ('teacher', deeper()))
            for name, value in weights.items()}  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, torch_weights.variables(both, like()), wanted)


def test_of_two_networks_of_one_kind_none_is_guessed(tmp_path):
    path = saved(tmp_path / 'net.pth', state(), prefixed('module.student.', 'module.teacher.'))
    with pytest.raises(
        UsageError, match=r"several networks of this kind, under 'module\.student\.', 'module\.teacher\.'; "
    ):
        torch_weights.load(path, like())


def test_what_does_not_fit_under_a_prefix_is_listed_as_without_one():
    weights = {f'module.{name}': value for name, value in state().items() if name != 'fc.bias'}
    with pytest.raises(UsageError, match=r'^they are not .*; missing: params/head/bias; unexpected: x\.y$'):
        torch_weights.variables({**weights, 'x.y': np.zeros(2)}, like())


@pytest.mark.parametrize('value', [np.float32(0.25), np.float64(93.1), np.int64(-3), np.bool_(True), np.float16(1)])
@pytest.mark.parametrize('protocol', [2, 4])
def test_numbers_of_numpy_beside_the_weights_are_read(tmp_path, value, protocol):
    entries = {
        name: tensor(key, leaf.size, leaf.shape, contiguous(leaf)) for key, (name, leaf) in enumerate(state().items())
    }
    number = pickle.dumps(value, protocol)
    number = number[2:-1] if protocol == 2 else number[11:-1]  # without its header, frame and end
    path = written(tmp_path / 'net.pth', b'}(' + text('acc') + number + text('net') + mapping(entries) + b'u',
                   list(state().values()))  # fmt: skip
    same(torch_weights.state_dict(path), state())


@pytest.mark.parametrize(
    'value', [np.array(None, object)[()], np.str_('word'), np.datetime64('2020-01-01'), np.zeros(3)]
)
def test_other_things_of_numpy_are_refused_or_harmless(tmp_path, value):
    pickled = b'}(' + text('x') + pickle.dumps(value, 2)[2:-1] + text('net') + mapping({}) + b'u'
    with pytest.raises(UsageError):
        torch_weights.state_dict(written(tmp_path / 'net.pth', pickled, []))


@pytest.mark.parametrize('dtype', ['O8', 'V8', 'O', 'f8,O', 'U3'])
def test_a_dtype_that_holds_objects_is_refused(dtype):
    with pytest.raises(UsageError, match='holds a number of numpy of dtype'):
        torch_weights._Dtype(dtype)


def test_what_is_in_the_way_is_named(tmp_path):
    entries = {'fc.weight': tensor(0, 4, (4,), (1,)), 'epoch': number(3), 'args': b'}'}
    with pytest.raises(UsageError, match="beside weights there is what are none: 'epoch' is int, 'args' is dict; "):
        torch_weights.state_dict(written(tmp_path / 'net.pth', mapping(entries), [FOUR]))


def test_views_of_a_storage_are_read_as_they_lie(tmp_path):
    storage = np.arange(12, dtype=np.float32)
    pickled = mapping({
        'whole': tensor(0, 12, (3, 4), (4, 1)),
        'turned': tensor(0, 12, (4, 3), (1, 4)),
        'part': tensor(0, 12, (2, 2), (4, 1), offset=5),
        'one': tensor(0, 12, (), (), offset=7),
        'none': tensor(0, 12, (0, 4), (4, 1)),
    })  # fmt: skip
    table = storage.reshape(3, 4)
    want = {'whole': table, 'turned': table.T, 'part': table[1:, 1:3], 'one': storage[7], 'none': table[:0]}
    same(torch_weights.state_dict(written(tmp_path / 'net.pth', pickled, [storage])), want)


def test_numbers_of_any_size_are_read_and_become_what_the_network_has(tmp_path):
    half = {name: values.astype(np.float16) for name, values in state().items()}
    steps = np.asarray([7], np.int64)
    entries = {
        name: tensor(key, values.size, values.shape, contiguous(values), storage='HalfStorage')
        for key, (name, values) in enumerate(half.items())
    }
    entries['bn1.num_batches_tracked'] = tensor(len(half), 1, (), (), storage='LongStorage')
    path = written(tmp_path / 'net.pth', mapping(entries), [*half.values(), steps])
    found = torch_weights.load(path, like())
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype('float32')}
    np.testing.assert_array_equal(found['params']['head']['bias'], half['fc.bias'].astype(np.float32))


def test_bfloat16_is_the_upper_half_of_float32(tmp_path):
    storage = np.asarray([0x3F80, 0xC000, 0x3E20], np.uint16)  # 1, -2, 0.15625
    path = written(tmp_path / 'net.pth', mapping({'w': tensor(0, 3, (3,), (1,), storage='BFloat16Storage')}), [storage])
    np.testing.assert_array_equal(torch_weights.state_dict(path)['w'].astype(np.float32), [1, -2, 0.15625])


def test_safetensors_are_read(tmp_path):
    numpy = pytest.importorskip('safetensors.numpy', reason='safetensors is not here: pip install "kdjax[test]"')
    numpy.save_file(state(), tmp_path / 'net.safetensors')
    same(torch_weights.state_dict(tmp_path / 'net.safetensors'), state())
    (tmp_path / 'net.safetensors').write_bytes(b'{}')
    with pytest.raises(UsageError, match='not a readable safetensors file'):
        torch_weights.load(tmp_path / 'net.safetensors', like())


def test_what_pytorch_itself_saves_is_read(tmp_path):
    torch = pytest.importorskip('torch', reason='torch is not here, and the project does not need it')
    tensors = {
        'float': torch.randn(3, 4), 'double': torch.randn(2).double(), 'half': torch.randn(2).half(),
        'turned': torch.randn(3, 4).t()[1:], 'one': torch.tensor(3), 'none': torch.zeros(0, 2),
        'flags': torch.tensor([True, False]), 'learned': torch.nn.Parameter(torch.randn(2)),
    }  # fmt: skip
    torch.save({'model': tensors, 'epoch': 3}, tmp_path / 'net.pth')
    same(
        torch_weights.state_dict(tmp_path / 'net.pth'), {name: leaf.detach().numpy() for name, leaf in tensors.items()}
    )
    torch.save(tensors, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    with pytest.raises(UsageError, match=r'not in the format of PyTorch 1\.6 and later'):
        torch_weights.state_dict(tmp_path / 'old.pth')


def test_other_names_of_the_same_layers_are_understood():
    renamed = {name.replace('downsample', 'shortcut').replace('fc.', 'linear.'): state()[name] for name in state()}
    assert set(renamed) != set(state())
    found, want = (torch_weights.variables(weights, like()) for weights in (renamed, state()))
    jax.tree.map(np.testing.assert_array_equal, found, want)


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'fc.bias': None}, 'missing: params/head/bias$'),
        ({'fc.scale': np.zeros(3)}, r'unexpected: fc\.scale$'),
        ({'linear.bias': np.zeros(3)}, r'unexpected: linear\.bias$'),
        (
            {'fc.weight': np.zeros((10, 6))},
            r'of another shape: fc\.weight \(6, 10\) for params/head/kernel \(6, 3\)$',
        ),
        ({'fc.bias': None, 'fc.gain': np.zeros(3)}, r'missing: params/head/bias; unexpected: fc\.gain$'),
    ],
)
def test_what_does_not_fit_is_listed(tmp_path, changed, message):
    weights = {name: values for name, values in {**state(), **changed}.items() if values is not None}
    with pytest.raises(UsageError, match=f"weights '.*net.pth': they are not of this network; {message}"):
        torch_weights.load(saved(tmp_path / 'net.pth', weights), like())


def test_weights_of_another_network_are_refused_in_one_line(tmp_path):
    inputs = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    other = jax.eval_shape(cnn.cnn(classes=3).init, jax.random.key(0), inputs)
    with pytest.raises(UsageError, match=r'missing: .* and \d+ more; unexpected: .* and \d+ more; ') as refusal:
        torch_weights.load(saved(tmp_path / 'net.pth', state()), other)
    assert len(str(refusal.value)) < 600


class Harmful:
    """Its pickle asks whoever loads it to make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_cannot_execute_anything(tmp_path):
    harmful, made = tmp_path / 'net.pth', tmp_path / 'made'
    pickled = pickle.dumps({'model': Harmful(made)}, protocol=2)
    written(harmful, pickled[2:-1], [])
    with pytest.raises(UsageError, match=r'holds posix\.mkdir, and only tensors are read'):
        torch_weights.load(harmful, like())
    assert not made.exists()
    pickle.loads(pickled)
    assert made.exists(), 'the pickle is not harmful, so the test proves nothing'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (pickle.dumps({'a': 1}), r'not in the format of PyTorch 1\.6 and later'),
        (b'', r'not in the format of PyTorch 1\.6 and later'),
    ],
)
def test_older_formats_are_named(tmp_path, content, message):
    (tmp_path / 'net.pth').write_bytes(content)
    with pytest.raises(UsageError, match=message):
        torch_weights.load(tmp_path / 'net.pth', like())


FOUR = np.zeros(4, np.float32)


@pytest.mark.parametrize(
    ('pickled', 'others', 'message'),
    [
        (mapping({'w': tensor(0, 4, (3,), (2,))}), {}, r'a tensor \(3,\) reaches beyond its 4 numbers'),
        (mapping({'w': tensor(0, 4, (3,), (1,), offset=2)}), {}, 'reaches beyond its 4 numbers'),
        (mapping({'w': tensor(0, 4, (2,), (-1,), offset=2)}), {}, 'reaches beyond its 4 numbers'),
        (mapping({'w': tensor(0, 5, (5,), (1,))}), {}, r'damaged \(ValueError: '),
        (mapping({'w': tensor(1, 4, (4,), (1,))}), {}, r'damaged \(KeyError: '),
        (mapping({'w': tensor(0, 4, (4,), (1,), storage='Module')}), {}, r'holds torch\.Module'),
        (mapping({'w': number(1)}), {}, "no weights by name, nor any under 'state_dict', .*; there is: 'w'"),
        (number(1), {}, "no weights by name, nor any under 'state_dict', .*; there is: int"),
        (mapping({'w': tensor(0, 4, (4,), (1,))}), {'byteorder': b'big'}, 'saved on a big-endian machine'),
    ],
)
def test_damaged_files_and_other_things_are_refused(tmp_path, pickled, others, message):
    with pytest.raises(UsageError, match=message):
        torch_weights.load(written(tmp_path / 'net.pth', pickled, [FOUR], **others), like())


def test_a_zip_of_something_else_and_no_file_at_all_are_refused(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as archive:
        archive.writestr('notes.txt', 'hello')
    (tmp_path / 'net.pth').write_bytes(content.getvalue())
    with pytest.raises(UsageError, match=r'a zip file without the data\.pkl'):
        torch_weights.load(tmp_path / 'net.pth', like())
    with pytest.raises(UsageError, match=r"weights '.*other.pth': there is no such file"):
        torch_weights.load(tmp_path / 'other.pth', like())
