"""Buffers are kept where the C library is told to, and nothing changes where it is not."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import os, resource
import numpy as np
from kdjax.cpu import allocator
print(allocator.keep_buffers(os.environ))
def use():
    np.ones(SIZE, np.uint8)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def told_and_faults(size=2**24, **environment):
    """What `keep_buffers` says, and how many pages a process maps that makes and drops so many bytes ten times."""
    done = subprocess.run(
        [sys.executable, '-c', FAULTS.replace('SIZE', str(size))], env={**os.environ, **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told, faults = done.stdout.split()
    return told == 'True', int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='the settings are those of glibc')
def test_kept_buffers_are_not_mapped_again():
    told, faults = told_and_faults(KDJAX_ALLOCATOR='')
    assert told
    assert faults < 100


def at_least(*version):
    library, found = platform.libc_ver()
    return library == 'glibc' and tuple(map(int, found.split('.'))) >= version


@pytest.mark.skipif(not at_least(2, 35), reason='glibc before 2.35 keeps all buffers or none above 32 MB')
def test_huge_buffers_are_given_back():
    assert told_and_faults(300 * 2**20)[1] < 100
    assert told_and_faults(2**30)[1] > 2000  # 5,120 where pages are of 2 MB


def test_the_environment_can_leave_the_allocator_as_it_is():
    told, faults = told_and_faults(KDJAX_ALLOCATOR='system')
    assert not told
    assert faults > 100


BEFORE = """
import sys
from pathlib import Path
from jax._src import xla_bridge
from kdjax.cpu import allocator
from kdjax.study import command_line
told = []
allocator.keep_buffers = lambda environment: told.append(xla_bridge.backends_are_initialized())
code = command_line.main(sys.argv, Path('configs/digits.py'), dict)
assert code == 0 and xla_bridge.backends_are_initialized()
assert told == [False], told
"""


def test_a_command_tells_it_before_there_are_threads_with_heaps_of_their_own(tmp_path):
    words = ['--config=configs/digits.py:quick', '--mode=plan', f'--workdir={tmp_path}']
    done = subprocess.run([sys.executable, '-c', BEFORE, *words], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
