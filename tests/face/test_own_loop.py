"""The training loops that are shown work, and what distillation adds to them is a few lines."""

import json
import re
import runpy
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import rotation
from flax import linen as nn

ROOT = Path(__file__).resolve().parents[2]


class Net(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(self.width)(x)
        return nn.Dense(4)(h), {'h': h}


def shown():
    """The code of the section of the README."""
    section = (ROOT / 'README.md').read_text().partition('## In your own training loop\n')[2].partition('\n## ')[0]
    return re.findall(r'```python\n(.*?)```', section, re.DOTALL)


def added(code):
    return [line for line in code.splitlines() if line.endswith('# +')]


def test_the_loop_of_the_readme_runs_and_learns():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 5)).astype(np.float32)
    scope = {
        'images': images, 'x': images, 'y': np.arange(8) % 4, 'ids': np.arange(8), 'key': jax.random.key(0),
        'student': Net(3), 'teacher': Net(6), 'teacher_params': Net(6).init(jax.random.key(1), images),
        'tx': optax.sgd(0.01), 'student_logits': images[:, :4], 'teacher_logits': images[:, 1:],
    }  # fmt: skip
    one_line, loop = shown()
    exec(one_line, scope)
    assert scope['loss'] > 0
    assert len(added(loop)) <= 6
    # The bank has as many rows as are drawn by default, of which there are few here.
    exec(loop.replace('examples=len(images)', 'examples=len(images), negatives=4'), scope)
    losses, state = [], (scope['params'], scope['opt'], scope['memory'])
    for step in range(3):
        *state, logs = scope['update'](*state, step, scope['ids'], images, scope['y'])
        losses.append(float(logs['term/kd']))
    assert losses[2] < losses[0]
    assert set(logs) == {'loss', 'term/kd', 'term/rkd', 'term/crd'}


@pytest.mark.parametrize(
    ('name', 'lines'), rotation.params([('linen', 6), ('nnx', 6), ('function', 6)], ['example'] * 3)
)  # fmt: skip
def test_an_example_runs_and_beats_chance(name, lines):
    path = ROOT / 'examples' / f'{name}_loop.py'
    assert 1 <= len(added(path.read_text())) <= lines
    with jax.numpy_dtype_promotion('standard'):  # as a user has it
        found = runpy.run_path(str(path))['main'](steps=40)
    assert found['student'] > 0.2
    assert found['teacher'] > found['student']


@pytest.mark.slow
def test_the_notebook_trains_and_shows_its_report_inline(tmp_path, monkeypatch):
    notebook = json.loads((ROOT / 'examples' / 'report.ipynb').read_text())
    assert notebook['nbformat'] == 4
    cells = [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']
    assert not any(cell['outputs'] or cell['execution_count'] for cell in cells)
    monkeypatch.chdir(ROOT / 'examples')
    monkeypatch.setattr(sys, 'path', list(sys.path))
    scope = {}
    with jax.numpy_dtype_promotion('standard'):
        for cell in cells:
            code = ''.join(cell['source']).replace("Path('runs/notebook')", f'Path({str(tmp_path)!r})')
            exec(code, scope)
    shown = scope['page']._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;!doctype html')
    assert shown.count('"') == 6, 'the page is not escaped'
    assert scope['right'] > 0.5
