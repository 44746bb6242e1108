"""Students of every family of networks, small and untrained, to be written to files."""

import functools

import jax
import numpy as np

from kdjax.export import bundle, program

WORDS = ('', '', 'the', 'The', 'EU', '@bob', "don't", 'x1', 'new', 'unseen')
TEXT = {'classes': 3, 'vocabulary': len(WORDS)}
TAGGER = {**TEXT, 'words': WORDS}
LAYERS = {'width': 6, 'depth': 2, 'heads': 2, 'inner': 5}
USERS = {'users': 5, 'items': 7, 'width': 4}
IMAGES, DIGITS, IDS, WRITTEN, FRAMES, ASKED = 'images', 'digits', 'ids', 'written', 'frames', 'asked'
COUNT, LONG = 4, 12
# By network what it is told and what it reads.
FAMILIES = {
    'mlp.mlp': ({'classes': 3, 'widths': (7, 5)}, DIGITS),
    'cnn.cnn': ({'classes': 3, 'widths': (4, 6, 8)}, DIGITS),
    'maxout.dense': ({'classes': 3, 'widths': (6, 4)}, DIGITS),
    'resnet_cifar.resnet': ({'classes': 3, 'depth': 8}, IMAGES),
    'resnet.resnet': ({'classes': 3, 'depth': 18, 'stem': 'imagenet'}, IMAGES),  # pools with a border
    'wide_resnet.wrn': ({'classes': 3, 'depth': 10, 'widen': 1}, IMAGES),
    'vgg.vgg': ({'classes': 3}, IMAGES),
    'mobilenetv2.mobilenetv2': ({'classes': 3}, IMAGES),
    'shufflenet.shufflenetv1': ({'classes': 3}, IMAGES),
    'shufflenet.shufflenetv2': ({'classes': 3}, IMAGES),
    'vit.vit': ({'classes': 3}, DIGITS),
    'deit.deit': ({'classes': 3, 'width': 24, 'depth': 2, 'heads': 2, 'patch': 8}, IMAGES),
    'bag.bag': ({**TEXT, 'width': 3, 'hidden': 4}, IDS),
    'textcnn.textcnn': ({**TEXT, 'width': 3, 'sizes': (1, 3), 'filters': 2}, IDS),
    'ngrams.linear': ({'classes': 3, 'grams': 9}, IDS),
    'bilstm.bilstm': ({**TEXT, 'width': 3, 'units': 4}, IDS),
    'bilstm.tagger': ({**TEXT, 'width': 3, 'units': 4}, IDS),
    'windows.mlp': ({**TAGGER, 'width': 3, 'buckets': 7, 'affix_width': 2}, IDS),
    'crf.crf': ({**TAGGER, 'net': 'windows.mlp'}, IDS),
    'transformer.encoder': ({**TEXT, **LAYERS}, IDS),
    'transformer.tagger': ({**TEXT, **LAYERS}, IDS),
    'bert.bert': ({**TEXT, **LAYERS, 'positions': LONG}, IDS),
    'bert.tagger': ({**TEXT, **LAYERS, 'positions': LONG}, IDS),
    'tcresnet.tcresnet': ({'classes': 3, 'widths': (4, 6), 'strides': (4,), 'size': 3}, FRAMES),
    'bcresnet.bcresnet': ({'classes': 3}, FRAMES),
    'depthwise.keyword': ({'classes': 3, 'first': 4, 'widths': (6, 6), 'strides': (2, 1), 'size': 3}, FRAMES),
    'depthwise.transcriber': ({'classes': 3, 'first': 4, 'widths': (6, 6), 'strides': (2, 1), 'size': 3}, FRAMES),
    'conv_bilstm.transcriber': ({'classes': 3, 'width': 4, 'units': 4}, FRAMES),
    'fcn.segmenter': ({'classes': 3, 'widths': (4, 6, 8)}, IMAGES),
    'centernet.detector': ({'classes': 3, 'widths': (4, 6, 8), 'neck': 4, 'head': 4}, IMAGES),
    'gfl.detector': ({'classes': 3, 'widths': (4, 6, 8), 'neck': 4, 'bins': 5}, IMAGES),
    'decoder_only.transformer': ({'vocabulary': len(WORDS), **LAYERS}, IDS),
    'encoder_decoder.transformer': ({'vocabulary': len(WORDS), **LAYERS}, WRITTEN),
    'factorization.factorization': (USERS, ASKED),
    'neumf.neumf': ({**USERS, 'hidden': (4, 3)}, ASKED),
    'lightgcn.lightgcn': ({**USERS, 'taken': (0, 1, 0, 2, 1, 1, 3, 6)}, ASKED),
}  # fmt: skip


def inputs(kind, count=COUNT):
    """Examples as a network reads them."""
    random = np.random.default_rng(0)
    if kind == ASKED:
        return {'user': random.integers(0, USERS['users'], count).astype(np.int32)}
    lengths = random.integers(LONG // 2, LONG + 1, count)
    real = np.arange(LONG) < lengths[:, None]
    ids = (random.integers(1, 9, (count, LONG)) * real).astype(np.int32)
    if kind == IDS:
        return ids
    if kind == WRITTEN:
        return {'source': ids, 'target': ids[:, ::-1][:, : LONG - 2].copy() + 1}
    if kind == FRAMES:
        frames = random.normal(size=(count, LONG, 40)).astype(np.float32)
        return {'frames': frames, 'mask': real.astype(np.float32), 'hop_ms': np.full(count, 10, np.float32)}
    shape = (count, 32, 32, 3) if kind == IMAGES else (count, 8, 8)
    return random.uniform(0, 1, shape).astype(np.float32)


def about(net, args, shape=None, **more):
    """What `student.json` would say."""
    return {
        'format': 1, 'kdjax': '', 'network': {'net': net, 'args': args, 'told': []},
        'task': {'kind': 'classification.Classification', 'args': {}}, 'classes': ['a', 'b', 'c'], 'facts': {},
        'preprocess': {'kind': 'preprocess.unit'}, 'text': None, 'license': '',
        'inputs': None if shape is None else {'shape': list(shape), 'dtype': 'float32', 'padded': False},
        'data': {'source': 'my:data', 'args': {}, 'checksum': ''}, 'method': 'kd', 'seed': 0, 'candidate': {},
        'transfer_size': 1, 'step': 1, 'metrics': {'test': {}}, **more,
    }  # fmt: skip


def student(name, args, seen, **more):
    """A student with initial weights and statistics, moved a little: some begin at 0."""
    leaves = jax.tree.leaves(seen)
    said = about(name, args, leaves[0].shape[1:] if len(leaves) == 1 else None, **more)
    net, random = bundle.build(said, {}).net, np.random.default_rng(1)

    def moved(leaf):
        return (leaf + random.normal(0.0, 0.02, leaf.shape)).astype(leaf.dtype)

    variables = jax.jit(net.init)(jax.random.key(0), jax.tree.map(lambda leaf: leaf[:1], seen))
    return bundle.build(said, jax.tree.map(moved, jax.device_get(variables)))


@functools.cache
def family(name):
    """A student of a family, examples, its program, and its logits."""
    args, kind = FAMILIES[name]
    seen = inputs(kind)
    made = student(name, args, seen)
    logits = jax.jit(lambda variables, seen: made.net.apply(variables, seen, train=False, key=None)[0].logits)
    return made, seen, program.program(made, seen), np.asarray(logits(made.variables, seen))
