"""A workdir that cannot be written: what is finished there is shown, and what is not is named."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdjax.errors import UsageError
from kdjax.study.recipe import execute


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """A folder as a read-only file system has it, whoever runs the tests."""

    def refused(path, *mode, **how):
        raise OSError(errno.EROFS, 'Read-only file system', str(path))

    monkeypatch.setattr(Path, 'open', refused)
    monkeypatch.setattr(execute.os, 'access', lambda path, mode: False)
    return tmp_path


def test_the_lock_does_not_stop_it(read_only):
    with execute.locked(read_only):
        assert list(read_only.iterdir()) == []


def test_a_stage_that_is_not_done_is_named(read_only):
    with pytest.raises(UsageError, match="cannot be written, and stage 'teacher' is not done there"):
        execute._carry_out(SimpleNamespace(name='teacher'), None, read_only / 'teacher-1')
