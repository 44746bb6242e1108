"""What only networks, terms, data and the machine can say of a config is said before anything trains."""

import copy
import runpy
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from kdjax import trees
from kdjax.dataset import Split
from kdjax.errors import Problems, UsageError
from kdjax.nets import cnn, mlp
from kdjax.nets.layers import Dropout
from kdjax.study.config import fields
from kdjax.study.config.search import Search
from kdjax.study.recipe import acceptance, dry_run, feeding, shapes
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.recipe import GridCell, NetSpec
from kdjax.study.sweep import collect, expand, rows
from kdjax.tasks.classification import Classification
from kdjax.tasks.recommendation import Recommendation
from kdjax.techniques.hinton import SoftTargets
from kdjax.train import optim, parallel

ROOT = Path(__file__).resolve().parents[3]
TINY = runpy.run_path(str(ROOT / 'tests' / 'configs' / 'tiny.py'))['get_config']


def changed(**changes):
    config = copy.deepcopy(TINY())
    with config.unlocked(), config.ignore_type():
        for field, value in changes.items():
            fields.put(config, field.replace('__', '.'), value)
    return config.lock()


def test_one_fault_of_several_places_is_one_line():
    problems = Problems()
    for name in 'abcde':
        with problems.collected(f'fit {name!r}'):
            raise UsageError('too long')
    problems.add('and this')
    with pytest.raises(UsageError, match=r"^fit 'a', fit 'b', fit 'c' and 2 more: too long\nand this$"):
        problems.report()


# ---- what objects take


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'student__args__widths': (1.5,)}, r"widths of network 'mlp.mlp' must be tuple\[int, ...\], got \(1.5,\)"),
        ({'student__args__widths': (0,)}, 'widths of a mlp must be at least 1, got 0'),
        ({'student__args': {'dropout': 1.5}}, r'a rate of dropout must be in \[0, 1\], got 1.5'),
        ({'student__args': {'dropout': 'a'}}, "dropout of network 'mlp.mlp' must be float, got 'a'"),
        ({'student__net': 'os:getcwd', 'student__args': {}}, "unknown argument '.*' of network 'os:getcwd'"),
        ({'student__net': 'sys:path', 'student__args': {}}, "network 'sys:path' is .*, which cannot be called"),
        ({'data__source': 'os:getcwd'}, r'a source of data must return a kdjax.dataset.Dataset, got str'),
        ({'data__source': 'json:loads'}, "data set 'json:loads': missing a required argument: 's'"),
        ({'data__source': ':'}, "data set ':': importing it fails with ValueError: Empty module name"),
        ({'data__augment': {'kind': 'augment.crop', 'padding': 1.5}}, "padding of .*'augment.crop' must be int"),
        ({'data__augment': {'kind': 'augment.crop', 'padding': 10**9}}, 'padding of crop is .*, and images are 8x8'),
        ({'data__augment': {'kind': 'os:getcwd'}}, "augmentation 'os:getcwd' must return a function, got '/"),
        ({'fits__combined__optim__momentums': 0.9}, "unknown argument 'momentums' of the optimiser"),
        ({'fits__combined__optim__milestones': 3}, r'milestones of the optimiser must be tuple\[float, ...\], got 3'),
        ({'fits__combined__optim__steps': 3}, "steps are the fit's, not its optimiser's"),
        ({'student__args__widths': (10**12,)}, r'takes .* GB, and there are .*; choose a smaller one'),
        ({'fits__combined__batch_size': 2**31 - 1}, 'a batch of 2147483647 examples takes .* GB'),
        ({'data__transfer_sizes': (1,), 'data__classes': (3,)}, r'data.classes \(3,\) have no example among the 1 '),
        ({'run__runner': 'sharded', 'fits__combined__batch_size': 30}, 'a batch of 30 does not divide over 4 devices'),
    ],
)  # fmt: skip
def test_what_objects_cannot_use_is_one_line(change, message):
    with pytest.raises(UsageError, match=message) as caught:
        acceptance.checked(changed(**change), Datasets())
    assert len(str(caught.value).splitlines()) == 1


def test_a_block_whose_terms_weigh_nothing_is_met():
    hint = {'kind': 'fitnets.Hint', 'layer': 'hidden1', 'regressor': False}
    config = changed(
        terms__hint=hint, fits__combined__weights__hint=0.0, fits__combined__blockwise={'hidden1': 'hidden1'}
    )
    with pytest.raises(UsageError, match=r"fit 'combined' is cut at 'hidden1', .* with a weight of 0 of 'hint'"):
        acceptance.checked(config, Datasets())


def test_what_is_kept_of_a_teacher_and_what_is_read_of_it_are_named():
    with pytest.raises(UsageError, match=r'the most probable classes alone are known: take sparse\.SparseTargets'):
        acceptance.checked(changed(teacher__keep=3), Datasets())


def test_all_attempts_are_looked_at_before_the_first_one():
    config = changed(retry__attempts=1, retry__transfer_size=(99999,))
    with pytest.raises(UsageError, match='transfer size 99999 must be in 1 to 1000, the training examples'):
        acceptance.checked(config, Datasets())


def test_a_network_that_cannot_read_its_inputs_is_named():
    failing = mlp.mlp(classes=10)._replace(init=lambda key, inputs: inputs.nothing)
    with pytest.raises(UsageError, match=r"network 'a:b' of \{\} cannot read inputs of 1x8x8: AttributeError: "):
        shapes.initial(failing, NetSpec('a:b', {}), jax.ShapeDtypeStruct((1, 8, 8), np.float32))


def test_weights_of_another_network_are_met_by_the_plan(tmp_path):
    path = tmp_path / 'w.pt'
    path.write_bytes(b'text')
    with pytest.raises(UsageError, match=r'w\.pt'):
        acceptance.checked(changed(teacher__weights=str(path)), Datasets())


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'momentum': 2.0}, 'momentum'), ({'b1': 1.5}, 'b1'), ({'b2': 1.0}, 'b2'), ({'eps': -1.0}, 'eps'),
        ({'milestones': (2.0, 3.0)}, 'milestones'), ({'milestones': (0.9, 0.1)}, 'milestones'),
        ({'delta': -0.9}, 'delta'), ({'ema': float('nan')}, 'ema'),
    ],
)  # fmt: skip
def test_an_optimiser_is_within_bounds(wrong, message):
    with pytest.raises(UsageError, match=f'{message} of the optimiser must be'):
        optim.build(steps=10, **wrong)


@pytest.mark.parametrize(
    ('schedules', 'message'),
    [
        (3, 'a schedule of SoftTargets is'),
        (('temperature',), 'a schedule of SoftTargets is'),
        ((('temperature', 1.0, 0.0, 5),), 'temperature of SoftTargets must be > 0 throughout, and its schedule'),
        ((('temperature', float('nan'), 1.0, 5),), 'temperature of SoftTargets must be > 0 throughout'),
        ((('weight', -1.0, 2.0, 5),), 'weight of SoftTargets must be >= 0 throughout, and its schedule'),
        ((('temperature', 'a', 2.0, 5),), 'start and end of a schedule of SoftTargets must be numbers'),
        ((('temperature', 1.0, 2.0, 'a'),), 'must last at least 1 step'),
    ],
)  # fmt: skip
def test_a_schedule_keeps_a_knob_within_its_bounds(schedules, message):
    with pytest.raises(UsageError, match=message):
        SoftTargets(schedules=schedules)


def test_networks_have_units_and_rates_of_dropout_are_shares():
    for build_net in (mlp.mlp, cnn.cnn):
        with pytest.raises(UsageError, match=r'widths of a .* must be at least 1, got -1'):
            build_net(classes=3, widths=(-1,))
    with pytest.raises(UsageError, match='widths of a cnn must be at least 1, got 0'):
        cnn.cnn(classes=3, widths=())
    with pytest.raises(UsageError, match='a rate of dropout'):
        Dropout(-1.0, None).apply({}, np.zeros((2, 2)), True)


# ---- what the machine holds


def test_memory_says_what_does_not_fit():
    dry_run.check_memory('a table', 10, 10, 'make it smaller')
    with pytest.raises(UsageError, match=r'^a table takes 2e\+03 GB, and there are 1; make it smaller$'):
        dry_run.check_memory('a table', 2e12, 1e9, 'make it smaller')
    assert 0 < shapes.device_bytes() <= shapes.host_bytes()


def test_bytes_are_counted_beyond_64_bits():
    assert trees.nbytes(jax.ShapeDtypeStruct((10**12, 10**12), np.float32)) == 4 * 10**24


def test_a_cache_of_more_than_the_machine_holds_is_refused(monkeypatch):
    monkeypatch.setattr(shapes, 'host_bytes', lambda: 10**6)
    monkeypatch.setattr(shapes, 'device_bytes', lambda: 10**12)
    with pytest.raises(UsageError, match=r"what 'teacher' says of 1000 examples in 50 views takes .* lower data.views"):
        acceptance.checked(changed(data__views=50), Datasets())


def test_all_cells_together_must_be_there(monkeypatch):
    monkeypatch.setattr(shapes, 'device_bytes', lambda: 10**5)
    with pytest.raises(UsageError, match=r"fit 'baseline': the state of 100 cells takes .*; lower seeds"):
        acceptance.checked(changed(seeds=100, search=Search()), Datasets())


def test_batches_divide_over_the_devices_of_runners_that_split_them():
    devices = jax.devices()
    parallel.check_batches('single', devices, (33,))
    parallel.check_batches('pmap', devices, (32,))
    with pytest.raises(UsageError, match='a batch of 33 does not divide over 4 devices; use a multiple of 4'):
        parallel.check_batches('pmap', devices, (32, 33))


def test_examples_that_stand_for_others_stay_on_their_device():
    feeding.check_parts(Recommendation(asked_every=16), 96, 2)
    feeding.check_parts(Recommendation(), 95, 4)
    message = 'asked_every of Recommendation must divide each of 4 parts .* of a batch of 96, got 16; .* multiple of 64'
    with pytest.raises(UsageError, match=message):
        feeding.check_parts(Recommendation(asked_every=16), 96, 4)
    assert parallel.chosen('auto', [SimpleNamespace(platform='gpu', process_index=0)] * 4, 1, 96 // 16) == 'single'


def test_a_cell_has_examples_of_its_classes():
    split = Split(np.zeros((10, 2), np.float32), np.arange(10) % 5)
    task = Classification()
    assert len(feeding.streams(task, split, [GridCell(10, 0, {})], 0, (3,))) == 1
    with pytest.raises(UsageError, match=r'data.classes \(3,\) have no example among the 1 of seed'):
        feeding.streams(task, split, [GridCell(1, seed, {}) for seed in range(20)], 0, (3,))


# ---- rows, and numbers of a paper


@pytest.mark.parametrize(
    ('listed', 'message'),
    [
        (3, r'sweep\(arg\) must return rows, .*, got 3'),
        ('abc', r"sweep\(arg\) must return rows, .*, got 'abc'"),
        ({}, r'sweep\(arg\) must return rows, .*, got \{\}'),
        ([1, 2], r'row 1 of sweep\(arg\) is none that rows.axis or rows.choice makes: 1'),
        ([rows.Row({}, 3)], r'row 1 of sweep\(arg\) is none'),
        ([rows.Row({}, {'a': 1}), rows.Row({}, {1: 2})], r'row 2 of sweep\(arg\): fields and axes are text, got 1'),
        ([rows.Row({}, {'a': len})], r'row 1 of sweep\(arg\): a cannot be <built-in function len>'),
        ([rows.Row({}, {'a': (1.0, float('inf'))})], r'row 1 of sweep\(arg\): a cannot be \(1.0, inf\)'),
    ],
)
def test_a_sweep_gives_rows(listed, message):
    with pytest.raises(UsageError, match=message):
        rows.checked(listed)


def test_rows_may_have_all_that_configs_have():
    row = rows.Row({'x': 'a'}, {'data.augment': ({'kind': 'augment.flip'},), 'terms': ConfigDict({'a': 1}), 'b': None})
    assert rows.checked(iter([row])) == [row]


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ({'seed': 2**32}, 'seed of a row must be an integer from 0 to 4294967295 less seed, got 4294967296'),
        ({'seeds': 10**9}, 'seeds must be an integer from 1 to 100000'),
        ({'data': {'nonsense': 1}}, "unknown config field 'nonsense' in 'data.nonsense'"),
        ({'method': ['combined']}, r"unknown method \['combined'\] of a row"),
    ],
)
def test_a_row_is_checked_as_a_config_is(row, message):
    with pytest.raises(UsageError, match=message):
        expand.expand(TINY(), [rows.Row({'x': 1}, {'method': 'combined', **row})], Datasets())


def test_numbers_of_a_paper_are_of_axes_that_the_sweep_has(tmp_path):
    path = tmp_path / 'expected.json'
    path.write_text(
        '{"source": "S", "rows": [{"point": {"temperature": 4}, "metric": "accuracy", "value": 0.9, '
        '"checkpoint": "last", "certainty": "secondary"}]}'
    )
    config = changed(expected=str(path))
    assert collect.paper(config, ['temperature']).rows[0].value == 0.9
    with pytest.raises(
        UsageError, match=r"unknown axis 'temperature' in .*, row 1; there is: 'transfer_size', 'method'"
    ):
        collect.paper(config)
    for content in (b'\xff\xfe\x00', b'[' * 100_000):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r'expected\.json is not JSON'):
            collect.paper(config)
