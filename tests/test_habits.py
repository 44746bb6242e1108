"""What surrounds the code says what the code says: versions, Pythons, and the commands of every robot."""

import re
import shutil
import stat
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

import kdjax

ROOT = Path(__file__).resolve().parents[1]


def read(name):
    return (ROOT / name).read_text()


def supported():
    """The Pythons that setup.cfg promises."""
    config = ConfigParser()
    config.read(ROOT / 'setup.cfg')
    return re.findall(r'Python :: (\d+\.\d+)', config['metadata']['classifiers'])


def test_the_version_is_one():
    changelog, cited = read('CHANGELOG.md'), yaml.safe_load(read('CITATION.cff'))
    versions = re.findall(r'^## (\S+) - (\d{4}-\d\d-\d\d)$', changelog, re.MULTILINE)
    assert versions[0] == (kdjax.__version__, cited['date-released'])
    assert cited['version'] == kdjax.__version__
    assert len(set(versions)) == len(versions)
    assert set(re.findall(r'^### (.*)$', changelog, re.MULTILINE)) <= {'Added', 'Changed', 'Removed', 'Fixed'}


def test_every_supported_python_is_tested_everywhere():
    pythons = supported()
    jobs = yaml.safe_load(read('.github/workflows/ci.yml'))['jobs']
    (first,) = [step['with']['python-version'] for step in jobs['run']['steps'] if 'python' in step.get('uses', '')]
    assert [first, *jobs['pythons']['strategy']['matrix']['python']] == pythons
    assert f'KDJAX_PYTHONS:-{" ".join(pythons)}}}' in read('.ci/pythons')
    assert 'Python 3.11, 3.12 and 3.13' in read('CONTRIBUTING.md')


def test_the_robots_call_what_people_call():
    jobs = yaml.safe_load(read('.github/workflows/ci.yml'))['jobs'].values()
    used = [step['uses'] for job in jobs for step in job['steps'] if 'uses' in step]
    assert [step['run'] for job in jobs for step in job['steps'] if 'run' in step] == ['.ci/run', '.ci/pythons']
    assert all(re.fullmatch(r'[\w-]+/[\w-]+@v\d+\.\d+\.\d+', name) for name in used)
    (local,) = yaml.safe_load(read('.pre-commit-config.yaml'))['repos']
    hooks = {hook['entry'] for hook in local['hooks']}
    assert hooks == {'ruff check', 'ruff format', 'mypy'}
    assert all(re.search(rf'^{hook}', read('.ci/run'), re.MULTILINE) for hook in hooks)


STUB = """#!/bin/sh
case "$*" in
  *'-m venv '*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *platform*) echo 9.9.1 ;;
  *jax*) echo 0.99 ;;
  *flax*) echo 0.88 ;;
  *executable*) echo "$0" ;;
  *install*) ;;
  *tests*) echo "the arguments: $*"; cat outcome; ! grep -q failed outcome ;;
esac
"""


@pytest.fixture
def pythons(tmp_path):
    """Runs .ci/pythons in a folder of its own, with a Python 9.9 of pyenv that does as it is told."""
    shutil.copytree(ROOT / '.ci', tmp_path / '.ci')
    (tmp_path / 'README.md').write_text('<!-- test -->\npython install && python tests\n<!-- end -->\n')
    stub = tmp_path / 'pyenv' / 'versions' / '9.9.1' / 'bin' / 'python'
    stub.parent.mkdir(parents=True)
    stub.write_text(STUB)
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)

    def call(versions, outcome, *arguments):
        (tmp_path / 'outcome').write_text(outcome)
        environment = {'PATH': '/usr/bin:/bin', 'PYENV_ROOT': str(tmp_path / 'pyenv'), 'KDJAX_PYTHONS': versions}
        command = [tmp_path / '.ci' / 'pythons', *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    return call


def test_a_python_that_is_absent_is_skipped_and_the_others_end_in_a_table(pythons):
    done = pythons('9.8 9.9', 'E  of 7 errors in it\n12 passed, 1 skipped in 3.21s\n', '-k', 'two words')
    assert done.returncode == 0, done.stderr
    assert '== Python 9.8 is not on this machine: skipped' in done.stdout
    assert 'the arguments: tests -k two words' in done.stdout
    header, row = done.stdout.splitlines()[-2:]
    assert header.split() == ['python', 'jax', 'flax', 'passed', 'failed']
    assert row.split() == ['9.9.1', '0.99', '0.88', '12', '0']


def test_failures_are_counted_and_tell(pythons):
    done = pythons('9.9', '2 failed, 10 passed, 3 errors in 61.00s (0:01:01)\n')
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].split() == ['9.9.1', '0.99', '0.88', '10', '5']


def test_a_machine_without_any_of_the_pythons_is_an_error(pythons):
    done = pythons('9.7', '')
    assert (done.returncode, done.stderr) == (2, 'error: none of these Pythons is here\n')
