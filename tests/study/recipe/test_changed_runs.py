"""Whole runs of chains: stopped, over runners and layouts, with a rank for each cell, with a teacher made smaller."""

import jax
import numpy as np
import pytest
from compressed import config, variables, zeros

import kdjax
from kdjax import trees
from kdjax.compress.quantized import ROUNDING, quantized
from kdjax.data import digits
from kdjax.nets import mlp
from kdjax.study import run
from kdjax.study.recipe import execute, plan
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep import collect, expand, rows, worker
from kdjax.train import storage
from kdjax.train.checkpoint import load_variables
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals


@pytest.mark.rotating(1, 2)
def test_a_teacher_is_pruned_and_rounded_by_the_same_words(tmp_path):
    smaller = {'teacher__fit__optim__pruning': 'layer', 'teacher__fit__optim__prune_every': 3,
               'teacher__fit__sparsity': 0.5, 'teacher__fit__change': {'kind': 'quantize'},
               'teacher__fit__bits': 4.0}  # fmt: skip
    run.run(config({'KD': ('after',)}, **smaller), tmp_path, 'test')
    teacher, _ = variables(tmp_path, 'teacher')
    assert [layer.mean() for layer in zeros(teacher)] == [0.5, 0.5]
    assert np.asarray(teacher['stats'][ROUNDING]['bits']).tolist() == [4, 8]
    net, inputs = mlp.mlp(classes=10, widths=(32,)), digits.digits().splits['test'].inputs
    (folder,) = tmp_path.glob('evaluate-*')
    told = np.load(folder / 'predictions.npz')['teacher']
    logits = quantized(net).apply(teacher, inputs, train=False, key=None)[0].logits
    np.testing.assert_allclose(told, logits, atol=1e-5)
    cost = storage.read_json(folder / storage.ARTIFACT)['result']['teacher']['more']
    assert cost['bits_per_weight'] < 8
    assert cost['macs_effective'] == cost['macs'] / 2


@pytest.mark.slow
def test_the_dense_student_teaches_in_runs_and_in_sweeps_alike(tmp_path):
    made = config({'PQK': ('baseline', 'prune', 'pqk')}, fits__prune__teacher='dense')
    run.run(made, tmp_path / 'run', 'test')
    found, _ = variables(tmp_path / 'run', 'baseline+prune+pqk')
    (tmp_path / 'sweep').mkdir()
    worker.run(made, rows.axis('method', 'PQK'), tmp_path / 'sweep', 'test')
    swept = [load_variables(folder / 'variables') for folder in (tmp_path / 'sweep').glob('grid-*')]
    assert trees.fingerprint(found) in map(trees.fingerprint, swept)


@pytest.mark.slow
@pytest.mark.parametrize(
    'fits', [('prune',), ('prune', 'qat'), ('narrow', 'factor'), ('prune', 'share'), ('qat', 'taylor')]
)
def test_a_chain_that_is_stopped_in_its_last_fit_goes_on_to_the_same_bits(tmp_path, fits):
    class Once(StopSignals):
        """Asks for a stop in the middle of a stage."""

        stage, seen = '', 0

        def agreed(self):
            self.seen += self.stage == last
            return signal if self.seen == 2 else None

    class Told(Screen):
        def stage(self, name, steps=1):
            stop.stage = name
            super().stage(name, steps)

    last, stop = '+'.join(('baseline', *fits)), Once()
    signal = type('Signal', (), {'name': 'SIGTERM', '__bool__': lambda self: True})()
    averaged = {f'fits__{name}__optim__ema': 0.8 for name in fits}
    made = config({'method': ('baseline', *fits)}, run__chunk=5, run__save_every=5, **averaged)
    recipe = resolve(made)
    todo, context = list(plan.stages_of(recipe).values()), Context(recipe.execution, Told(quiet=True), stop)
    with pytest.raises(execute.Interrupted):
        execute.execute(todo, context, tmp_path / 'stopped')
    assert not list((tmp_path / 'stopped').glob(f'{last}-*/{storage.ARTIFACT}'))
    for workdir in ('stopped', 'whole'):
        run.run(made, tmp_path / workdir, 'test')
    found, wanted = (variables(tmp_path / workdir, last) for workdir in ('stopped', 'whole'))
    assert trees.fingerprint(found[0]) == trees.fingerprint(wanted[0])


@pytest.mark.slow
def test_ranks_are_cells_and_each_student_has_the_size_of_its_own(tmp_path):
    made = config({'R': ('baseline', 'factor', 'qat')})
    ranks = rows.product(rows.axis('method', 'R'), rows.axis('fits.factor.rank', 1.0, 3.0))
    worker.run(made, rows.chained(rows.axis('method', 'hard labels'), ranks), tmp_path, 'test')
    found = collect.results(expand.expand(made, ranks), tmp_path, '')
    sizes_ = {run.point['rank']: run.cost.more for run in found.runs}
    assert {rank: size['macs'] for rank, size in sizes_.items()} == {rank: rank * (64 + 8) + 8 * 10 for rank in (1, 3)}
    assert sizes_[1]['stored_bytes'] < sizes_[3]['stored_bytes']
    costs = {run.point['rank']: run.cost for run in found.runs}
    factors = {rank: rank * (64 + 8) + 8 + 8 * 10 + 10 for rank in (1, 3)}
    assert {rank: cost.params for rank, cost in costs.items()} == factors
    assert costs[1].flops < costs[3].flops
    assert costs[1].bytes < costs[3].bytes
    assert (tmp_path / 'report' / 'pareto_deflated_bytes.png').is_file()
    student = kdjax.load(tmp_path, point={'rank': 1.0})
    assert student.variables['params']['dense1']['kernel']['first'].shape == (64, 1)


@pytest.mark.slow
def test_a_rank_that_was_chosen_costs_what_it_is(tmp_path):
    run.run(config({'R': ('baseline', 'factor')}, {'fits.factor.rank': (1.0, 2.0)}), tmp_path, 'test')
    (folder,) = tmp_path.glob('evaluate-*')
    cost = storage.read_json(folder / storage.ARTIFACT)['result']['costs']['R']
    _, result = variables(tmp_path, 'baseline+factor')
    rank = int(result['chosen']['50']['rank'])
    assert cost['params'] == rank * (64 + 8) + 8 + 8 * 10 + 10
    assert cost['more']['macs'] == rank * (64 + 8) + 8 * 10


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['map', 'unroll', 'cells'])
def test_chains_are_the_same_in_every_layout(tmp_path, layout):
    found = {}
    for which in ('vmap', layout):
        made = config({'all': ('baseline', 'taylor', 'prune', 'qat')}, run__layout=which, run__runner='single')
        run.run(made, tmp_path / which, 'test')
        found[which], _ = variables(tmp_path / which, 'baseline+taylor+prune+qat')
    for one, other in zip(zeros(found['vmap']), zeros(found[layout]), strict=True):
        assert np.mean(one == other) > 0.99
    for one, other in zip(*(jax.tree.leaves(each['params']) for each in found.values()), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
@pytest.mark.parametrize('runner', ['single', 'pmap', 'shard_map', 'cells'])
def test_chains_are_the_same_over_runners_and_in_bfloat16(tmp_path, runner, precision):
    methods = {'all': ('baseline', 'taylor', 'prune', 'qat')}
    run.run(config(methods, run__runner=runner, run__precision=precision), tmp_path, 'test')
    found, result = variables(tmp_path, 'baseline+taylor+prune+qat')
    assert result['failures'] == []
    assert found['params']['dense1']['kernel'].shape == (2, 64, 4)
    for cell in range(2):
        count = sum(int(layer[cell].sum()) for layer in zeros(found))
        assert count == round(0.5 * (64 * 4 + 4 * 10))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
