"""Pages that show how a file is asked: their code is run as it stands, and answers as the student does."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import environment
from written_out import NEEDS_CC, digits_network

from kdjax.data import digits
from kdjax.export import files

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / 'docs' / 'serving'
# What asks a file of these formats has neither kdjax nor JAX.
WITHOUT = "import sys\nfor name in ('kdjax', 'jax', 'flax'): sys.modules[name] = None\n"
RUNTIMES = {'litert': ('litert_converter', 'ai_edge_litert', 'ai_edge_quantizer'), 'onnx': ('jax2onnx', 'onnxruntime')}


def code(page: str, language: str) -> str:
    """The block of a page in a language."""
    (found,) = re.findall(rf'```{language}\n(.*?)```', (PAGES / f'{page}.md').read_text(), re.DOTALL)
    return found


def folder(place: Path, *names: str) -> np.ndarray:
    """Writes the files that a page reads; what the student says of the images."""
    images = digits.digits().splits['test'].inputs[:40]
    files.export(digits_network(), place / 'student', names, digits.digits())
    np.save(place / 'images.npy', images)
    np.savetxt(place / 'images.txt', images.reshape(len(images), -1))
    return digits_network().predict(images)


def said(place: Path, text: str, **more: str) -> str:
    """What code prints."""
    (place / 'page.py').write_text(text)
    done = subprocess.run([sys.executable, 'page.py'], cwd=place, capture_output=True, text=True,
                          env=environment() | more)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_page_is_short():
    for page in PAGES.glob('*.md'):
        for block in re.findall(r'```\w+\n(.*?)```', page.read_text(), re.DOTALL):
            assert len(block.splitlines()) <= 20, page


@NEEDS_CC
def test_c(tmp_path):
    wanted = folder(tmp_path, 'c')
    (tmp_path / 'ask.c').write_text(code('c', 'c'))
    command = code('c', 'sh').replace('-o ask', '-Wall -Wextra -Werror -o ask')
    done = subprocess.run(['sh', '-c', command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.mean(np.array(done.stdout.split(), int) == wanted) >= 0.95


@pytest.mark.slow
def test_jax(tmp_path):
    wanted = folder(tmp_path)
    printed = said(tmp_path, code('jax', 'python'), PYTHONPATH=str(ROOT))
    np.testing.assert_array_equal(np.array(re.findall(r'\d+', printed.partition(']')[0]), int), wanted)


@pytest.mark.parametrize('name', [pytest.param('litert', marks=pytest.mark.slow),
                                  pytest.param('onnx', marks=pytest.mark.slow)])  # fmt: skip
def test_a_runtime_asks_the_file_without_kdjax(name, tmp_path):
    absent = [each for each in RUNTIMES[name] if importlib.util.find_spec(each) is None]
    if absent:
        pytest.skip(f"{absent[0]} is not installed: pip install 'kdjax[{name}]'")
    wanted = folder(tmp_path, {'litert': 'litert-int8'}.get(name, name))
    printed = said(tmp_path, WITHOUT + code(name, 'python'), PYTHONPATH='')
    assert np.mean(np.array(json.loads(printed.replace("'", '"')), int) == wanted) >= 0.95


def test_the_page_of_the_browser_names_what_the_example_has():
    example = ROOT / 'examples' / 'browser'
    pinned = json.loads((example / 'package.json').read_text())['dependencies']['onnxruntime-web']
    assert re.fullmatch(r'[\d.]+', pinned)
    source = "from './node_modules/onnxruntime-web/dist/ort.wasm.min.mjs'"
    assert source in code('browser', 'html')
    assert source in (example / 'index.html').read_text()
    assert os.path.exists(example / 'make.py')
