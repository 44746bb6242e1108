"""From a teacher to a file: configs that could run, and a page that says what was measured."""

import json
from pathlib import Path

import pytest

from experiments import pages
from experiments.edge import config, edge
from kdjax.errors import UsageError
from kdjax.study.config import check

HERE = Path(__file__).resolve().parents[2] / 'experiments' / 'edge'
MEASURED = {'bytes': 4000, 'deflated': None, 'p50_ms': 0.02, 'p90_ms': 0.03, 'calls': 300, 'memory_bytes': None,
            'ram_bytes': 130, 'micro': '', 'processor': 'a processor'}  # fmt: skip
ENERGY = {'arithmetic': 10.0, 'low': 20.0, 'high': 20.0}
ROW = {
    'method': 'pruned, 8 bits',
    'format': 'c',
    'equal': False,
    'agreement': {'top1': 0.985},
    'scores': [0.9, 0.92, 0.94],
    'measured': MEASURED,
    'energy': ENERGY,
    'speed': 'not faster',
}


@pytest.mark.parametrize('task', config.TASKS)
def test_every_task_goes_from_soft_labels_to_zeros_to_bits(task):
    found = config.get_config(f'task={task},quick')
    check.check(found)
    assert found.methods[config.SMALL] == ('student', 'prune', 'quantize')
    assert found.fits.prune.sparsity == 0.5
    assert found.fits.quantize.change.kind == 'quantize'
    assert found.fits.student.steps == 20 < config.get_config(f'task={task}').fits.student.steps


def test_an_unknown_task_is_named():
    with pytest.raises(UsageError, match="unknown task 'camra'"):
        config.get_config('task=camra')


def test_the_page_is_that_of_the_results():
    """Where it is not: python experiments/edge/edge.py"""
    text, found = (HERE / 'README.md').read_text(), json.loads((HERE / 'results' / 'edge.json').read_text())
    assert pages.filled(text, edge.BEGIN, edge.content(found)) == text
    assert 'camera' in found['tasks']
    for one in found['tasks'].values():
        assert [row['method'] for row in one['rows'][:3]] == ['teacher', 'hard labels', 'soft labels']
        assert {len(row['scores']) for row in one['rows'][1:] if 'scores' in row} == {one['seeds']}


def test_a_row_says_what_is_not_equal_not_known_and_not_faster():
    teacher = ROW | {'method': 'teacher', 'format': 'litert', 'equal': True, 'scores': [0.96],
                     'energy': {'arithmetic': 1000.0, 'low': 1600.0, 'high': 4000.0}}  # fmt: skip
    one = {'rows': [teacher, ROW, {'format': 'litert-int8', 'why': "operator 'GELU' is in the way"}], 'seeds': 3,
           'score': {'title': 'accuracy'}, 'test_size': 500, 'seconds': 60.0, 'training_kwh': None}  # fmt: skip
    first, second = edge.table(one).rows
    assert first[2] == '96.00 ± 1.72 (examples)'
    assert first[-1] == '1'
    assert second[1] == 'C, int8 (NOT equal)'
    assert second[2].startswith('92.00 ± 4.97')
    assert second[4] == '–'
    assert second[-1] == '1/80 to 1/200'
    said = edge.remarks(one)
    assert "No LiteRT, int8 file: operator 'GELU' is in the way." in said
    assert any('98.5 % of decisions' in line for line in said)
    assert all('codecarbon' not in line for line in said)


@pytest.mark.slow
def test_the_whole_way_with_few_steps(tmp_path):
    pytest.importorskip('litert_converter', reason="LiteRT is not installed: pip install 'kdjax[litert]'")
    edge.main(['camera'], tmp_path, quick=True)
    rows = json.loads((tmp_path / 'edge.json').read_text())['tasks']['camera']['rows']
    assert [row['format'] for row in rows] == ['litert', 'litert', 'litert', 'litert-int8', 'c']
    assert rows[3]['measured']['bytes'] < rows[2]['measured']['bytes'] < rows[0]['measured']['bytes']
    assert len(rows[3]['scores']) == 2
