"""What is published: names and shapes of all weights, written from the papers' tables and from how PyTorch names them.

Nothing here is derived from kdjax. `LOGITS` are what PyTorch 2.13 computes in double precision for `state` and
`images`: with torchvision 0.28 for resnet18, timm 1.0 for vit and deit, and modules written from these tables for the
others.
"""

import itertools
import zlib

import numpy as np

LOGITS = {
    'resnet8': [
        [5.547879, -1.462068, -6.552051, 4.251886, 0.470722],
        [5.808133, -2.079713, -6.742903, 3.915709, 0.014554],
    ],
    'wrn_10_1': [
        [1.145717, 0.644941, -4.164859, 1.736215, -0.675999],
        [1.826699, -0.006759, -3.597943, 1.461315, -0.764935],
    ],
    'vgg8': [[5.484913, -7.929017, 4.292433, 1.482167, 2.056626], [5.578371, -8.413692, 4.543427, 1.782194, 1.989423]],
    'mobilenetv2': [
        [-11.18368, -4664.527, -124.315, 3804.712, 2557.947],
        [181.8667, -7018.477, 41.6182, 5897.639, 3285.858],
    ],
    'shufflenetv1': [
        [-0.294057, -2.92381, 3.148419, -1.636713, -3.02947],
        [-0.155445, -3.036553, 3.220532, -1.792734, -3.031243],
    ],
    'shufflenetv2': [
        [15.2419, -17.37751, 58.67341, -15.32159, -19.84059],
        [13.0452, -27.58683, 53.59654, -43.49723, -13.14108],
    ],
    'resnet18': [
        [33.07794, 61.22295, 40.71887, -1.986204, 51.99357],
        [39.97375, 67.64351, 40.33707, -6.468753, 62.04112],
    ],
    'deit': [
        [0.475033, 0.695457, -1.188325, 0.678581, 2.074771],
        [-0.483575, -0.280562, -0.148887, 0.796989, 1.810603],
    ],
    'vit': [[-0.324607, 2.243186, 0.298066, -2.66608, 3.200137], [-0.61223, 1.770134, 0.816022, -3.437036, 1.431002]],
}


def images(size):
    """Two images, (B, 3, H, W)."""
    return np.random.RandomState(0).normal(size=(2, 3, size, size)).astype(np.float32)


def state(table):
    """A state dict for a table: every weight is drawn by its name, so that their order does not matter."""
    return {key: drawn(key, shape) for key, shape in table.items()}


def drawn(key, shape):
    random = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith('running_var') or (len(shape) == 1 and key.endswith('weight')):
        values = random.uniform(0.5, 1.5, shape)
    elif len(shape) == 1:
        values = random.normal(0, 0.1, shape)
    elif len(shape) == 3:
        values = random.normal(0, 0.5, shape)
    else:
        values = random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
    return values.astype(np.float32)


def convolved(x, weight, stride=1, edge=None):
    """A convolution in PyTorch's layout, summed over the places of its kernel; size // 2 zeros around by default."""
    size = weight.shape[-1]
    edge = size // 2 if edge is None else edge
    side = (x.shape[-1] + 2 * edge - size) // stride + 1
    x = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    out = 0.0
    for row in range(size):
        for column in range(size):
            part = x[:, :, row : row + stride * side : stride, column : column + stride * side : stride]
            out = out + np.einsum('bihw,oi->bohw', part[:, :, :side, :side], weight[:, :, row, column])
    return out


def count(table):
    """Number of parameters in a table."""
    return sum(int(np.prod(shape)) for key, shape in table.items() if 'running' not in key)


def conv(name, into, out, size, groups=1):
    return {f'{name}.weight': (out, into // groups, size, size)}


def norm(name, width):
    return {f'{name}.{part}': (width,) for part in ('weight', 'bias', 'running_mean', 'running_var')}


def linear(name, into, out):
    return {f'{name}.weight': (out, into), f'{name}.bias': (out,)}


def normed(block, place, into, out, size, groups=1):
    """A convolution and its normalisation, 'conv1' and 'bn1'."""
    before = f'{block}.' if block else ''
    return conv(f'{before}conv{place}', into, out, size, groups) | norm(f'{before}bn{place}', out)


def around(name, into, out, stride):
    return {} if stride == 1 and into == out else conv(f'{name}.0', into, out, 1) | norm(f'{name}.1', out)


def basic(name, into, width, stride, shortcut):
    own = normed(name, 1, into, width, 3) | normed(name, 2, width, width, 3)
    return own | around(f'{name}.{shortcut}', into, width, stride), width


def bottleneck(name, into, width, stride, shortcut):
    own = normed(name, 1, into, width, 1) | normed(name, 2, width, width, 3) | normed(name, 3, width, 4 * width, 1)
    return own | around(f'{name}.{shortcut}', into, 4 * width, stride), 4 * width


def residual(stem, size, block, widths, counts, classes, shortcut='downsample', head='fc'):
    table, into = normed('', 1, 3, stem, size), stem
    for stage, (width, blocks) in enumerate(zip(widths, counts, strict=True), start=1):
        for place in range(blocks):
            stride = 2 if stage > 1 and place == 0 else 1
            own, into = block(f'layer{stage}.{place}', into, width, stride, shortcut)
            table |= own
    return table | linear(head, into, classes)


def resnet_cifar(depth, widths, classes):
    return residual(widths[0], 3, basic, widths[1:], [(depth - 2) // 6] * 3, classes)


def resnet(depth, classes, stem=7):
    blocks = {18: (basic, (2, 2, 2, 2)), 34: (basic, (3, 4, 6, 3)), 50: (bottleneck, (3, 4, 6, 3))}[depth]
    names = ('downsample', 'fc') if stem == 7 else ('shortcut', 'linear')
    return residual(64, stem, blocks[0], (64, 128, 256, 512), blocks[1], classes, *names)


def wrn(depth, widen, classes):
    table, into = conv('conv1', 3, 16, 3), 16
    for stage, width in enumerate((16 * widen, 32 * widen, 64 * widen), start=1):
        for place in range((depth - 4) // 6):
            name = f'block{stage}.layer.{place}'
            table |= norm(f'{name}.bn1', into) | conv(f'{name}.conv1', into, width, 3)
            table |= norm(f'{name}.bn2', width) | conv(f'{name}.conv2', width, width, 3)
            table |= {} if into == width else conv(f'{name}.convShortcut', into, width, 1)
            into = width
    return table | norm('bn1', into) | linear('fc', into, classes)


def vgg(counts, classes):
    table, into = {}, 3
    for block, (width, convs) in enumerate(zip((64, 128, 256, 512, 512), counts, strict=True)):
        for place in range(0, 3 * convs, 3):  # convolution, normalisation, ReLU
            table |= conv(f'block{block}.{place}', into, width, 3) | {f'block{block}.{place}.bias': (width,)}
            table |= norm(f'block{block}.{place + 1}', width)
            into = width
    return table | linear('classifier', 512, classes)


def mobilenetv2(expansion, width, classes):
    into = int(32 * width)
    table = conv('conv1.0', 3, into, 3) | norm('conv1.1', into)
    groups = ((1, 16, 1), (expansion, 24, 2), (expansion, 32, 3), (expansion, 64, 4), (expansion, 96, 3),
              (expansion, 160, 3), (expansion, 320, 1))  # fmt: skip
    for group, (times, channels, blocks) in enumerate(groups):
        out = int(channels * width)
        for place in range(blocks):
            name, wide = f'blocks.{group}.{place}.conv', times * into
            table |= conv(f'{name}.0', into, wide, 1) | norm(f'{name}.1', wide)
            table |= conv(f'{name}.3', wide, wide, 3, groups=wide) | norm(f'{name}.4', wide)
            table |= conv(f'{name}.6', wide, out, 1) | norm(f'{name}.7', out)
            into = out
    return table | conv('conv2.0', into, 1280, 1) | norm('conv2.1', 1280) | linear('classifier.0', 1280, classes)


def shufflenetv1(widths, counts, classes):
    table, into = normed('', 1, 3, 24, 1), 24
    for stage, (width, blocks) in enumerate(zip(widths, counts, strict=True), start=1):
        for place in range(blocks):
            out, name = width if place else width - into, f'layer{stage}.{place}'
            middle = out // 4
            table |= normed(name, 1, into, middle, 1, groups=1 if into == 24 else 3)
            table |= normed(name, 2, middle, middle, 3, groups=middle) | normed(name, 3, middle, out, 1, groups=3)
            into = width
    return table | linear('linear', into, classes)


def shufflenetv2(widths, counts, classes):
    table, into = normed('', 1, 3, 24, 1), 24
    for stage, (width, blocks) in enumerate(zip(widths[:3], counts, strict=True), start=1):
        name, half = f'layer{stage}.0', width // 2
        table |= normed(name, 1, into, into, 3, groups=into) | normed(name, 2, into, half, 1)
        table |= normed(name, 3, into, half, 1) | normed(name, 4, half, half, 3, groups=half)
        table |= normed(name, 5, half, half, 1)
        for place in range(1, blocks + 1):
            name = f'layer{stage}.{place}'
            table |= normed(name, 1, half, half, 1) | normed(name, 2, half, half, 3, groups=half)
            table |= normed(name, 3, half, half, 1)
        into = width
    return table | normed('', 2, into, widths[3], 1) | linear('linear', widths[3], classes)


def deit(width, depth, patch, tokens, classes, distilled):
    """`tokens` is the number of patches."""
    extra = ['cls_token', 'dist_token'] if distilled else ['cls_token']
    table = {name: (1, 1, width) for name in extra} | {'pos_embed': (1, tokens + len(extra), width)}
    table |= conv('patch_embed.proj', 3, width, patch) | {'patch_embed.proj.bias': (width,)}
    for layer in range(depth):
        name = f'blocks.{layer}'
        for part, into, out in (('attn.qkv', 1, 3), ('attn.proj', 1, 1), ('mlp.fc1', 1, 4), ('mlp.fc2', 4, 1)):
            table |= linear(f'{name}.{part}', into * width, out * width)
        table |= {f'{name}.norm{k}.{leaf}': (width,) for k, leaf in itertools.product((1, 2), ('weight', 'bias'))}
    table |= {'norm.weight': (width,), 'norm.bias': (width,)} | linear('head', width, classes)
    return table | (linear('head_dist', width, classes) if distilled else {})
