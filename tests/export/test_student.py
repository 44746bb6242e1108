"""A student that was trained, taken out of its run: it answers as the report says."""

import dataclasses
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import environment

import kdjax
from kdjax.data import digits
from kdjax.errors import UsageError
from kdjax.study import run
from kdjax.study.recipe import students

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.xdist_group('run')

FRESH = """
import sys, numpy, kdjax
from kdjax.data import digits
student = kdjax.load(sys.argv[1])
test = digits.digits().splits['test']
print(repr(float(numpy.float32((student.predict(test.inputs) == test.labels).mean()))))
"""


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('finished')
    config = f'--config={ROOT / "tests" / "configs" / "tiny.py"}'
    done = subprocess.run([sys.executable, str(ROOT / 'run.py'), config, f'--workdir={workdir}'], capture_output=True,
                          text=True, env=environment())  # fmt: skip
    assert done.returncode == 0, done.stderr
    return workdir


def test_an_exported_student_gives_the_accuracy_of_the_report_in_a_fresh_process(finished, tmp_path):
    student = kdjax.load(finished)
    assert (student.method, student.transfer_size, student.step) == ('combined', 50, 30)
    student.save(tmp_path / 'out')
    done = subprocess.run([sys.executable, '-c', FRESH, str(tmp_path / 'out')], capture_output=True, text=True,
                          env=environment() | {'PYTHONPATH': str(ROOT)}, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.float32(float(done.stdout)) == np.float32(student.about['metrics']['test']['accuracy'])
    assert 'accuracy' in (tmp_path / 'out' / 'MODEL_CARD.md').read_text()


def test_the_seed_is_the_best_on_validation_and_any_may_be_asked_for(finished):
    seeds = [kdjax.load(finished, 'hard labels', seed=seed) for seed in (0, 1)]
    scores = [one.about['metrics']['validation']['accuracy'] for one in seeds]
    assert kdjax.load(finished, 'hard labels').seed == int(np.argmax(scores))
    inputs = digits.digits().splits['test'].inputs[:3]
    assert not np.array_equal(seeds[0].logits(inputs), seeds[1].logits(inputs))


@pytest.mark.parametrize(
    ('asked', 'message'),
    [
        ({'method': 'combind'}, "unknown method 'combind'"),
        ({'transfer_size': 51}, r'transfer_size must be one of \[50\], got 51'),
        ({'seed': 2}, r'seed must be one of \[0, 1\], got 2'),
        ({'checkpoint': 'first'}, "unknown checkpoint 'first'"),
    ],
)
def test_what_is_not_there_is_named(finished, asked, message):
    with pytest.raises(UsageError, match=message):
        kdjax.load(finished, **asked)


def test_an_export_is_of_one_student(finished, tmp_path):
    folder = kdjax.load(finished, 'combined', seed=0).save(tmp_path / 'out')
    assert kdjax.load(folder, 'combined', seed=0, transfer_size=50).seed == 0
    for asked, said in (({'method': 'hard labels'}, "method is 'combined', got 'hard labels'"),
                        ({'seed': 1}, 'seed is 0, got 1'), ({'transfer_size': 7}, 'transfer_size is 50, got 7'),
                        ({'checkpoint': 'best'}, "checkpoint is 'last', got 'best'"),
                        ({'point': {'width': 4}}, 'width is None, got 4')):  # fmt: skip
        with pytest.raises(UsageError, match=f'is the export of one student, whose {said}; ask the workdir'):
            kdjax.load(folder, **asked)


def test_a_folder_without_a_run_and_a_damaged_export_are_refused(finished, tmp_path):
    with pytest.raises(UsageError, match='no finished run'):
        kdjax.load(tmp_path)
    folder = kdjax.load(finished).save(tmp_path / 'out')
    whole = bytearray((folder / 'student.safetensors').read_bytes())
    whole[-1] ^= 1
    (folder / 'student.safetensors').write_bytes(whole)
    with pytest.raises(UsageError, match='not as it was written'):
        kdjax.load(folder)


def test_what_a_run_says_of_its_students_may_be_lost(finished, tmp_path):
    copied = tmp_path / 'run'
    shutil.copytree(finished, copied)
    (lost,) = copied.glob('evaluate-*/students.json')
    lost.unlink()
    with pytest.raises(UsageError, match=r'students\.json .*(gone|damaged|No such file)'):
        kdjax.load(copied)


def test_the_command_writes_the_same_student(finished, tmp_path):
    config = f'--config={ROOT / "tests" / "configs" / "tiny.py"}'
    asked = ['--mode=export', '--method=hard labels', f'--workdir={finished}', f'--to={tmp_path / "out"}']
    done = subprocess.run([sys.executable, str(ROOT / 'run.py'), config, *asked], capture_output=True, text=True,
                          env=environment())  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"student = kdjax.load('{tmp_path / 'out'}')" in done.stdout
    inputs = digits.digits().splits['test'].inputs
    exported, trained = kdjax.load(tmp_path / 'out'), kdjax.load(finished, 'hard labels')
    np.testing.assert_array_equal(exported.logits(inputs), trained.logits(inputs))


def test_files_of_further_formats_say_what_the_report_says(finished, tmp_path):
    said = students.export(finished, '', 0, None, str(tmp_path / 'out'), 'stablehlo,torch')
    about = kdjax.load(tmp_path / 'out').about
    for name in ('stablehlo', 'torch'):
        told = about['files'][name]
        assert told['test']['accuracy'] == pytest.approx(about['metrics']['test']['accuracy'])
        assert f'{name}: {told["file"]}, {told["bytes"] / 1024:.1f} kB, accuracy' in said
    with pytest.raises(UsageError, match="unknown format 'tflite'"):
        students.export(finished, '', 0, None, str(tmp_path / 'none'), 'tflite')
    assert not (tmp_path / 'none').exists()


def test_data_that_have_changed_judge_no_file(finished):
    student = kdjax.load(finished)
    other = {**student.about, 'data': {**student.about['data'], 'checksum': '0'}}
    with pytest.raises(UsageError, match='not those that the student was trained on'):
        students.dataset_of(dataclasses.replace(student, about=other))


def test_evaluation_keeps_what_teacher_and_students_answer(finished):
    (path,) = finished.glob('evaluate-*/predictions.npz')
    kept, test = np.load(path), digits.digits().splits['test']
    np.testing.assert_array_equal(kept['label'], test.labels)
    np.testing.assert_array_equal(kept['id'], np.arange(test.size))
    assert {'teacher', 'combined/50', 'hard labels/50', 'soft, then hard/50'} <= set(kept)
    np.testing.assert_allclose(kept['combined/50'], kdjax.load(finished).logits(test.inputs), atol=1e-5)


def test_a_fit_goes_on_from_an_exported_student(finished, tmp_path):
    """At a rate of 0 it stays what it was, so every method starts there; a teacher's weights may be such a folder."""
    student = kdjax.load(finished, 'combined')
    config = tiny()
    config.student.pretrained = config.teacher.weights = str(student.save(tmp_path / 'out'))
    config.teacher.args.widths = (8,)
    for fit in config.fits.values():
        fit.steps, fit.learning_rate = 10, 0.0
    run.run(config.lock(), tmp_path / 'run', 'command')
    inputs = digits.digits().splits['test'].inputs
    np.testing.assert_array_equal(kdjax.load(tmp_path / 'run', 'hard labels').logits(inputs), student.logits(inputs))
    (place,) = (tmp_path / 'run').glob('evaluate-*/predictions.npz')
    np.testing.assert_allclose(np.load(place)['teacher'], student.logits(inputs), atol=1e-5)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'pretrained': 'nowhere'}, "student.pretrained: no file of weights.*'nowhere'"),
        ({'start': {'head': 'head'}}, 'set one of them'),
        ({'args': {'widths': (9,)}}, r'another network.*\(64, 8\)'),
    ],
)
def test_a_student_to_start_from_that_does_not_fit_is_named(finished, tmp_path, change, message):
    config = tiny()
    config.student.pretrained = str(kdjax.load(finished).save(tmp_path / 'out'))
    with config.ignore_type():
        config.student.update(change)
    with pytest.raises(UsageError, match=message):
        run.show_plan(config.lock(), tmp_path)


def tiny():
    return runpy.run_path(str(ROOT / 'tests' / 'configs' / 'tiny.py'))['get_config']().unlock()
