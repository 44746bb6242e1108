"""A project as `kdjax new` writes it, and the page that walks through one."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from processes import environment

from kdjax.errors import UsageError
from kdjax.resolve import construct
from kdjax.study import command_line, config_file, new
from kdjax.study.recipe import plan
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.resolve import resolve

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs' / 'own_project.md').read_text()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A new project of a name of its own, importable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    new.create('of_mine')
    return tmp_path / 'of_mine'


def test_a_new_project_could_run_and_is_called_as_it_was_said(project):
    assert sorted(path.name for path in project.iterdir()) == [
        '__init__.py', 'config.py', 'data.py', 'nets.py', 'terms.py'
    ]  # fmt: skip
    texts = [path.read_text() for path in sorted(project.glob('*.py'))]
    assert not any('my_project' in text for text in texts)
    assert [text.lower().count('change here') for text in texts] == [0, 1, 1, 1, 1]
    config = config_file.config_of(str(project / 'config.py'), 'quick')
    recipe, datasets = resolve(config), Datasets()
    assert len(plan.check_shapes(recipe, datasets(recipe.data))) == 6
    assert shapes('conv_net') == shapes('nnx_conv_net')
    rows = config_file.call(str(project / 'config.py'), 'sweep', '')
    assert len(rows) == 4


def shapes(builder):
    """Of what a network of the new project answers, in training, and of what may be read from it."""
    net = construct('kdjax.nets', f'of_mine.nets:{builder}', {'classes': 10, 'axis': None}, 'network')
    images, key = jnp.ones((2, 8, 8, 1)), jax.random.key(0)
    variables = jax.eval_shape(net.init, key, images)
    outputs, _ = jax.eval_shape(functools.partial(net.apply, train=True), variables, images, key=key)
    return {'logits': outputs.logits.shape, **{tap: outputs.features[tap].shape for tap in net.taps}}


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('', 'say what the project is called: kdjax new my_project'),
        ('my-project', "'my-project' cannot be imported"),
        ('class', "'class' cannot be imported"),
        ('there', "'there' exists, and nothing was written"),
        ('json', "'json' is a module that is installed"),
    ],
)
def test_a_name_that_would_not_do_is_refused(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'there').mkdir()
    with pytest.raises(UsageError, match=message):
        new.create(name)
    assert [path.name for path in tmp_path.iterdir()] == ['there']


def test_a_config_in_a_package_makes_the_package_importable(tmp_path):
    inner = tmp_path / 'outer' / 'inner'
    inner.mkdir(parents=True)
    assert command_line._beside(str(inner / 'config.py')) == (inner, inner)
    for folder in (inner, inner.parent):
        (folder / '__init__.py').touch()
    assert command_line._beside(str(inner / 'config.py')) == (inner, tmp_path)


def blocks(page):
    """What a page shows, in order: language, title and text."""
    return re.findall(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)


def test_what_the_page_shows_of_the_config_is_in_it():
    template = (new.TEMPLATE / 'config.py').read_text()
    (shown,) = [text for _, title, text in blocks(PAGE) if title.startswith('excerpt')]
    assert all(line.strip() in template for line in shown.splitlines())


@pytest.mark.slow
def test_the_page_is_what_happens(tmp_path):
    """Every command and every block of code, in one folder, from the first to the last; with few steps."""
    shell = tmp_path / 'bin'
    shell.mkdir()
    (shell / 'kdjax').write_text(f'#!/bin/sh\nexec {sys.executable} -m kdjax "$@"\n')
    (shell / 'kdjax').chmod(0o755)
    variables = environment() | {'PATH': f'{shell}:{os.environ["PATH"]}', 'PYTHONPATH': f'{ROOT}:{tmp_path}'}
    for language, title, text in blocks(PAGE):
        if language == 'sh':
            commands = text.replace('config.py', 'config.py:quick')
            call(['bash', '-euc', commands], tmp_path, variables)
        elif not title:
            call([sys.executable, '-c', text], tmp_path, variables)
        elif not title.startswith('excerpt'):
            (tmp_path / title).write_text(text)
    assert (tmp_path / 'runs' / 'my_project' / 'report' / 'report.html').is_file()
    assert (tmp_path / 'my_student' / 'student.safetensors').is_file()


def call(command, folder, variables):
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, f'{command[-1]}\n{done.stderr[-2000:]}'
