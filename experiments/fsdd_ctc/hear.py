"""Asks the teacher of a run of configs/fsdd_ctc.py which strings it hears; what it says is a table that teaches.

Command: KDJAX_DATA=folder python experiments/fsdd_ctc/hear.py WORKDIR OUT.npz     (the run's folder, such as
         runs/fsdd_ctc; a minute)

OUT has, of every clip as it is, what the network answers and, of training clips, its n best strings with their weights
(`kdjax.ctc.n_best`), which `HypothesisCtc` learns: --config=configs/fsdd_ctc.py:heard=OUT.npz. It is said how often the
first is what was spoken, and what it weighs.
"""

import argparse
import functools
import sys
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from configs import fsdd_ctc
from kdjax import ctc
from kdjax.data.preprocess import Preprocess
from kdjax.dataset import Split, taken
from kdjax.study.recipe import build, plan
from kdjax.study.recipe.resolve import resolve
from kdjax.train import given
from kdjax.train.checkpoint import load_variables
from kdjax.types import Net, Outputs, Tree

COUNT, WIDTH, BATCH = 5, 12, 250


def answered(net: Net, variables: Tree, split: Split, preprocess: Preprocess) -> dict[str, np.ndarray]:
    """Logits (N, T, K) and which of their frames are real (N, T), of clips as they are."""

    @jax.jit
    def ask(inputs: Tree) -> Outputs:
        return net.apply(variables, preprocess(inputs), train=False, key=None)[0]

    found = []
    for start in range(0, split.size, BATCH):
        outputs = ask(taken(split.inputs, np.arange(start, min(start + BATCH, split.size))))
        found.append((np.asarray(outputs.logits), np.asarray(outputs.masks['logits'][0])))
    logits, mask = map(np.concatenate, zip(*found, strict=True))
    return {'logits': logits, 'mask': mask}


def strings(answers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The n best strings of every clip and what they weigh."""
    logits, frames = answers['logits'], answers['mask'].sum(axis=1).astype(int)
    return ctc.n_best(np.asarray(jax.nn.log_softmax(logits)), frames, COUNT, WIDTH)


def right(found: dict[str, np.ndarray], split: Split) -> float:
    """How often the first string is what was spoken."""
    lengths = split.column('label_length')
    same = [
        np.array_equal(first[:length], label[:real])
        for first, length, label, real in zip(
            found['hypotheses'][:, 0], found['hypothesis_lengths'][:, 0], split.labels, lengths, strict=True
        )
    ]
    return float(np.mean(same))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('workdir', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--argument', default='', help='of the config that was run, such as fold=2')
    arguments = parser.parse_args()
    recipe = resolve(fsdd_ctc.get_config(arguments.argument))
    teacher = plan.stages_of(recipe)['teacher']
    dataset, spec = build.dataset(recipe.data), recipe.teachers['teacher']
    task = build.task(recipe.task)
    net = build.net(spec.network, build.told(spec.network, task, dataset), recipe.precision, None)
    variables = load_variables(arguments.workdir / teacher.folder / 'variables')
    ask = functools.partial(answered, net, variables, preprocess=build.preprocess(recipe.data))
    answers = {name: ask(split=split) for name, split in dataset.splits.items()}
    found = strings(answers['train'])
    given.save(arguments.out, dataset, {**answers, 'train': {**answers['train'], **found}})
    print(f'{right(found, dataset.splits["train"]):.1%} of first strings are what was spoken; they weigh '
          f'{found["hypothesis_weights"][:, 0].mean():.3f}')  # fmt: skip


if __name__ == '__main__':
    main()
