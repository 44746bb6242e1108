"""The command of an installed kdjax, run outside the clone by a name of a config."""

import subprocess
import sys
from pathlib import Path

from processes import environment

ROOT = Path(__file__).resolve().parents[1]


def test_the_command_finds_the_configs_that_it_brings(tmp_path):
    alone = tmp_path / 'site'
    alone.mkdir()
    (alone / 'kdjax').symlink_to(ROOT / 'kdjax')  # without the folder `configs` of the clone beside it
    done = subprocess.run([sys.executable, '-m', 'kdjax', 'plan', '--config=digits:quick'], cwd=tmp_path,
                          capture_output=True, text=True, env=environment() | {'PYTHONPATH': str(alone)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'Handwritten digits' in done.stdout


def test_a_new_project_is_named_in_one_word(tmp_path):
    command, variables = [sys.executable, '-m', 'kdjax', 'new', 'of_mine'], environment() | {'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    assert 'kdjax run --config=of_mine/config.py' in done.stdout
    assert (tmp_path / 'of_mine' / 'config.py').is_file()
