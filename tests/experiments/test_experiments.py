"""Tables of papers: each sweep expands, has an arm for every number that the paper reports, and could run as it is."""

import functools
import json
import runpy
from pathlib import Path

import fake_cifar
import jax
import jax.numpy as jnp
import pytest
import rotation

from configs import cifar
from kdjax import cost
from kdjax.study import command_line
from kdjax.study.recipe import build
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.inputs import teacher_of
from kdjax.study.recipe.recipe import NetSpec
from kdjax.study.report import comparison, published
from kdjax.study.sweep import collect, expand, rows, worker
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals
from kdjax.types import Outputs, TermInputs

ROOT = Path(__file__).resolve().parents[2]
ARMS = {'crd2020_cifar100': 188, 'dkd2022_cifar100': 33, 'logit_std2024_cifar100': 126, 'at2017_cifar10': 15,
        'patient2021': 12}  # fmt: skip
PAPERS = [name for name in ARMS if name != 'patient2021']
FAKE = {
    'data.source': 'fake_cifar:images', 'data.args': {}, 'data.transfer_sizes': (fake_cifar.COUNT['train'],),
    'fits.*.steps': 2, 'fits.*.batch_size': 4, 'teacher.fit.steps': 2, 'teacher.fit.batch_size': 4, 'run.chunk': 1,
    'run.validate_every': 2, 'run.save_every': 2, 'run.layout': 'map',
}  # fmt: skip


@functools.cache
def module(name):
    return runpy.run_path(str(ROOT / 'experiments' / name / 'config.py'))


@functools.cache
def planned(name):
    return expand.expand(module(name)['get_config'](), module(name)['sweep']())


def arms(name):
    """Points of all arms, each once."""
    points = {tuple(sorted(run.point.items())): run for run in planned(name).runs}
    return [dict(point) for point in points]


def small(name, pair, nets, wanted):
    """Rows of which one value is wanted, on noise, with networks as shallow as can be, a few steps long."""
    arg = f'pair={pair},seeds=1'
    config, own = rows.applied(module(name)['get_config'](arg), FAKE), {'teacher.args': nets, 'student.args': nets}
    length = (*FAKE, 'fits.*.optim.warmup')
    listed = [
        row._replace(changes={field: value for field, value in row.changes.items() if field not in length} | own)
        for row in module(name)['sweep'](arg) if set(wanted) & set(row.point.values())
    ]  # fmt: skip
    return expand.expand(config, listed)


@pytest.mark.parametrize('name', ARMS)
def test_a_table_is_a_sweep_over_a_locked_config(name):
    config = module(name)['get_config']()
    assert config.is_locked
    assert f'python run.py --config=experiments/{name}/config.py' in module(name)['__doc__']
    assert len(arms(name)) == ARMS[name]
    assert config.teacher.mode == 'online'
    assert config.data.args.validation == 'test'


@pytest.mark.parametrize('name', PAPERS)
def test_every_number_of_a_paper_is_that_of_exactly_one_arm(name):
    config, points = module(name)['get_config'](), arms(name)
    numbers = published.load(ROOT / config.expected).rows
    for row in numbers:
        assert sum(row.point.items() <= point.items() for point in points) == 1, row.point
    described = {json.dumps(row.point, sort_keys=True) for row in numbers}
    assert len(described) == len(numbers)
    untold = [point for point in points if json.dumps({k: point[k] for k in ('method', 'pair')}) not in described]
    assert {point['method'] for point in untold} <= {'hard labels'}, 'an arm of which the paper says nothing'


def test_the_recipe_is_that_of_the_literature():
    """240 epochs of 781 batches of 64, drops after 150, 180 and 210; small mobile networks at a fifth of the rate."""
    cells = {(run.point['pair'], run.method): run.cells for run in planned('crd2020_cifar100').runs}
    (own,) = cells['resnet56-resnet20', 'KD']
    assert (own.fit.steps, own.fit.batch_size, own.fit.spec.learning_rate) == (187500, 64, (0.05,))
    assert [round(share * 240) for share in own.fit.spec.optim['milestones']] == [150, 180, 210]
    assert {run.seed for run in planned('crd2020_cifar100').runs if run.point['pair'] == 'vgg13-vgg8'} == set(range(5))
    for pair, rate in (('vgg13-MobileNetV2', 0.01), ('wrn_40_2-ShuffleV1', 0.01), ('ResNet50-vgg8', 0.05)):
        assert cells[pair, 'AT'][0].fit.spec.learning_rate == (rate,)
        assert teacher_of(cells[pair, 'AT'][0].inputs.source).fit.spec.learning_rate == (0.05,)
    start, main = cells['wrn_40_2-ShuffleV1', 'AB']
    assert (start.fit.steps, start.fit.spec.optim.get('schedule'), main.fit.steps) == (23437, None, 187500)


def shallow(spec):
    """The network with as few layers as its kind can have: its taps and their shapes are the same."""
    least = {'resnet_cifar.resnet': {'depth': 8}, 'wide_resnet.wrn': {'depth': 10}}.get(spec.net, {})
    return NetSpec(spec.net, {**spec.args, **least})


@functools.cache
def answer(spec):
    """Shapes of what a network, given as JSON, answers on a batch."""
    net = build.net(NetSpec(*json.loads(spec)), {'classes': 100}, 'float32', None)
    images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)

    def run(x):
        return net.apply(net.init(jax.random.key(0), x), x, train=False, key=None)[0]

    logits, features, _ = jax.eval_shape(run, images)
    return Outputs(logits, {**features, 'strong': logits})


def test_channels_of_networks_are_those_that_tables_are_built_with():
    for network in cifar.NETWORKS.values():
        spec = shallow(NetSpec(network.net, dict(network.args)))
        features = answer(as_json(spec)).features
        maps = [features[f'stage{number}'].shape[-1] for number in range(1, len(network.channels) + 1)]
        assert tuple(maps) == network.channels
        assert f'stage{len(maps) + 1}' not in features
        assert ('stage1_pre' in features) == network.before


@pytest.mark.parametrize('name', ARMS)
def test_every_method_fits_every_pair(name):
    """Every term of every arm, with the shapes that the two networks give it: taps exist, and it has a value each."""
    for run in planned(name).runs:
        earlier = {}
        for cell in run.cells if run.seed == 0 else ():
            sides = [as_json(shallow(spec)) for spec in deep(cell.inputs, run.teacher.inputs)]
            terms = cell.fit.objective.terms
            learned = {called: fitted(term, *sides) for called, term in terms}
            for called, term in terms:
                term.adopt(learned[called], earlier, {})
            earlier = learned


def as_json(spec):
    return json.dumps([spec.net, spec.args])


def deep(*inputs):
    """Student and teacher, after each was built as deep as it is meant to be."""
    for each in inputs:
        build.net(each.network, {'classes': 100}, 'float32', None)
    return [each.network for each in inputs]


@functools.cache
def fitted(term, student, teacher):
    """Shapes of what a term learns, once it has been initialised and has answered."""
    number, key = jax.ShapeDtypeStruct((4,), jnp.int32), jax.random.key(0)
    batch = {'labels': number, 'id': number, 'view': number, 'mask': jax.ShapeDtypeStruct((4,), jnp.float32)}
    inputs = TermInputs(answer(student), answer(teacher), batch)
    params, memory = jax.eval_shape(lambda inputs: term.init(key, inputs), inputs)
    knobs = {knob: jax.ShapeDtypeStruct((), jnp.float32) for knob in term.knobs()}

    def ask(params, memory, inputs, knobs):
        return term(params, memory, inputs, knobs, step=jnp.int32(0), key=key).values

    assert jax.eval_shape(ask, params, memory, inputs, knobs).shape == (4,)
    return params


RESNET, WRN = ('resnet56-resnet20', {'depth': 8}), ('wrn_16_2-wrn_16_1', {'depth': 10, 'widen': 1})


@pytest.mark.parametrize(('name', 'networks', 'wanted'), [
    ('crd2020_cifar100', RESNET, ('AB', 'FT', 'FSP', 'CRD+KD')),
    ('dkd2022_cifar100', RESNET, ('DKD',)),
    ('logit_std2024_cifar100', RESNET, ('CTKD+LS', 'MLKD+LS')),
    ('patient2021', RESNET, ('soft labels',)),
])  # fmt: skip
def test_a_step_of_what_is_unusual_can_be_traced(name, networks, wanted):
    """Chains of fits, banks of embeddings, reversed gradients, second views, mixed images."""
    found = small(name, *networks, wanted)
    costs = expand.check_shapes(found, Datasets())
    assert set(found.structures()) <= set(costs)
    assert all(cost.flops > 0 for cost in costs.values())


TABLES = [('crd2020_cifar100', RESNET, 'AB'), ('at2017_cifar10', WRN, 'AT'),
          ('patient2021', RESNET, 'function matching')]  # fmt: skip


@pytest.mark.parametrize(('name', 'networks', 'method'), rotation.params(TABLES, ['table'] * len(TABLES)))
def test_two_steps_of_a_table(name, networks, method, tmp_path, monkeypatch):
    """Teacher and student are trained by the process that works on sweeps, and the report compares with the paper."""
    monkeypatch.setattr(cost, 'latency_ms', lambda *_, **__: 1.0)  # which takes long, and is tested elsewhere
    found = small(name, *networks, (method,))
    with StopSignals() as stop, Screen() as screen:
        trained = worker.Worker(found, tmp_path, screen, stop)
        trained.work()
    assert set(trained.index.places) == set(found.cells)
    for place in trained.index.places.values():
        assert place.record['failure'] is None
        assert 0 <= place.record['last']['accuracy'] <= 1
    results = collect.results(found, tmp_path, 'python run.py')
    if name in PAPERS:
        rows = published.compare(results.published, comparison.group_runs(results)).rows
        assert sum(row.verdict != 'no arm matches' for row in rows) == 1


def test_every_experiment_has_a_workdir_of_its_own():
    files = [f'--config=experiments/{name}/config.py:quick' for name in ARMS]
    assert [command_line.name(['run.py', file], 'digits') for file in files] == list(ARMS)
