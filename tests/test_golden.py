"""Golden vectors: losses, gradients and outputs of other projects' code, in float64.

`pytest tests/test_golden.py --golden DIR` runs the records of DIR; the table at the end says what is covered.
"""

import pathlib

import golden
import numpy as np
import pytest
from golden_map import MAPPINGS


def pytest_generate_tests(metafunc):
    if 'record' in metafunc.fixturenames:
        records = golden.records(metafunc.config.getoption('--golden'))
        covered = [pytest.param(record, id=record['id']) for record in records if record['technique'] in MAPPINGS]
        absent = pytest.mark.skip(
            'shared data is not here: no golden vectors of a covered technique; set KDJAX_SHARED or pass --golden DIR'
        )
        metafunc.parametrize('record', covered or [pytest.param(None, marks=absent, id='none')])


def test_we_agree_with(record, pytestconfig, record_property):
    with np.load(pathlib.Path(pytestconfig.getoption('--golden')) / record['file']) as file:
        arrays = dict(file)
    try:
        wrong = golden.disagreements(MAPPINGS[record['technique']], record, arrays)
    except golden.Refused as refusal:
        record_property('golden', (record['id'], f'{refusal}'))
        return
    record_property('golden', (record['id'], 'failed' if wrong else 'matched'))
    assert not wrong, f'{golden.peer_of(record)} {record["hyperparams"]}: {"; ".join(wrong)}'


# ---- the comparison itself, on a record made here


RECORD = {
    'id': 'made-here',
    'technique': 'kd',
    'peer': {'repo': 'HobbitLong/RepDistiller', 'object': 'DistillKL'},
    'hyperparams': {'T': 2.0},
    'grad_wrt': ['student_logits'],
    'tolerance': {'rtol': 1e-9, 'atol': 1e-12},
}


def made_here():
    student, teacher = np.array([[1.0, 3.0], [0.0, 2.0]]), np.array([[0.0, 1.0], [4.0, 1.0]])
    p, q = (1 / (1 + np.exp(np.diff(logits[:, ::-1]) / 2)) for logits in (student, teacher))  # of the second class
    values = 4 * (q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p)))[:, 0]
    inputs = {'in/student_logits': student, 'in/teacher_logits': teacher}
    gradient = (p - q) * [-1, 1]  # T (p - q), over a batch of T = 2
    return {**inputs, 'loss': values.mean(), 'grad/student_logits': gradient, 'out/per_example': values}


def test_a_record_that_is_right_matches():
    assert golden.disagreements(MAPPINGS['kd'], RECORD, made_here()) == []


@pytest.mark.parametrize('name', ['loss', 'grad/student_logits', 'out/per_example'])
@pytest.mark.parametrize('wrong', [1e-8, np.nan])
def test_a_number_that_is_off_is_named(name, wrong):
    arrays = made_here()
    arrays[name] = arrays[name] + wrong
    (line,) = golden.disagreements(MAPPINGS['kd'], RECORD, arrays)
    assert line.startswith(f'{name}: off by')


def test_what_is_not_answered_is_named():
    arrays = {**made_here(), 'out/other': np.zeros(2), 'out/elementwise': np.zeros((2, 2))}
    assert golden.disagreements(MAPPINGS['kd'], RECORD, arrays) == ['out/other: no answer']


def test_the_table_counts_by_technique():
    records = [{'id': name, 'technique': name[0]} for name in ('a1', 'a2', 'b1', 'b2', 'c1')]
    lines = golden.coverage(records, {'a1': 'matched', 'a2': 'failed', 'b1': 'matched', 'b2': 'the peer has a bug'})
    assert [line.split() for line in lines[1:]] == [
        ['a', '1', '1'], ['b', '1', '1'], ['c', '1'], ['all', '2', '1', '1', '1'],
        ['refused', 'b2:', 'the', 'peer', 'has', 'a', 'bug'],
    ]  # fmt: skip
