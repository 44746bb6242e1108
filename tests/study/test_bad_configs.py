"""Wrong configurations, drawn afresh, are answered in one line before anything trains: all families of mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MET = (
    'types on the command line', 'odd text', 'unknown fields', 'unknown names', 'numbers out of range', 'structure',
    'arrangement', 'config files', 'files', 'sweep rows',
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('family', MET)
def test_mistakes_are_one_line_each(family):
    """In a process of their own: cases fork it, and JAX of the tests has threads."""
    command = [sys.executable, 'tests/bad_configs.py', '1', '40', family]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert '---' not in done.stdout, done.stdout
    assert "'one line'" in done.stdout
