"""kdjax's side of the comparison of speed: it does the PyTorch loop's work, and the page says what was measured."""

import numpy as np
import pytest

from configs import base
from experiments.speed import cases, digits, kdjax_loop, publish
from kdjax.errors import UsageError

THIN = cases.Case(
    'thin', cases.Network('resnet_cifar.resnet', {'depth': 8, 'widths': (2, 2, 3, 4)}),
    cases.Network('resnet_cifar.resnet', {'depth': 8, 'widths': (2, 2, 2, 3)}), 10, (8, 8, 3), 32, 'kd',
)  # fmt: skip


def test_it_has_the_variants_that_take_part():
    laid_out = (*cases.LAYOUTS, *(f'bfloat16 {layout}' for layout in cases.LAYOUTS))
    assert tuple(kdjax_loop.VARIANTS) == (*cases.VARIANTS, *laid_out)
    with pytest.raises(UsageError, match="unknown variant 'tuned' of the kdjax loop"):
        kdjax_loop.build(THIN, 'tuned')
    with pytest.raises(UsageError, match="keeps logits, and technique 'at' reads features"):
        kdjax_loop.build(THIN._replace(technique='at'), 'cached')


@pytest.mark.parametrize('technique', ['kd', 'dist'])
def test_losses_are_those_of_the_pytorch_loop(technique, tmp_path):
    pytest.importorskip('torch', reason='PyTorch is not installed: pip install "kdjax[bench]"')
    from experiments.speed import torch_loop, torch_nets

    case, weights = THIN._replace(technique=technique), tmp_path / 'weights.safetensors'
    torch_nets.save(weights, case)
    theirs = torch_loop.build(case, 'plain', weights).round(4)
    ours = kdjax_loop.build(case, 'plain', weights).round(4)
    np.testing.assert_allclose(ours, theirs, rtol=2e-3)
    np.testing.assert_allclose(kdjax_loop.build(case, 'cached', weights).round(4), ours, rtol=1e-5)


def test_a_grid_trains_students_at_temperatures_of_their_own():
    loop = kdjax_loop.build(THIN._replace(students=4), 'plain')
    loop.round(2)
    kernels = np.asarray(loop.state.params['student']['head']['kernel'])
    assert len(kernels) == 4
    assert all(np.abs(kernels[0] - other).max() > 0 for other in kernels[1:])
    assert tuple(loop.knobs['terms']['hinton.SoftTargets']['temperature']) == cases.TEMPERATURES[4]


def test_layouts_train_alike():
    losses = {layout: kdjax_loop.build(THIN._replace(students=4), layout).round(3) for layout in cases.LAYOUTS}
    for found in losses.values():
        np.testing.assert_allclose(found, losses['map'], rtol=1e-4)


def test_contrast_knows_the_labels_of_the_whole_training_set():
    loop = kdjax_loop.build(THIN._replace(technique='crd'), 'plain')
    labels = np.asarray(loop.state.memory['crd.ContrastiveRepresentation']['labels'])
    np.testing.assert_array_equal(labels[0], cases.pool(THIN).known)


@pytest.mark.parametrize('runs', cases.RUNS)
def test_the_sweep_in_pytorch_is_that_of_the_config(runs):
    torch_digits = pytest.importorskip('experiments.speed.torch_digits', reason='PyTorch is not installed')
    config = digits.get_config(f'runs={runs}')
    temperatures, seeds = cases.RUNS[runs]
    assert len(digits.sweep(f'runs={runs}')) == len(temperatures)
    assert config.seeds == seeds
    assert len(temperatures) * seeds == runs
    assert (config.teacher.args.widths, config.student.args.widths) == (torch_digits.TEACHER, torch_digits.STUDENT)
    for told, fit in ((torch_digits.TAUGHT, config.teacher.fit), (torch_digits.LEARNS, config.fits.combined)):
        assert told == {'steps': fit.steps, 'batch': fit.batch_size, 'rate': fit.learning_rate,
                        'decay': fit.weight_decay}  # fmt: skip
        assert fit.optim.to_dict() == base.fit(hard=1.0).optim.to_dict()
    weights = config.fits.combined.weights
    assert (weights.hard, weights.soft) == (torch_digits.HARD, torch_digits.SOFT)
    assert config.data.transfer_sizes[0] == torch_digits.TRANSFER


def test_an_unknown_number_of_runs_is_told_the_known_ones():
    with pytest.raises(UsageError, match="unknown number of runs '7'; there is: '100', '20'"):
        digits.get_config('runs=7')


def test_goals_are_judged_case_by_case():
    def case(ratio):
        return {'contenders': {'kdjax plain': {'ratio': ratio}}}

    names = [f'{pair}:kd' for pair in publish.PAIRS]
    found = {'cases': {name: case(ratio) for name, ratio in zip(names, (1.2, 0.9, 1.0), strict=True)}}
    found['cases'][names[0]]['contenders'] |= {
        'kdjax bfloat16 teacher': {'ratio': 1.4}, 'kdjax cached': {'ratio': 1.9}
    }  # fmt: skip
    for name in names[1:]:
        found['cases'][name]['contenders'] |= {
            'kdjax bfloat16 teacher': {'ratio': 1.5}, 'kdjax cached': {'ratio': 1.9}
        }  # fmt: skip
    sweeps = {'cells': {'20': {'kdjax': 2.0, 'loop': 12.0, 'processes': 30.0}}}
    start = {'seconds': {'a pair': {'torch': 4.0, 'kdjax, warm': 5.0, 'kdjax, cold': 20.0}}}
    rows = {row[0]: row[1:] for row in publish.goals(found, sweeps, start).rows}
    assert rows['a warm start to the first step, against PyTorch'] == ('0.9x', '0.80x', 'not met')
    assert rows['a step in float32, against plain PyTorch'] == ('1.0x', '1.20x, 0.90x, 1.00x', 'met in 2 of 3')
    assert rows['the same with the teacher in bfloat16'][-1] == 'met'
    assert rows['a step with cached logits, against plain PyTorch'][-1] == 'not met'
    assert rows['sweep of 20 on digits, against one PyTorch process'] == ('5.0x', '6.00x', 'met')
    assert rows['sweep of 20 on digits, against a PyTorch process each'] == ('20.0x', '15.00x', 'not met')


def test_an_accelerator_is_shown_by_pair_with_its_share_of_the_limit_of_the_precision():
    took = {
        'student_images_per_s': 2.56e5,
        'ratio': 2.5,
        'median': 1e-3,
        'build_seconds': 3.0,
        'first_step_seconds': 1.0,
    }
    grid = {'case': {'students': 4}, 'step_gflop': 100.0, 'contenders': {'kdjax map': took, 'kdjax bfloat16 map': took}}
    device = {
        'machine': {'devices': '1 x fast'}, 'limits': {'float32': 4e5, 'bfloat16': 8e5},
        'cases': {f'{publish.PAIRS[1]}:kd:4': grid},
    }  # fmt: skip
    (table,) = publish.accelerated(device)
    assert '1 x fast; TFLOP/s of large products: 400 in float32, 800 in bfloat16' in table.caption
    assert table.rows == (
        ('4', 'kdjax map', '256000', '2.50', '25.0', '4.0'),
        ('4', 'kdjax bfloat16 map', '256000', '2.50', '12.5', '4.0'),
    )
