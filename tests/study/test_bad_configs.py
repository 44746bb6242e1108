"""Wrong configurations, drawn afresh, are answered in one line before anything trains.

These two families of mistakes are answered throughout; of the eight others many are not, which `bad_configs.py` counts.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MET = ('unknown fields', 'config files')


@pytest.mark.slow
@pytest.mark.parametrize('family', MET)
def test_mistakes_are_one_line_each(family):
    """In a process of their own: cases fork it, and JAX of the tests has threads."""
    command = [sys.executable, 'tests/bad_configs.py', '1', '25', family]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert '---' not in done.stdout, done.stdout
    assert "'one line'" in done.stdout
