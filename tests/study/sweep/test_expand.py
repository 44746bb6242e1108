"""What a sweep means: runs, the cells that they share, and the structures that train as one program."""

import runpy
from pathlib import Path

import pytest

from kdjax.errors import UsageError
from kdjax.study.recipe.context import Datasets
from kdjax.study.sweep import expand, rows

TINY = runpy.run_path(str(Path(__file__).resolve().parents[2] / 'configs' / 'tiny_sweep.py'))
CONFIG = TINY['get_config']()


def expanded(*axes, config=CONFIG):
    return expand.expand(config, rows.product(*axes))


def test_rows_without_seeds_get_those_of_the_config():
    found = expand.expand(CONFIG, TINY['sweep']())
    assert len(found.runs) == 7 * 2
    assert {run.seed for run in found.runs} == {0, 1}
    assert found.axes == ('method', 'temperature')


def test_a_cell_is_shared_by_all_rows_that_agree_on_what_it_reads():
    """Hard labels know no temperature, and of 'soft, then hard' only what comes after is another with another rate."""
    methods = rows.axis('method', 'hard labels', 'soft, then hard')
    found = expanded(
        methods, rows.axis('terms.soft.temperature', 2, 4), rows.axis('fits.finetune.learning_rate', 1e-3, 1e-2)
    )
    by_fit = {}
    for cell in found.cells.values():
        by_fit.setdefault(cell.inputs.chain, []).append(cell)
    assert {chain: len(cells) for chain, cells in by_fit.items()} == {
        ('baseline',): 2, ('distill',): 2 * 2, ('distill', 'finetune'): 2 * 2 * 2,
    }  # fmt: skip
    assert len(found.runs) == 2 * 2 * 2 * 2


def cells(*axes):
    return list(expanded(rows.axis('method', 'combined'), *axes).cells.values())


FLOWING = [
    ('terms.soft.temperature', 2, 4),
    ('fits.combined.weights.soft', 0.5, 1.0),
    ('fits.combined.learning_rate', 1e-3, 1e-2),
    ('data.transfer_sizes', (50,), (100,)),
    ('seed', 3, 4),
]


@pytest.mark.parametrize('axis', FLOWING, ids=lambda axis: axis[0])
def test_what_flows_through_a_program_makes_other_cells_of_one_structure(axis):
    found = cells(rows.axis(*axis))
    assert len({cell.key for cell in found}) == len(found) > 1
    assert len({cell.structure for cell in found}) == 1


BUILT = [
    ('student.args.widths', (4,), (8,)),
    ('fits.combined.steps', 30, 40),
    ('fits.combined.batch_size', 32, 16),
    ('terms.soft.form', 'kl', 'kl_mean'),
    ('fits.combined.optim.schedule', 'cosine', 'constant'),
    ('teacher.args.widths', (32,), (16,)),
    ('run.precision', 'float32', 'bfloat16'),
    ('data.label_noise', 0.0, 0.2),
    ('data.classes', (), (1, 2)),
    ('data.classes', (), (1, 2)),
]


@pytest.mark.parametrize('axis', BUILT, ids=lambda axis: axis[0])
def test_what_chooses_a_program_makes_another_structure(axis):
    assert len({cell.structure for cell in cells(rows.axis(*axis))}) == 2


def test_knobs_are_those_of_the_row_and_a_default_is_not_taken_from_a_neighbour():
    kind = {'kind': 'hinton.SoftTargets', 'form': 'kl'}
    found = cells(
        rows.choice('soft', {'plain': {'terms.soft': kind}, 'hot': {'terms.soft': {**kind, 'temperature': 9.0}}})
    )
    temperatures = {cell.drawn.candidate['soft.temperature'] for cell in found}
    assert temperatures == {4.0, 9.0}
    assert len({cell.structure for cell in found}) == 1


def test_students_share_their_teacher_and_teachers_do_not_know_their_students():
    widths = rows.axis('student.args.widths', (4,), (8,))
    found = expanded(rows.axis('method', 'combined', 'soft, then hard'), widths)
    assert sorted(stage.name for stage in found.stages.values()) == ['cache', 'examine', 'teacher']
    other = expanded(rows.axis('method', 'combined'), rows.axis('teacher.args.widths', (32,), (16,)))
    assert sorted(stage.name for stage in other.stages.values()) == [
        'cache',
        'cache',
        'examine',
        'examine',
        'teacher',
        'teacher',
    ]


def test_hard_labels_alone_need_no_teacher():
    assert expanded(rows.axis('method', 'hard labels')).stages == {}


def test_one_cache_keeps_what_any_run_reads():
    hint = {'kind': 'fitnets.Hint', 'layer': 'hidden1'}
    both = rows.choice('technique', {
        'soft': {}, 'hint': {'terms.hint': hint, 'fits.combined.weights.hint': 1.0},
    })  # fmt: skip
    found = expanded(rows.axis('method', 'combined'), both)
    (cache,) = [stage for stage in found.stages.values() if stage.name == 'cache']
    assert cache.reads['taps'] == ['hidden1']


def test_a_later_fit_starts_from_the_cell_of_its_own_seed_and_knobs():
    found = expanded(rows.axis('method', 'soft, then hard'), rows.axis('terms.soft.temperature', 2, 4))
    for run in found.runs:
        before, after = run.cells
        assert after.before == before.key
        assert before.drawn.seed == after.drawn.seed == run.seed
        assert before.drawn.candidate['soft.temperature'] == run.point['temperature']


def test_structures_come_after_those_that_they_start_from():
    found, seen = expand.expand(CONFIG, TINY['sweep']()), set()
    for own in found.structures().values():
        assert all(cell.before is None or cell.before in seen for cell in own)
        seen.update(cell.key for cell in own)
    assert seen == set(found.cells)


METHOD = rows.axis('method', 'combined')
WRONG = [
    ([], 'the sweep has no rows'),
    (
        rows.axis('method', 'combind'),
        "unknown method 'combind' of a row; there is: 'combined'",
    ),
    (rows.axis('terms.soft.temperature', 2), "the row names no method; give the sweep an axis 'method' of"),
    (
        rows.product(METHOD, rows.axis('terms.soft.temperature', 0)),
        "method combined, temperature 0: fit 'combined': temperature of SoftTargets must be > 0",
    ),
    (
        rows.product(METHOD, rows.axis('terms.soft.temperature', (1.0, 2.0))),
        r'terms\.soft\.temperature must be of type float, got \(1\.0, 2\.0\)',
    ),
    (rows.product(METHOD, rows.axis('data.transfer_sizes', (50, 100))), 'data.transfer_sizes has several values'),
    (
        rows.product(METHOD, rows.axis('seed', -1)),
        'seed of a row must be an integer from 0 to 4294967295 less seed, got -1',
    ),
    (rows.product(METHOD, rows.axis('student.nets', 'mlp.mlp')), "unknown config field 'nets'"),
]


@pytest.mark.parametrize(('listed', 'message'), WRONG)
def test_a_row_that_cannot_be_is_refused_and_named(listed, message):
    with pytest.raises(UsageError, match=message):
        expand.expand(CONFIG, listed)


SHAPES = [
    (rows.axis('data.transfer_sizes', (50,), (5000,)), 'fit .combined.: transfer size 5000 must be in 1 to 1000'),
    (rows.choice('technique', {'hint': {
        'terms.hint': {'kind': 'fitnets.Hint', 'layer': 'stage1'},
        'fits.combined.weights.hint': 1.0,
    }}), "method combined, technique hint, fit 'combined': unknown tap 'stage1' of the student"),
]  # fmt: skip


@pytest.mark.parametrize(('axis', 'message'), SHAPES)
def test_what_shapes_forbid_is_met_before_anything_trains_and_named(axis, message):
    found = expand.expand(CONFIG, rows.product(METHOD, axis))
    with pytest.raises(UsageError, match=message):
        expand.check_shapes(found, Datasets())


def test_every_structure_and_teacher_has_a_cost():
    found = expand.expand(CONFIG, TINY['sweep']())
    costs = expand.check_shapes(found, Datasets())
    teachers = {key for key, stage in found.stages.items() if stage.name == 'teacher'}
    assert set(costs) == set(found.structures()) | teachers
    assert all(cost.flops > 0 and cost.moved > cost.bytes > 0 for cost in costs.values())
