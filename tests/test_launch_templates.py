"""The templates under experiments/launch: what they name exists, and with stand-ins they do what they should."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from configs import base
from kdjax.study import command_line
from kdjax.train import distributed

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / 'experiments' / 'launch'
FILES = ('README.md', 'slurm.sbatch', 'jobset.yaml', 'tpu_pod.sh')
SCRIPTS = ('slurm.sbatch', 'tpu_pod.sh')


KNOWN = set(re.findall(r"DEFINE_\w+\(\s*'(\w+)'", (ROOT / 'kdjax' / 'study' / 'options.py').read_text()))


@pytest.mark.parametrize('name', FILES)
def test_flags_fields_and_configs_exist(name):
    text = (FOLDER / name).read_text()
    used = [word for line in commands(text) for word in re.findall(r'--([a-z][\w.]*)=([^\s`"]*)', line)]
    assert used
    for flag, value in used:
        head, _, field = flag.partition('.')
        assert head in KNOWN
        if field:
            command_line._walk(base.get_config(), field)
        elif head == 'config':
            assert (ROOT / value).is_file()


def commands(text):
    """The parts of a template that are a command line of run.py, or arguments that are handed on to one."""
    text = text.replace('\\\n', ' ')
    lines = [line for line in text.splitlines() if re.search(r'run\.py |slurm\.sbatch |tpu_pod\.sh run', line)]
    items = re.findall(r'^ *- (--.*)$', text, re.MULTILINE)
    return [re.sub(r'.*(run\.py|slurm\.sbatch|tpu_pod\.sh run) ', '', line) for line in lines] + items


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_parse(name):
    subprocess.run(['bash', '-n', str(FOLDER / name)], check=True)


@pytest.fixture
def stand_ins(tmp_path):
    """Runs a script with commands of a cluster that note how they were called; srun leaves with a given code."""

    def run(script, *arguments, code=0, **variables):
        for name in ('srun', 'scontrol', 'gcloud'):
            path = tmp_path / name
            leaves = code if name == 'srun' else 0
            path.write_text(f'#!/bin/bash\nprintf "%s\\n" "{name}" "$@" >> {tmp_path}/called\nexit {leaves}\n')
            path.chmod(0o755)
        environment = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', **variables}
        done = subprocess.run(['bash', str(FOLDER / script), *arguments], env=environment, cwd=ROOT, check=False)
        return done.returncode, (tmp_path / 'called').read_text().splitlines()

    return run


@pytest.mark.parametrize(('code', 'again'), [(0, False), (2, False), (134, False), (130, True)])
def test_a_job_that_was_stopped_is_queued_again_and_no_other(code, again, stand_ins):
    left, called = stand_ins('slurm.sbatch', '--workdir=a b', code=code, SLURM_JOB_ID='12')
    assert left == code
    wanted = ['srun', 'python', 'run.py', '--workdir=a b', '--config.run.runner=sharded', '--distributed=auto']
    assert called == wanted + again * ['scontrol', 'requeue', '12']


def test_a_job_is_told_to_save_before_its_time_is_up():
    lines = (FOLDER / 'slurm.sbatch').read_text().splitlines()
    assert {'#SBATCH --signal=TERM@120', '#SBATCH --requeue', '#SBATCH --open-mode=append'} <= set(lines)


def test_the_pods_of_a_jobset_find_each_other():
    jobset = yaml.safe_load((FOLDER / 'jobset.yaml').read_text())
    (replicated,) = jobset['spec']['replicatedJobs']
    job = replicated['template']['spec']
    (container,) = job['template']['spec']['containers']
    variables = {entry['name']: entry.get('value') for entry in container['env']}
    assert tuple(variables) == distributed.VARIABLES
    place = distributed.given('auto', {**variables, 'KDJAX_PROCESS': '3'})
    # JobSet calls a pod <jobset>-<replicated job>-<job>-<pod>, inside its headless service.
    network = jobset['spec']['network']
    first = f'{jobset["metadata"]["name"]}-{replicated["name"]}-0-0.{network["subdomain"]}'
    port = container['ports'][0]['containerPort']
    assert place['coordinator_address'] == f'{first}:{port}'
    assert place['num_processes'] == job['completions'] == job['parallelism'] == 4
    assert job['completionMode'] == 'Indexed'
    index = container['env'][2]['valueFrom']['fieldRef']['fieldPath']
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    (workdir,) = [word for word in container['command'] if word.startswith('--workdir=')]
    assert workdir.startswith(f'--workdir={container["volumeMounts"][0]["mountPath"]}/')


def test_all_hosts_of_a_tpu_run_the_command(stand_ins):
    given = {'TPU': 'pod', 'ZONE': 'here'}
    left, called = stand_ins('tpu_pod.sh', 'run', '--config=configs/digits.py', '--workdir=/shared/a b', **given)
    assert left == 0
    assert called[:-1] == ['gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', 'pod', '--zone=here', '--worker=all']
    remote = called[-1].removeprefix('--command=')
    assert remote.endswith(
        'exec .venv/bin/python run.py --config=configs/digits.py --workdir=/shared/a\\ b '
        '--config.run.runner=sharded --distributed=auto'
    )
    subprocess.run(['bash', '-n', '-c', remote], check=True)


def test_a_run_on_a_tpu_is_stopped_by_the_process_that_it_noted(stand_ins, tmp_path):
    _, called = stand_ins('tpu_pod.sh', 'stop', TPU='pod', ZONE='here')
    (tmp_path / 'kdjax').mkdir()
    with subprocess.Popen(['sleep', '60']) as process:
        (tmp_path / 'kdjax' / 'run.pid').write_text(f'{process.pid}\n')
        subprocess.run(['bash', '-c', called[-1].removeprefix('--command=')], cwd=tmp_path, check=True)
        assert process.wait(10) == -15


def test_unknown_actions_and_missing_names_are_said(stand_ins, tmp_path):
    (tmp_path / 'called').write_text('')
    assert stand_ins('tpu_pod.sh', 'fly', TPU='pod', ZONE='here') == (2, [])
    assert stand_ins('tpu_pod.sh', 'run', TPU='', ZONE='here')[0] == 1
