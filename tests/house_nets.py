"""The networks of the house, small, and their inputs: built without weights, for what asks for shapes alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.nets import (
    bag,
    bcresnet,
    bert,
    centernet,
    cnn,
    decoder_only,
    deit,
    depthwise,
    encoder_decoder,
    fcn,
    gfl,
    maxout,
    mlp,
    mobilenetv2,
    ngrams,
    resnet,
    resnet_cifar,
    salience,
    shufflenet,
    tcresnet,
    textcnn,
    transformer,
    vgg,
    vit,
    wide_resnet,
    windows,
)
from kdjax.nets.crf import crf

SMALL, KEY = {'classes': 3}, jax.eval_shape(lambda: jax.random.key(0))
WORDS = ('', '', 'the', 'The', 'EU', '@bob', "don't", 'x1', 'new', 'unseen')
TEXT = {**SMALL, 'vocabulary': len(WORDS)}
LAYERS = {'width': 6, 'depth': 2, 'heads': 2, 'inner': 5}
PICTURE, TINY, IDS = ((2, 32, 32, 3), jnp.float32), ((2, 8, 8), jnp.float32), ((2, 6), jnp.int32)
FRAMES = {'frames': ((2, 12, 40), jnp.float32), 'mask': ((2, 12), jnp.float32), 'hop_ms': ((2,), jnp.float32)}
WRITTEN = {'source': IDS, 'target': IDS}
SPEECH = {**SMALL, 'first': 4, 'widths': (6, 6), 'strides': (2, 1), 'size': 3}
FOUND = {**SMALL, 'widths': (4, 6, 8), 'neck': 4}
# How they are built, what they read, and how many kernels there are, those of ways around and of attention included.
NETS = {
    'mlp': (functools.partial(mlp.mlp, **SMALL, widths=(7, 5)), TINY, 3),
    'cnn': (functools.partial(cnn.cnn, **SMALL, widths=(4, 6, 8)), TINY, 5),
    'maxout dense': (functools.partial(maxout.dense, **SMALL, widths=(6, 4)), TINY, 3),
    'maxout teacher': (functools.partial(maxout.teacher, **SMALL), PICTURE, 4),
    'resnet8': (functools.partial(resnet_cifar.resnet, **SMALL, depth=8), PICTURE, 10),
    'resnet18': (functools.partial(resnet.resnet, **SMALL, stem='cifar'), PICTURE, 21),
    'resnet50': (functools.partial(resnet.resnet, **SMALL, depth=50, stem='cifar'), PICTURE, 54),
    'wrn': (functools.partial(wide_resnet.wrn, **SMALL, depth=10, widen=1), PICTURE, None),
    'vgg8': (functools.partial(vgg.vgg, **SMALL), PICTURE, 6),
    'mobilenetv2': (functools.partial(mobilenetv2.mobilenetv2, **SMALL), PICTURE, None),
    'shufflenetv1': (functools.partial(shufflenet.shufflenetv1, **SMALL), PICTURE, None),
    'shufflenetv2': (functools.partial(shufflenet.shufflenetv2, **SMALL), PICTURE, None),
    'vit': (functools.partial(vit.vit, **SMALL), TINY, 14),
    'deit': (functools.partial(deit.deit, **SMALL, depth=2, patch=8), PICTURE, None),
    'bag': (functools.partial(bag.bag, **TEXT, width=3, hidden=4), IDS, 2),
    'textcnn': (functools.partial(textcnn.textcnn, **TEXT, width=3, sizes=(1, 3), filters=2), IDS, None),
    'windows': (functools.partial(windows.mlp, **TEXT, words=WORDS, width=3, buckets=7, affix_width=2), IDS, None),
    'windows crf': (functools.partial(crf, **TEXT, words=WORDS, net='windows.mlp'), IDS, None),
    'encoder': (functools.partial(transformer.encoder, **TEXT, **LAYERS), IDS, 13),
    'encoder tagger': (functools.partial(transformer.tagger, **TEXT, **LAYERS), IDS, 13),
    'bert': (functools.partial(bert.bert, **TEXT, **LAYERS, positions=10), IDS, 14),
    'bert tagger': (functools.partial(bert.tagger, **TEXT, **LAYERS, positions=10), IDS, 13),
    'tcresnet': (functools.partial(tcresnet.tcresnet, **SMALL, widths=(4, 6), strides=(4,), size=3), FRAMES, None),
    'bcresnet': (functools.partial(bcresnet.bcresnet, **SMALL), FRAMES, None),
    'keyword': (functools.partial(depthwise.keyword, **SPEECH), FRAMES, None),
    'transcriber': (functools.partial(depthwise.transcriber, **SPEECH), FRAMES, None),
    'segmenter': (functools.partial(fcn.segmenter, **SMALL, widths=(4, 6, 8)), PICTURE, None),
    'points': (functools.partial(centernet.detector, **FOUND, head=4), PICTURE, None),
    'detector': (functools.partial(gfl.detector, **FOUND, bins=5), PICTURE, None),
    'writer': (functools.partial(decoder_only.transformer, vocabulary=len(WORDS), **LAYERS, scanned=False), IDS, None),
    'translator': (functools.partial(encoder_decoder.transformer, vocabulary=len(WORDS), **LAYERS, scanned=False),
                   WRITTEN, None),
    'salience': (functools.partial(salience.salience), ((2, 1024), jnp.float32), None),
}  # fmt: skip
NOTHING = {'ngrams': (functools.partial(ngrams.linear, classes=3, grams=9, scale='sqrt'), IDS)}


def built(name):
    """A network, its inputs and its variables, as shapes."""
    make, read, _ = NETS[name]
    net, inputs = make(), shaped(read)
    return net, inputs, jax.eval_shape(net.init, KEY, inputs)


def shaped(read):
    if isinstance(read, dict):
        return {name: shaped(column) for name, column in read.items()}
    return jax.ShapeDtypeStruct(*read)


@functools.cache
def subject(name):
    """A network with inputs, and variables of which nothing is 0 or 1."""
    net, inputs, shapes = built(name)
    random = np.random.default_rng(0)

    def some(leaf):
        values = np.abs(random.normal(0.3, 0.2, leaf.shape)) * random.choice([-1, 1, 1], leaf.shape)
        return jnp.asarray(values, leaf.dtype)

    stats = jax.tree.map(lambda leaf: jnp.abs(some(leaf)) + 0.5, shapes['stats'])
    return net, some(inputs), {'params': jax.tree.map(some, shapes['params']), 'stats': stats}


def kinds(names):
    """What each of some networks reads: of those that read alike one has its turn."""
    return [str(NETS[name][1]) for name in names]
