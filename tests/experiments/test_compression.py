"""The studies of compression on MNIST: what their configs mean, that their pages are of their results, a few steps."""

import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import students
from experiments.deep_compression2016_mnist import config as deep
from experiments.deep_compression2016_mnist import publish as deep_page
from experiments.wide_sparse import config as wide
from experiments.wide_sparse import publish as wide_page
from kdjax.study.sweep import expand, worker

ROOT = Path(__file__).resolve().parents[2]
STUDIES = {'deep_compression2016_mnist': (deep, deep_page), 'wide_sparse': (wide, wide_page)}


@pytest.mark.parametrize('name', STUDIES)
def test_the_page_is_that_of_its_results(name):
    """Where it is not: python experiments/NAME/publish.py"""
    config, page = STUDIES[name]
    folder = ROOT / 'experiments' / name
    found, readme = json.loads((folder / 'results' / 'mnist.json').read_text()), (folder / 'README.md').read_text()
    assert page.filled(readme, page.BEGIN, page.content(found)) == readme
    assert found['seeds'] >= 5
    assert found['runs']['finished'] == found['runs']['planned']
    assert f'python run.py --config=experiments/{name}/config.py' in config.__doc__


def test_a_wide_network_has_as_many_parameters_left_as_a_narrow_one_has():
    kernels = wide.kernels(wide.WIDE)
    for widths in wide.NARROW:
        budget = wide.parameters(widths)
        gone = np.round(np.float32(wide.sparsity(budget)) * np.float32(kernels))
        assert kernels - gone + sum(wide.WIDE) + wide.CLASSES == budget
    found = json.loads((ROOT / 'experiments' / 'wide_sparse' / 'results' / 'mnist.json').read_text())
    for arm in found['arms']:
        left = [one['sizes']['nonzeros'] for one in arm['seeds'].values()]
        # A weight or a bias may be zero by itself.
        assert all(0.99 * arm['point']['nonzeros'] <= count <= arm['point']['nonzeros'] for count in left), arm['point']


def test_forms_have_the_same_steps_and_examples():
    planned = expand.expand(wide.get_config(), wide.sweep())
    fits = [run.cells[-1].fit for run in planned.runs]
    assert {(fit.steps, fit.batch_size, fit.spec.learning_rate) for fit in fits} == {(3000, 100, (3e-3,))}
    planned = expand.expand(deep.get_config(), deep.sweep())
    steps = {run.method: sum(cell.fit.steps for cell in run.cells) for run in planned.runs}
    assert steps['longer'] == steps['shared'] > steps['pruned'] > steps['dense']


def quick(config):
    """A config on made-up images, with small networks."""
    config = config.copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        config.data.source, config.data.args = 'fake_images:mnist', ConfigDict({})
        config.data.transfer_sizes = (200,)
        config.teacher.args.widths = (8, 8)
        for fit in (config.teacher.fit, *config.fits.values()):
            fit.steps, fit.batch_size = 4, 20
            if 'prune_every' in fit.optim:
                fit.optim.prune_every = 1
    return config


@pytest.mark.slow
@pytest.mark.parametrize('name', STUDIES)
def test_a_few_steps_are_measured_and_shown(name, tmp_path):
    config, page = STUDIES[name]
    made, listed = quick(config.get_config('quick')), config.sweep()
    worker.run(made, listed, tmp_path, 'python run.py')
    more = [deep_page.measured] if name.startswith('deep') else []
    found = json.loads(json.dumps(students.results(expand.expand(made, listed), tmp_path, *more)))
    assert found['runs']['finished'] == found['runs']['planned'] == 2 * len(listed)
    assert page.content(found)
    rows = json.loads((tmp_path / 'report' / 'summary.json').read_text())['rows']
    own = {str(row['point']): row['cost'].get('more', {}) for row in rows}
    for arm in found['arms']:  # the report counts what is left of every arm by itself
        counts = [one['sizes']['nonzeros'] for one in arm['seeds'].values()]
        assert min(counts) <= own[str(arm['point'])]['nonzeros'] <= max(counts), arm['point']
    if more:
        (pruned, shared) = (students.arm(found, method=method)['0'] for method in ('pruned', 'shared'))
        assert pruned['weights'] == shared['weights'] == pytest.approx(8, abs=0.01)
        assert shared['sizes']['huffman'] < shared['sizes']['indexed'] < pruned['sizes']['indexed']
        assert set(shared['layers']) == set(deep_page.LAYERS)
