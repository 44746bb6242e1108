"""Detectors: see golden_map."""

import jax.numpy as jnp
from golden import batch_norm, layer, seen, total

from kdjax.techniques.fgd import FocalGlobal
from kdjax.techniques.localization import Localization


def fgd(record, x):
    given, inputs = record['hyperparams'], seen(x)
    height, width = given['img_shape']
    boxes = x['gt_bboxes'] / jnp.asarray([width, height, width, height])
    weights = {'foreground': 'alpha', 'background': 'beta', 'attention': 'gamma', 'context': 'lambda_'}
    term = FocalGlobal(
        layer='feat', temperature=given['temp'], form='code', **{ours: given[name] for ours, name in weights.items()}
    )
    params = {'align': pixelwise(x, 'align'), 'student': context(x, 's'), 'teacher': context(x, 't')}
    return total({'fgd': term}, inputs._replace(batch={**inputs.batch, 'boxes': boxes}), {'fgd': params})


def context(x, side):
    """The peer's global context block of a side; its layer normalisation is of a map of one position."""
    names = f'conv_mask_{side}', f'channel_add_conv_{side}.0', f'channel_add_conv_{side}.3'
    norm = {name: leaf.reshape(-1) for name, leaf in batch_norm(x, f'channel_add_conv_{side}.1').items()}
    return {f'Dense_{k}': pixelwise(x, name) for k, name in enumerate(names)} | {'LayerNorm_0': norm}


def pixelwise(x, name):
    """A 1x1 convolution as flax has it on the last axis."""
    convolution = layer(x, name)
    return {**convolution, 'kernel': convolution['kernel'][0, 0]}


def localization(record, x):
    """The peer has a row per edge, and divides by a number of its own instead of the anchors' weights."""
    given, edges = record['hyperparams'], ('student_corners', 'teacher_corners')
    student, teacher = (x[name].reshape(1, -1, 4, x[name].shape[1]) for name in edges)
    weight = x['weight'].reshape(1, -1, 4)[..., 0]
    inputs = seen({'student_edges': student, 'teacher_edges': teacher})
    inputs = inputs._replace(batch={**inputs.batch, 'anchor_mask': weight})
    scale = 4 * given['loss_weight'] / given['avg_factor']  # our mean is over the four edges too
    answer = total({'edges': Localization(temperature=given['T'], form='code', weight=scale)}, inputs)
    return answer._replace(loss=answer.loss * jnp.sum(weight), outputs={})


MAPPINGS = {'fgd': fgd, 'localization_kd': localization}
