"""The comparison of speed: what is compared is what the project has elsewhere, and the arithmetic of turns is right."""

import io
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs import cifar
from configs.presets import attention, crd, dist, dkd, fitnets, kd, reviewkd, rkd, similarity
from experiments.speed import cases, measure, worker
from kdjax.errors import UsageError
from kdjax.resolve import construct

ROOT = Path(__file__).resolve().parents[2]
CASES = {case.name: case for case in cases.cases()}
CASE = CASES['mlp1200-mlp800:kd:4']
PRESETS = {
    'kd': kd.PRESET, 'at': attention.PRESET, 'sp': similarity.PRESET, 'rkd': rkd.PRESET, 'crd': crd.PRESET,
    'dkd': dkd.PRESET, 'review': reviewkd.PRESET, 'fitnet': fitnets.PRESET, 'dist': dist.PRESET,
}  # fmt: skip
OF_SMALL_DATA = {'examples', 'negatives', 'schedules'}  # fields in which presets are meant for a small job


def test_names_say_what_is_compared():
    assert len(CASES) == len(cases.cases()) == 20
    for name, case in CASES.items():
        pair, technique, *students = name.split(':')
        assert (technique, [str(case.students)]) == (case.technique, students or ['1'])
        if pair in cases.PAIRS:
            assert [(side.net, dict(side.args)) for side in cifar.sides(pair)] == [case.teacher, case.student]


@pytest.mark.parametrize('technique', cases.OBJECTIVES)
def test_terms_are_those_of_the_presets(technique):
    terms = cases.OBJECTIVES[technique]
    for term in terms:
        construct('kdjax.techniques', term.kind, dict(term.args), 'term')
    found = PRESETS[technique]
    if technique == 'fitnet':
        assert [(term.kind, term.weight) for term in terms] == [
            ('cross_entropy.CrossEntropy', 1),
            ('fitnets.Hint', 100),
        ]
        return
    assert {term.kind: term.weight for term in terms} == {
        spec['kind']: found.chain[0][name] for name, spec in found.terms.items()
    }
    for spec, term in zip(found.terms.values(), terms, strict=True):
        shared = {field for field in spec if field not in {'kind', *OF_SMALL_DATA}}
        assert shared == set(term.args) - OF_SMALL_DATA
        assert all(np.array_equal(np.ravel(spec[field]), np.ravel(term.args[field])) for field in shared)


def test_students_of_a_grid_differ_in_temperature_alone():
    found = [cases.objective(CASE, student) for student in range(4)]
    assert [soft.args['temperature'] for _, soft in found] == list(cases.TEMPERATURES[4])
    assert all(hard == cases.OBJECTIVES['kd'][0] for hard, _ in found)
    assert cases.objective(CASES['mlp1200-mlp800:kd'], 0) == cases.OBJECTIVES['kd']


def test_the_data_are_the_same_every_time():
    one, again = cases.pool(CASE), cases.pool(CASE)
    np.testing.assert_array_equal(one.images, again.images)
    assert one.images.shape == (512, 28, 28)
    np.testing.assert_array_equal(one.known[one.ids], one.labels)
    assert len(set(one.ids)) == cases.POOL
    assert max(one.ids) < cases.EXAMPLES
    assert [place for part in cases.batches(CASE) for place in range(512)[part]] == list(range(512))


def test_steps_have_the_known_number_of_operations():
    """3.23 GFLOP an image from resnet32x4 to resnet8x4, counted by hand."""
    single = CASES['resnet32x4-resnet8x4:kd']
    assert cases.step_flops(single) / single.batch == pytest.approx(3.23e9, rel=2e-3)
    student = cases.forward_flops(CASE.student, CASE.shape, CASE.classes)
    assert student == 2 * (784 * 800 + 800 * 800 + 800 * 10)
    grid, alone = CASE, CASES['mlp1200-mlp800:kd']
    assert cases.step_flops(grid) - cases.step_flops(alone) == 3 * 3 * 128 * student


def test_a_cache_of_logits_is_offered_where_it_is_enough():
    for case in CASES.values():
        offered = cases.contenders(case)
        assert offered[0] == ('torch', 'plain')
        assert (('torch', 'cached') in offered) == (case.technique == 'kd' and case.students == 1)
        assert (('torch', 'shared') in offered) == (case.students > 1)
        assert {'torch', 'kdjax'} == {side for side, _ in offered}


def test_on_an_accelerator_grids_are_large_and_laid_out_in_every_way():
    found = cases.accelerated()
    assert [case.students for case in found] == [1, 4, 16, 64] * 3
    for case in found:
        assert worker.found(case.name) == case
        assert len({str(cases.objective(case, student)) for student in range(case.students)}) == case.students
        offered = cases.accelerated_contenders(case)
        assert offered[0] == ('torch', 'compiled' if case.students == 1 else 'compiled shared')
        layouts = {1: 2, 4: 6}.get(case.students, 4)  # of each precision; a list of many students takes long to compile
        assert len([variant for side, variant in offered if side == 'kdjax']) == layouts


class Fake:
    """A contender whose rounds take what is said."""

    def __init__(self, name, walls, turns):
        self.name, self.walls, self.turns = name, itertools.chain([99], itertools.cycle(walls)), turns
        self.pid = os.getpid()
        self.ready = {'ready': True, 'build_seconds': 5.0, 'first_step_seconds': 2.0, 'losses': [3.0]}

    def __enter__(self):
        self.turns.append(f'+{self.name}')
        return self

    def __exit__(self, *_):
        self.turns.append(f'-{self.name}')

    def round(self, steps):
        self.turns.append(self.name)
        return {'wall': next(self.walls), 'cpu': 4.0, 'losses': [2.0] * steps, 'peak_mb': 7.0}


def run(walls, rounds=3, steps=2):
    turns = []
    starts = {name: lambda name=name: Fake(name, walls[name], turns) for name in walls}
    return measure.interleaved(CASE, starts, rounds, steps), ''.join(turns)


def test_ratios_are_of_the_same_turn():
    found, _ = run({'a': [2.0, 4.0, 8.0], 'b': [1.0, 4.0, 2.0]})
    assert found['a']['seconds'] == [1.0, 2.0, 4.0]
    assert found['b']['ratios'] == [2.0, 1.0, 4.0]
    assert (found['a']['ratio'], found['b']['ratio']) == (1.0, 2.0)
    assert [found['b'][what] for what in ('median', 'min', 'max')] == [1.0, 0.5, 2.0]
    assert found['b']['images_per_s'] == 128
    assert found['b']['student_images_per_s'] == 4 * 128
    assert found['b']['cpu_per_step'] == 2.0
    assert found['b']['losses'] == [3.0] + [2.0] * (measure.WARM_UP + 3 * 2)
    assert [found['b'][what] for what in ('peak_mb', 'build_seconds', 'first_step_seconds')] == [7.0, 5.0, 2.0]
    assert len(found['b']['foreign']) == len(found['b']['noisy']) == 3


def test_contenders_take_turns_at_most_four_alive():
    found, turns = run({name: [1.0] for name in 'abcdef'}, rounds=2)
    assert turns == '+a+b+c+d' + 'abcd' + 'abcd' * 2 + '-d-c-b-a' + '+a+e+f' + 'aef' + 'aef' * 2 + '-f-e-a'
    assert list(found) == list('abcdef')
    assert run({'a': [1.0]}, rounds=1)[1] == '+aaa-a'


def test_each_group_is_compared_with_the_first_in_its_own_turns():
    turns = []
    speeds = iter([1.0, 3.0])
    starts = {name: lambda name=name: Fake(name, [next(speeds)] if name == 'a' else [1.0], turns) for name in 'abcde'}
    found = measure.interleaved(CASE, starts, 1, 1)
    assert [found[name]['ratio'] for name in 'abcde'] == [1, 1, 1, 1, 3]


def test_what_others_use_is_what_is_left_of_the_whole():
    before = measure.foreign_seconds([])
    if before is None:
        pytest.skip('no /proc/stat here')
    assert 0 <= measure.foreign_seconds([os.getpid()]) <= measure.foreign_seconds([])
    assert measure.foreign_seconds([2**30]) is None


def test_a_process_speaks_in_lines_of_json():
    program = 'import sys, json\nprint("{}", flush=True)\nfor line in sys.stdin: print(line, end="", flush=True)'
    with measure.Worker([sys.executable, '-c', program]) as peer:
        assert (peer.ready, peer.round(3)) == ({}, {'steps': 3})
        process = peer._process
    assert process.returncode == 0


def test_a_process_that_ends_early_is_an_error():
    with pytest.raises(UsageError, match='ended with code 3'):
        measure.Worker([sys.executable, '-c', 'raise SystemExit(3)'])
    with measure.Worker([sys.executable, '-c', 'print("{}")']) as peer, pytest.raises(UsageError, match='code 0'):
        peer.round(1)


def test_a_worker_answers_rounds():
    class Loop:
        def round(self, steps):
            return [0.5] * steps

    answers = io.StringIO()
    worker.serve(Loop, ['{"steps": 2}\n'], answers)
    ready, answer = map(json.loads, answers.getvalue().splitlines())
    assert ready.pop('ready') is True
    assert set(ready) == {'build_seconds', 'first_step_seconds', 'losses'}
    assert answer['losses'] == [0.5, 0.5]
    assert all(math.isfinite(answer[what]) for what in ('wall', 'cpu'))
    assert answer['peak_mb'] > 10


def test_memory_is_that_of_the_process_alone():
    """And not of this one, which started it and has far more."""
    program = 'from experiments.speed import worker; print(worker.peak_mb())'
    own = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 5 < float(own) < worker.peak_mb() - 50


def test_what_is_not_there_is_said(monkeypatch):
    with pytest.raises(UsageError, match="unknown case 'mlp'; there is: 'mlp"):
        worker.found('mlp')
    with pytest.raises(UsageError, match="unknown side 'tf'; there is: "):
        worker.builder('tf', 2)
    monkeypatch.setitem(worker.LOOPS, 'kdjax', 'experiments.speed.nowhere')
    with pytest.raises(UsageError, match=r'needs the module experiments\.speed\.nowhere'):
        worker.builder('kdjax', 2)


def test_a_file_of_results_grows_by_what_is_missing(tmp_path, monkeypatch):
    pytest.importorskip('torch', reason='PyTorch is not installed: pip install "kdjax[bench]"')
    path, turns = tmp_path / 'results' / 'speed.json', []
    monkeypatch.setattr(measure, '_starting', lambda variant, *words: lambda: Fake(' '.join(words[1:4]), [1.0], turns))
    monkeypatch.setattr(measure, 'limits', lambda threads: {'torch': 100.0 * threads})
    for chosen in ('mlp1200-mlp800:kd', 'mlp1200-mlp800:kd', 'mlp1200-mlp800:kd,mlp1200-mlp800:kd:4'):
        monkeypatch.setattr(sys, 'argv', ['measure.py', f'--cases={chosen}', '--rounds=2', f'--out={path}'])
        measure.main()
    found = json.loads(path.read_text())
    assert list(found['cases']) == ['mlp1200-mlp800:kd', 'mlp1200-mlp800:kd:4']
    assert turns.count('+torch mlp1200-mlp800:kd tuned') == 1
    single = found['cases']['mlp1200-mlp800:kd']
    assert list(single['contenders']) == ['torch plain', 'torch tuned', 'torch cached', 'torch tuned cached',
                                          *(f'kdjax {variant}' for variant in cases.VARIANTS
                                            if variant != cases.WITHOUT)]  # fmt: skip
    assert single['limit_gflops'] == {'torch': 200.0}
    assert {'jax', 'jaxlib', 'torch', 'numpy', 'kdjax'} <= set(found['versions'])
    monkeypatch.setattr(sys, 'argv', ['measure.py', '--cases=mlp', f'--out={path}'])
    with pytest.raises(SystemExit, match="unknown case 'mlp'"):
        measure.main()


def test_only_who_does_without_the_library_is_told_so(monkeypatch):
    started = []
    monkeypatch.setattr(measure, 'Worker', lambda words: started.append(list(words)))
    measure._starting('plain', 'worker.py')()
    measure._starting(cases.WITHOUT, 'worker.py')()
    assert started == [[sys.executable, 'worker.py'], ['env', 'KDJAX_CONVOLUTIONS=xla', sys.executable, 'worker.py']]


def test_a_killed_measurement_goes_on_with_what_is_missing(tmp_path):
    path, settings = tmp_path / 'speed.json', {'rounds': 5, 'threads': 2}
    assert measure.opened(path, settings) == {**settings, 'cases': {}}
    path.write_text(json.dumps({**settings, 'cases': {'one': {}}}))
    assert measure.opened(path, settings)['cases'] == {'one': {}}
    with pytest.raises(UsageError, match='measured with rounds 5, not 6'):
        measure.opened(path, {**settings, 'rounds': 6})
