"""What one types first: --help, a misspelt flag."""

import subprocess
import sys
from pathlib import Path

import pytest

from kdjax.study import help

ROOT = Path(__file__).resolve().parents[2]


def typed(*words):
    return subprocess.run([sys.executable, str(ROOT / 'run.py'), *words], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize('word', ['--help', '-h'])
def test_help_has_modes_examples_and_the_flags_of_this_program_alone(word):
    done = typed(word)
    assert (done.returncode, done.stderr) == (0, '')
    for said in ('usage: ', 'sweep  ', '--workdir', '--mode=plan', 'Exit codes'):
        assert said in done.stdout
    assert 'stderrthreshold' not in done.stdout


def test_help_of_a_config_has_its_docstring_and_its_fields_with_values_and_comments():
    done = typed('--config=configs/digits.py:quick', '--help', '--config.seeds=4')
    assert done.returncode == 0, done.stderr
    assert 'Handwritten digits: when does' in done.stdout
    assert '  seeds = 4\n      cells per method' in done.stdout
    assert '  fits.combined.steps = 100\n' in done.stdout
    assert done.stdout.count('updates\n') == 1  # said once, not for every fit


def test_every_field_of_the_defaults_is_explained_but_those_of_terms_and_parts():
    said = help.comments(ROOT / 'configs' / 'base.py')
    assert said['fits.*.steps'] == 'updates'
    assert said['run.layout'].startswith('Of a grid')
    assert said['teacher.fit.batch_size'].startswith('examples per update')


def test_a_misspelt_flag_is_met_with_the_nearest_first():
    done = typed('--wrokdir=x')
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown flag 'wrokdir'; there is: 'workdir', ")
