"""Transcription: see golden_map. The frames of an example that are real come first, and so do its labels."""

import jax.numpy as jnp
from golden import seen, total

from kdjax.techniques.ctc import Ctc
from kdjax.techniques.ctc_frames import FrameDivergence, divergence
from kdjax.techniques.ctc_guided import GuidedCtc
from kdjax.techniques.ctc_sequences import HypothesisCtc


def spoken(x, **columns):
    """What terms see, with the frames that are real and further columns."""
    size, frames = x['student_logits'].shape[:2]
    lengths = x.get('logit_lengths', jnp.full(size, frames))
    mask = (jnp.arange(frames) < lengths[:, None]).astype(jnp.float64)
    inputs = seen(x)
    return inputs._replace(batch={**inputs.batch, 'token_mask': mask, **columns}), mask


def ctc(record, x):
    """The peer's sum over a batch is our mean by its size; its reduction 'mean' divides by labels first."""
    form = 'per_label' if record['reduction'] == 'mean' else 'sum'
    weight = float(len(x['labels'])) if record['reduction'] == 'sum' else 1.0
    inputs, _ = spoken(x, label_length=x['label_lengths'])
    answer = total({'ctc': Ctc(form=form, blank=record['hyperparams']['blank'], weight=weight)}, inputs)
    values = answer.outputs['per_example']
    if form == 'per_label':
        values = values * jnp.maximum(x['label_lengths'], 1)
    return answer._replace(outputs={'per_example': values, 'greedy': jnp.argmax(x['student_logits'], axis=-1)})


def frame_kd(record, x):
    given = record['hyperparams']
    inputs, mask = spoken(x)
    options = {'frames': 'nonblank', 'blank': given['blank']} if 'blank' in given else {}
    term = FrameDivergence(temperature=given['temperature'], per='frame', **options)
    of_frames = mask * divergence(x['student_logits'], x['teacher_logits'], given['temperature'])
    outputs = {
        'per_frame': of_frames,
        'per_example': jnp.sum(of_frames, axis=1) / jnp.sum(mask, axis=1),
        'keep': term.kept(term.of_both(inputs)[1]).astype(jnp.float64),
    }
    return total({'frames': term}, inputs)._replace(outputs=outputs)


def guided(record, x):
    inputs, _ = spoken({**x, 'teacher_logits': x['guide_logits']})
    return total({'guided': GuidedCtc(blank=record['hyperparams']['blank'])}, inputs)


def sequences(record, x):
    columns = {
        'hypotheses': x['hypotheses'],
        'hypothesis_lengths': x['hyp_lengths'],
        'hypothesis_weights': x['weights'],
    }
    inputs, _ = spoken(x, **columns)
    term = HypothesisCtc(blank=record['hyperparams']['blank'])
    answer = total({'sequences': term}, inputs)
    return answer._replace(outputs={'ctc': term.losses(inputs)[0]})


MAPPINGS = {'ctc': ctc, 'ctc_frame_kd': frame_kd, 'ctc_guided': guided, 'ctc_sequence_kd': sequences}
