"""Asks silero-vad, as published, when somebody speaks; what it says is a table that teaches.

Command: KDJAX_DATA=folder python experiments/silero_fsdd/ask.py MODEL OUT      (extra onnx: ONNX Runtime)

MODEL is 'silero_vad/data/silero_vad.onnx' of the wheel of silero-vad 6.2.3 (pip download --no-deps silero-vad==6.2.3,
and unzip it; 11 MB, MIT). OUT gets speech.npz, what `fsdd.moments` reads; teacher-FOLD.npz, which `teacher.outputs`
names; and silero.json: by speaker how much of the time speech is heard, and how often that is so where a recording was
put, and nowhere else.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from kdjax.data import fsdd
from kdjax.train import given

CONTEXT, STATE = 32, (2, 1, 128)  # samples that it is given again at 8 kHz, and what it remembers
LEAST = 1e-6  # a probability that still has a logit


def asked(session: onnxruntime.InferenceSession, audio: np.ndarray) -> np.ndarray:
    """The probability that somebody speaks, of every moment of a stretch (S,) of int16. (S / 256,)"""
    samples = np.pad(audio.astype(np.float32) / 2**15, (CONTEXT, 0))
    state, rate = np.zeros(STATE, np.float32), np.asarray(fsdd.RATE, np.int64)
    found = []
    for start in range(0, len(audio), fsdd.MOMENT):
        heard = samples[None, start : start + CONTEXT + fsdd.MOMENT]
        probability, state = session.run(None, {'input': heard, 'state': state, 'sr': rate})
        found.append(float(probability[0, 0]))
    return np.asarray(found, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('model', type=Path)
    parser.add_argument('out', type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    session = onnxruntime.InferenceSession(str(arguments.model), providers=['CPUExecutionProvider'])
    recordings = fsdd.recordings('')
    said, put = [], []
    for speaker, name in enumerate(fsdd.SPEAKERS):
        stretches = [fsdd.stretch(recordings, speaker, number) for number in range(fsdd.STRETCHES)]
        said.append([asked(session, one.audio) for one in stretches])
        put.append([one.spoken.reshape(-1, fsdd.MOMENT).mean(axis=1) >= 0.5 for one in stretches])
        print(f'{name}: {len(stretches)} stretches', flush=True)
    probability, spoken = np.asarray(said), np.asarray(put)
    np.savez_compressed(arguments.out / 'speech.npz', probability=probability)
    for fold in range(len(fsdd.SPEAKERS)):
        dataset = fsdd.moments(speech=str(arguments.out / 'speech.npz'), fold=fold)
        answers = {}
        for name, part in fsdd.members(recordings, 'speaker', fold).items():
            chance = fsdd.taken(probability, np.unique(recordings.speakers[part])).clip(LEAST, 1 - LEAST)
            answers[name] = {'logits': np.stack([np.zeros_like(chance), np.log(chance / (1 - chance))], axis=1)}
        given.save(arguments.out / f'teacher-{fold}.npz', dataset, answers)
    heard = probability >= 0.5
    says = {name: {'speech': float(heard[speaker].mean()), 'as put': float((heard == spoken)[speaker].mean()),
                   'unsure': float(np.mean((probability[speaker] > 0.1) & (probability[speaker] < 0.9)))}
            for speaker, name in enumerate(fsdd.SPEAKERS)}  # fmt: skip
    (arguments.out / 'silero.json').write_text(json.dumps(says, indent=1) + '\n')
    print(json.dumps(says, indent=1))


if __name__ == '__main__':
    main()
