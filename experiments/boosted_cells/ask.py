"""Trains gradient-boosted trees and writes what they answer, for `teacher.outputs`.

Command: python experiments/boosted_cells/ask.py

Writes answers/trees.npz, where the trees have learned from every training example, and answers/trees-folds.npz, where
those that answer to a training example have not met it.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from experiments.boosted_cells import cancer, config
from kdjax.train import given

LEAST = 1e-6  # a probability: of a tree that is sure the logarithm is to stay finite


def logits(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms (N, K)."""
    return np.log(np.maximum(probabilities, LEAST)).astype(np.float32)


def main() -> None:
    """Asks about all splits."""
    (HERE / 'answers').mkdir(exist_ok=True)
    dataset = cancer.cells()
    tables = {split: (part.inputs, part.column('labels')) for split, part in dataset.splits.items()}
    trees = HistGradientBoostingClassifier(max_iter=50, learning_rate=0.1, random_state=0).fit(*tables['train'])
    fitted = {split: {'logits': logits(trees.predict_proba(inputs))} for split, (inputs, _) in tables.items()}
    folds = StratifiedKFold(config.FOLDS, shuffle=True, random_state=0)
    apart = logits(cross_val_predict(trees, *tables['train'], cv=folds, method='predict_proba'))
    given.save(HERE / 'answers' / 'trees.npz', dataset, fitted)
    given.save(HERE / 'answers' / 'trees-folds.npz', dataset, {**fitted, 'train': {'logits': apart}})


if __name__ == '__main__':
    main()
