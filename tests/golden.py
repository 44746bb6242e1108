"""Golden vectors: the words in which a mapping (golden_map.py) is written, and the comparison that all share."""

import collections
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.testing.world import overheard
from kdjax.train.objective import Objective
from kdjax.types import Outputs, TermInputs

KEY = jax.random.key(0)
# Outputs of records that we have no counterpart of, and why.
UNANSWERED = {
    'loss_asis_f32': 'the peer in its own float32; `loss` is the same code in float64',
    'elementwise': 'our smallest unit is the example or the token',
    'bn_running_mean': 'a layer that a term learns is never run in inference, so it keeps no running statistics',
    'bn_running_var': 'the same',
}


class Answer(NamedTuple):
    """What we say to a record: its loss, what the record may have as `out/<name>`, and what the terms remember."""

    loss: Any
    outputs: Mapping[str, Any]
    memory: Any


class Refused(Exception):
    """A record that we do not reproduce on purpose; the message is the reason."""


def total(terms, inputs, params=None, memory=None):
    """The loss of the terms together; as outputs their logs, and the values where there is one term.

    Args:
      terms: by name, weighted.
      inputs: what they read.
      params, memory: by term name, of the terms that have any.
    """
    objective, heard = overheard(Objective(tuple(terms.items())))
    params, memory = ({name: (given or {}).get(name, {}) for name in terms} for given in (params, memory))
    shares = objective.shares(params, memory, inputs, objective.knobs(), step=jnp.int32(0), key=KEY)
    outputs = {name.split('/')[1]: value for name, value in shares.logs.items()}
    if len(terms) == 1:
        (values,) = heard.values()
        outputs['per_example' if values.ndim == 1 else 'per_token'] = values
    return Answer(shares.loss, outputs, shares.memory)


def seen(x):
    """What terms see of a record: `student_feat0` is the student's tap 'feat0', in our layout; nothing is padding."""
    size = next(value.shape[0] for name, value in x.items() if name.startswith('student_'))
    batch = {'mask': x.get('mask', jnp.ones(size)), 'id': jnp.arange(size), 'view': jnp.zeros(size, int)}
    if 'labels' in x:
        batch['labels'] = x['labels']
    return TermInputs(side(x, 'student_'), side(x, 'teacher_'), batch)


def side(x, prefix):
    """Logits and taps of the inputs that start with `prefix`; those called feat* are maps, here (B, H, W, C)."""
    named = {name.removeprefix(prefix): value for name, value in x.items() if name.startswith(prefix)}
    return Outputs(
        named.get('logits'),
        {name: nhwc(value) if name.startswith('feat') else value for name, value in named.items()},
    )


def stages(x):
    """The feature taps that a record pairs, in order."""
    return tuple(sorted(name.removeprefix('student_') for name in x if name.startswith('student_feat')))


def counted(given, size):
    """What turns our mean over `size` into the peer's sum; 1 where the peer takes a mean too."""
    return float(size) if given.get('reduction') in ('sum', 'none') else 1.0


def peer_of(record):
    """'project/object', such as 'mmrazor/L2Loss'."""
    return f'{record["peer"]["repo"].split("/")[1]}/{record["peer"]["object"]}'


def nhwc(x):
    """A map (B, C, H, W) in our layout; vectors as they are."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def nchw(x):
    """A map (B, H, W, C) in the peers' layout; vectors as they are."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def layer(x, name):
    """A torch layer as flax has it: Linear (out, in), Conv2d OIHW, or ConvTranspose2d IOHW; no bias counts as 0."""
    weight = x[f'param/{name}.weight']
    # Reversed in, out either way: flax's transposed convolution (transpose_kernel) also stores the kernel transposed.
    kernel = weight.T if weight.ndim == 2 else weight.transpose(2, 3, 1, 0)
    return {'kernel': kernel, 'bias': x.get(f'param/{name}.bias', jnp.zeros(weight.shape[0]))}


def batch_norm(x, name):
    """A torch batch normalisation as flax has it."""
    return {'scale': x[f'param/{name}.weight'], 'bias': x[f'param/{name}.bias']}


def records(folder):
    """The index of a folder of golden vectors; empty where there is none."""
    index = pathlib.Path(folder) / 'index.json'
    return json.loads(index.read_text())['cases'] if index.is_file() else []


def disagreements(mapping, record, arrays):
    """Where our answer to a record is off, one line each.

    Args:
      mapping: (record, inputs) -> Answer.
      record: entry of the index.
      arrays: the record's npz, by key.

    Raises:
      Refused: we do not reproduce this record on purpose.
    """
    return compared(answered(mapping, record, arrays), record, arrays)


def compared(ours, record, arrays):
    """Where answers by the record's keys are off, one line each."""
    wanted = [name for name in arrays if not name.startswith('in/') and name.removeprefix('out/') not in UNANSWERED]
    lines = [f'{name}: no answer' for name in wanted if name not in ours]
    for name in set(wanted) & set(ours):
        got, want = ours[name], arrays[name]
        allowed = record['tolerance']['atol'] + record['tolerance']['rtol'] * np.max(np.abs(want), initial=0)
        if got.shape != want.shape:
            lines.append(f'{name}: shape {got.shape}, not {want.shape}')
        elif not (gap := np.max(np.abs(got - want), initial=0)) <= allowed:  # nan is off too
            lines.append(f'{name}: off by {gap:.3g}, allowed {allowed:.3g}')
    return lines


def answered(mapping, record, arrays):
    """Our loss, gradients and outputs under the record's keys, in float64."""
    # Standard promotion: flax starts running statistics in float32.
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        x = {name.removeprefix('in/'): jnp.asarray(value) for name, value in arrays.items() if name.startswith('in/')}

        def loss(moved):
            answer = mapping(record, {**x, **moved})
            return answer.loss, answer.outputs

        moved = {name: x[name] for name in record['grad_wrt']}
        (value, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(moved)
    named = {f'grad/{name}': leaf for name, leaf in gradients.items()}
    named |= {f'out/{name}': leaf for name, leaf in outputs.items()}
    return {name: np.asarray(leaf) for name, leaf in {'loss': value, **named}.items()}


def coverage(records, results):
    """A table by technique; `results` says 'matched', 'failed', or why it was refused, by record id."""
    columns = ('matched', 'failed', 'refused', 'not covered')
    counts = collections.defaultdict(collections.Counter)
    for record in records:
        result = results.get(record['id'], 'not covered')
        counts[record['technique']][result if result in columns else 'refused'] += 1
    rows = [(name, *(count[column] or '' for column in columns)) for name, count in counts.items()]
    sums = ('all', *(sum(count[column] for count in counts.values()) for column in columns))
    lines = [f'{row[0]:>24}' + ''.join(f'{cell:>13}' for cell in row[1:]) for row in [('', *columns), *rows, sums]]
    return [*lines, *(f'refused {name}: {why}' for name, why in results.items() if why not in columns)]
