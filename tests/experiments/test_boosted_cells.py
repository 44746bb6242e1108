"""Boosted trees as teachers: their answers, the sweep, and the page of its results."""

import json
from pathlib import Path

import numpy as np

from experiments.boosted_cells import cancer, config, publish
from kdjax.study.sweep import expand
from kdjax.train import given

FOLDER = Path(config.__file__).parent


def test_answers_are_to_these_cells_and_out_of_fold_ones_are_less_sure():
    data = cancer.cells()
    assert {name: split.inputs.shape for name, split in data.splits.items()} == {
        'train': (300, 30), 'validation': (69, 30), 'test': (200, 30)}  # fmt: skip
    labels, right = data.splits['train'].labels, {}
    for name in ('trees', 'trees-folds'):
        path = str(FOLDER / 'answers' / f'{name}.npz')
        given.check(path, data, 2, {})
        right[name] = np.mean(given.of_split(path, 'train', 300)['logits'].argmax(axis=1) == labels)
    assert right['trees'] == 1
    assert 0.9 < right['trees-folds'] < 1


def test_every_teacher_teaches_at_both_sizes():
    planned = expand.expand(config.get_config('quick'), config.sweep('quick'))
    assert len(planned.runs) == 3 * 2 * (1 + len(config.TEACHERS))
    assert {run.point['teacher'] for run in planned.runs if run.method == config.TAUGHT} == {*config.TEACHERS}


def test_the_page_is_that_of_its_results():
    """Where it is not: python experiments/boosted_cells/publish.py"""
    found, readme = json.loads((FOLDER / 'results' / 'boosted.json').read_text()), (FOLDER / 'README.md').read_text()
    assert publish.filled(readme, publish.BEGIN, publish.content(found)) == readme
    assert found['seeds'] == 20
