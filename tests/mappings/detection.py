"""Detectors: see golden_map."""

import jax
import jax.numpy as jnp
from golden import Answer, batch_norm, layer, seen, total

from kdjax import boxes
from kdjax.techniques.fgd import FocalGlobal
from kdjax.techniques.focal import focal
from kdjax.techniques.gfl import distribution_focal, quality_focal
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
    """The peer has a row and a weight per edge: here each is an anchor of four alike. It divides by a number."""
    given, name = record['hyperparams'], 'edges' if 'student_edges' in x else 'corners'
    student, teacher = (
        jnp.broadcast_to(x[f'{side}_{name}'][None, :, None], (1, len(x['weight']), 4, x[f'{side}_{name}'].shape[1]))
        for side in ('student', 'teacher')
    )
    inputs = seen({'student_edges': student, 'teacher_edges': teacher})
    inputs = inputs._replace(batch={**inputs.batch, 'anchor_mask': x['weight'][None]})
    term = Localization(temperature=given['T'], form='code', per='anchor')
    answer = total({'edges': term}, inputs)
    scale = given.get('loss_weight', 1.0) / given['avg_factor']
    outputs = of_edges(given, x, name) if 'out/per_edge' in record['outputs'] else {}
    return answer._replace(loss=scale * answer.outputs['per_example'][0], outputs=outputs)


def of_edges(given, x, name):
    """What the peer says of every edge, which terms do not."""
    logs = [jax.nn.log_softmax(x[f'{side}_{name}'] / given['T']) for side in ('teacher', 'student')]
    return {'per_edge': given['T'] ** 2 * jnp.mean(jnp.exp(logs[0]) * (logs[0] - logs[1]), axis=-1)}


def quality(record, x):
    """The peer's last class is the background, and it divides by the number of anchors that are not."""
    labels, classes = x['labels'], x['student_logits'].shape[1]
    found = quality_focal(
        x['student_logits'], jnp.where(labels < classes, labels, -1), x['quality'], record['hyperparams']['beta']
    )
    return Answer(jnp.sum(found) / jnp.sum(labels < classes), {'per_anchor': found}, {})


def distribution(record, x):
    found = distribution_focal(x['student_logits'], x['distances'])
    return Answer(jnp.mean(found), {'per_edge': found, 'expected': boxes.expected_distance(x['student_logits'])}, {})


def likeness(record, x):
    pair = x['student_boxes'], x['target_boxes']
    found = 1 - getattr(boxes, record['technique'])(*pair)
    return Answer(jnp.mean(found), {'per_box': found, 'iou': boxes.iou(*pair)}, {})


def of_all(record, x):
    found = focal(x['student_logits'], x['targets'], **record['hyperparams'])
    return Answer(jnp.sum(found), {'per': found}, {})


def suppressed(record, x):
    """Of so many as the peer keeps the positions, -1 where we keep another number."""
    outputs = {}
    for name, (count,) in record['outputs'].items():
        classes = x['classes'] if 'byclass' in name else None
        kept = boxes.nms(x['boxes'], x['scores'], float(name.rpartition('_')[2]), len(x['boxes']), classes)
        same = (jnp.sum(kept.valid) == count) & jnp.all(kept.valid[:count])
        outputs[name.removeprefix('out/')] = jnp.where(same, kept.place[:count], -1)
    return Answer(jnp.zeros(()), outputs, {})


MAPPINGS = {
    'fgd': fgd, 'localization_kd': localization, 'localization': localization, 'quality_focal': quality,
    'distribution_focal': distribution, 'giou': likeness, 'diou': likeness, 'ciou': likeness, 'sigmoid_focal': of_all,
    'nms': suppressed,
}  # fmt: skip
