"""The command itself, in processes of its own: done once, resumed after anything, one line for every error."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import environment

pytestmark = pytest.mark.xdist_group('run')  # its tests share what takes long to make
ROOT = Path(__file__).resolve().parents[2]
TINY = f'--config={ROOT / "tests" / "configs" / "tiny.py"}'


# Warnings are errors, but for the one that ml_collections gives when it loads a config file.
STRICT = ('-W', 'error', '-W', 'ignore:the load_module() method is deprecated:DeprecationWarning')


def command(workdir, *flags, config=TINY):
    return [sys.executable, *STRICT, str(ROOT / 'run.py'), config, f'--workdir={workdir}', *flags]


def run(workdir, *flags, config=TINY):
    return subprocess.run(command(workdir, *flags, config=config), capture_output=True, text=True, env=environment())


def stages(workdir):
    return {path.parent.name: json.loads(path.read_text()) for path in workdir.glob('*/artifact.json')}


def numbers(workdir):
    """Everything a run found, without times and latencies, which no two runs share."""
    found = {}
    for name, artifact in stages(workdir).items():
        result = artifact['result']
        for cost in (result.get('cost', {}), result.get('teacher', {})):
            cost.pop('latency_ms', None)
        found[name] = result
    return found


def files(workdir, pattern):
    return {str(path.relative_to(workdir)): path.read_bytes() for path in workdir.glob(pattern) if path.is_file()}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('finished')
    done = run(workdir)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_the_main_job_leaves_its_artifacts_and_says_what_it_found(finished):
    workdir, done = finished
    names = {name.split('-')[0] for name in stages(workdir)}
    assert names == {'teacher', 'cache', 'baseline', 'distill', 'distill+finetune', 'combined', 'evaluate', 'report'}
    summary = json.loads((workdir / 'report' / 'summary.json').read_text())
    assert {row['name'] for row in summary['rows']} == {'hard labels', 'combined', 'soft, then hard'}
    assert all(row['n'] == 2 and row['transfer_size'] == 50 for row in summary['rows'])
    assert all(row['cost']['params'] == 610 for row in summary['rows'])
    assert all(row['best']['accuracy']['n'] == 2 and row['best_step'] <= 30 for row in summary['rows'])
    assert 'hard labels' in done.stdout
    assert 'ETA' in done.stderr or 'teacher' in done.stderr
    assert {
        'learning_curves.png',
        'soft_labels.png',
        'gains.png',
        'report.md',
        'report.html',
        'tables.tex',
        'runs.csv',
    } <= {path.name for path in (workdir / 'report').iterdir()}


def test_a_second_run_does_nothing_again(finished):
    workdir, _ = finished
    before = files(workdir, '*/artifact.json')
    again = run(workdir)
    assert again.returncode == 0, again.stderr
    assert files(workdir, '*/artifact.json') == before


def test_a_second_run_elsewhere_finds_every_program_compiled(finished, tmp_path):
    said = environment() | {'JAX_DEBUG_LOG_MODULES': 'jax._src.compiler'}
    again = subprocess.run(command(tmp_path), capture_output=True, text=True, env=said)
    assert again.returncode == 0, again.stderr
    assert 'Persistent compilation cache hit' in again.stderr
    assert 'CACHE MISS' not in again.stderr
    assert again.stderr.count('Persistent compilation cache hit') < 80  # small programs outside of jit add up


def test_a_changed_student_leaves_the_teacher_and_its_soft_labels(finished, tmp_path):
    workdir = tmp_path / 'copy'
    shutil.copytree(finished[0], workdir)
    before = {name: artifact['key'] for name, artifact in stages(workdir).items()}
    changed = run(workdir, '--config.student.args.widths=(4,)')
    assert changed.returncode == 0, changed.stderr
    new = {name.split('-')[0] for name in stages(workdir) if name not in before}
    assert new == {'baseline', 'distill', 'distill+finetune', 'combined', 'evaluate'}


@pytest.mark.slow  # for one teacher, as tests/train/test_cache.py has it
def test_online_and_cached_teaching_find_the_same(finished, tmp_path):
    online = run(tmp_path, '--config.teacher.mode=online')
    assert online.returncode == 0, online.stderr
    cached, computed = (accuracies(workdir) for workdir in (finished[0], tmp_path))
    assert computed == pytest.approx(cached, abs=0.005)
    assert not list(tmp_path.glob('cache-*'))


@pytest.mark.slow  # for one grid, as tests/study/sweep/test_grids.py has it
def test_cells_over_devices_find_the_same(finished, tmp_path):
    devices = {'XLA_FLAGS': f'{environment()["XLA_FLAGS"]} --xla_force_host_platform_device_count=4', 'NPROC': '16'}
    done = subprocess.run(command(tmp_path, '--config.run.runner=cells'), capture_output=True, text=True,
                          env=environment() | devices)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert accuracies(tmp_path) == pytest.approx(accuracies(finished[0]), abs=0.005)


def accuracies(workdir):
    summary = json.loads((workdir / 'report' / 'summary.json').read_text())
    return {row['name']: row['last']['accuracy']['mean'] for row in summary['rows']}


@pytest.mark.rotating(0, 3)  # of runs, of processes and of sweeps one is killed each day
def test_killed_at_random_moments_it_ends_as_if_unbroken(tmp_path, pytestconfig):
    """kill -9 as often as --kills says; then the same command once more, and every number and leaf is the same."""
    config, moments = f'{TINY}:kills', random.Random(time.time_ns())
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    start = time.perf_counter()
    assert run(whole, config=config).returncode == 0
    length = time.perf_counter() - start
    for _ in range(pytestconfig.getoption('--kills')):
        process = subprocess.Popen(command(broken, config=config), env=environment(), stderr=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL)  # fmt: skip
        time.sleep(moments.uniform(0.2, 1.0) * length)
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = run(broken, config=config)
    assert last.returncode == 0, last.stderr
    assert numbers(broken) == numbers(whole)
    unbroken, gone_on = leaves(whole, broken)
    assert gone_on == unbroken


LEAVES = """
import json, pathlib, sys
from kdjax.train.checkpoint import load_variables
from kdjax.trees import fingerprint
for workdir in map(pathlib.Path, sys.argv[1:]):
    found = [path for name in ('variables', 'best') for path in workdir.glob(f'*/{name}')]
    print(json.dumps({str(path.relative_to(workdir)): fingerprint(load_variables(path)) for path in found}))
"""


def leaves(*workdirs):
    """Fingerprints of the saved variables of every stage, read by a process with a user's settings."""
    done = subprocess.run([sys.executable, '-c', LEAVES, *map(str, workdirs)], capture_output=True, text=True,
                          env=environment(), cwd=ROOT, check=True)  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for name in ('variables', 'best'):
        assert any(path.endswith(name) for path in found[0])
    return found


@pytest.mark.parametrize('asked', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_names_the_command_that_goes_on(tmp_path, asked):
    flags = ('--config.fits.baseline.steps=100000', '--config.run.chunk=2')
    process = subprocess.Popen(command(tmp_path, *flags), env=environment(), stderr=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    deadline = time.time() + 60
    while not list(tmp_path.glob('baseline-*/ledger.jsonl')) and process.poll() is None and time.time() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(asked)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    last = errors.strip().splitlines()[-1]
    assert f'stopped by {asked.name}' in last
    assert 'go on with: python' in last
    assert f'--workdir={tmp_path}' in last


HOLD = """
import fcntl, sys, time
handle = open(sys.argv[1], 'a')
fcntl.flock(handle, fcntl.LOCK_EX)
print('held', flush=True)
time.sleep(60)
"""


def test_two_processes_on_one_workdir(tmp_path):
    holder = subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path / '.lock')], stdout=subprocess.PIPE)
    assert holder.stdout.readline()
    try:
        assert_error(run(tmp_path), f'workdir {tmp_path} is in use by another process')
    finally:
        holder.kill()
        holder.communicate()


def assert_error(done, message):
    """One line on standard error, exit code 2, no traceback."""
    assert done.returncode == 2, done.stderr
    assert 'Traceback' not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith('error: ')
    assert message in done.stderr


ERRORS = [
    ('--config.sedes=3', "unknown config field 'sedes' in 'sedes'; there is: 'seeds'"),
    ('--config.seeds=many', "--config.seeds=many: invalid literal for int() with base 10: 'many'"),
    ('--config.terms.soft.temperature=0', 'temperature of SoftTargets must be > 0, got 0.0'),
    ('--config.fits.combined.weights.soft=-1', 'weights.soft must be a finite number >= 0, got -1.0'),
    ('--config.terms.soft.kind=hinton.SoftTarget', "unknown term 'hinton.SoftTarget'; there is: 'hinton.SoftTargets'"),
    ('--config.terms.soft.form=kll', "unknown form 'kll' of SoftTargets; there is: 'kl'"),
    ('--config.fits.distill.learning_rate=-0.1', 'learning_rate must be a finite number >= 0'),
    (
        '--config.teacher.fit.learning_rate=(0.1,0.2)',
        'a knob is a number, and candidates that validation chooses from are',
    ),
    ('--config.fits.distill.optim.name=adam', "unknown optimiser 'adam'; there is: 'adamw'"),
    ('--config.data.transfer_sizes=(2000,)', 'transfer size 2000 must be in 1 to 1000'),
    ('--config.data.transfer_sizes=(0,)', 'must be an integer >= 1, got 0'),
    ('--config.student.net=mlp.mpl', "unknown network 'mlp.mpl'; there is: 'mlp.mlp'"),
    ('--config.run.runner=pmpa', "unknown runner 'pmpa'; there is: 'pmap'"),
    ('--config.run.layout=vamp', "unknown grid layout 'vamp'; there is: 'vmap'"),
    ('--config.run.precision=float16', "unknown precision 'float16'; there is: 'bfloat16'"),
    ('--config.teacher.precision=float16', "unknown precision 'float16'; there is: 'bfloat16'"),
    ('--config.accept.method=combind', "unknown method 'combind' in accept.method; there is: 'combined'"),
    ('--mood=run', "unknown flag 'mood'; there is: 'mode'"),
    ('--mode=walk', 'value should be one of <run|sweep|tune|plan|report|export|bench|list|new|prepare>'),
    ('--mode=prepare', 'say which data set to prepare: --data=mnist'),
    ('unasked', "unexpected 'unasked'"),
]


def test_the_list_of_techniques_needs_no_workdir(tmp_path):
    done = run(tmp_path / 'unused', '--mode=list', '--reads=logits', '--needs=labels')
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / 'unused').exists()
    assert '  dkd.DecoupledTargets ' in done.stdout
    assert 'hinton.SoftTargets' not in done.stdout


@pytest.mark.parametrize(('flag', 'message'), ERRORS)
def test_bad_input_is_one_line_before_anything_trains(flag, message, tmp_path):
    assert_error(run(tmp_path, flag), message)
    assert not list(tmp_path.glob('*/artifact.json'))


def test_a_missing_config_and_a_bad_argument_of_one(tmp_path):
    assert_error(run(tmp_path, config='--config=configs/digts.py'), "no config file 'configs/digts.py'")
    assert_error(run(tmp_path, config=f'{TINY}:kils'), "unknown config argument 'kils'; there is: 'kills'")


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    assert_error(run(tmp_path / 'file' / 'inside'), 'cannot be written')


def test_a_cache_whose_address_was_edited_is_refused(finished, tmp_path):
    workdir = tmp_path / 'copy'
    shutil.copytree(finished[0], workdir)
    (address,) = workdir.glob('cache-*/tables/address.json')
    address.write_text(address.read_text().replace('"seed": 0', '"seed": 1'))
    for folder in workdir.glob('distill-*'):
        shutil.rmtree(folder)
    assert_error(run(workdir), 'address.json is damaged')
    assert list(workdir.glob('combined-*/artifact.json'))


def test_plan_trains_nothing(tmp_path):
    done = run(tmp_path, '--mode=plan')
    assert done.returncode == 0, done.stderr
    assert cells_of(done.stdout, 'distill') == 4  # two temperatures, two seeds
    assert not list(tmp_path.iterdir())


def test_one_number_for_a_knob_replaces_its_candidates(tmp_path):
    done = run(tmp_path, '--mode=plan', '--config.terms.soft.temperature=8')
    assert done.returncode == 0, done.stderr
    assert cells_of(done.stdout, 'distill') == 2


def cells_of(plan, stage):
    (row,) = [line for line in plan.splitlines() if line.startswith(f'│ {stage} ')]
    return int(row.split('│')[3])


def test_missed_bars_are_tried_again_and_then_said(tmp_path):
    flags = ('--config.accept.max_params=10', '--config.accept.accuracy=0.999', '--config.retry.attempts=2',
             '--config.retry.temperature=(3.,)', '--config.retry.transfer_size=(80,)')  # fmt: skip
    done = run(tmp_path, *flags)
    assert done.returncode == 1, done.stderr
    assert 'params is 610, wanted at most 10 (off by 600)' in done.stdout
    accept = json.loads((tmp_path / 'report' / 'summary.json').read_text())['acceptance']
    assert [attempt['override'] for attempt in accept['attempts']] == [{}, {'temperature': 3.0}, {'transfer_size': 80}]
    assert not accept['met']
    assert len(list(tmp_path.glob('teacher-*'))) == 1
