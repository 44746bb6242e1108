"""Files run where there is neither kdjax nor JAX: their runtime and numpy are enough."""

import importlib.metadata
import re
import subprocess
import sys

import exported
import numpy as np
import pytest

from kdjax.dataset import Dataset, Split
from kdjax.export import files

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings('ignore')]
RANDOM = np.random.default_rng(0)
ALONE = """
import importlib.util, json, pathlib, sys
import numpy as np
assert not [name for name in ('kdjax', 'jax', 'flax', 'tensorflow') if importlib.util.find_spec(name)]
folder = pathlib.Path(sys.argv[1])
about, data = json.loads((folder / 'student.json').read_text()), np.load(folder / 'data.npz')
"""
LITERT = """
from ai_edge_litert.interpreter import Interpreter
ask = Interpreter(str(folder / about['files']['litert']['file'])).get_signature_runner()
logits = np.concatenate([ask(inputs=one[None])['logits'] for one in data['inputs']])
"""
ONNX = """
import onnxruntime
session = onnxruntime.InferenceSession(str(folder / about['files']['onnx']['file']))
logits = session.run(['logits'], {'inputs': data['inputs']})[0]
"""
SAID = """
print((logits.argmax(-1) == data['labels']).mean())
"""


def split(count):
    return Split(RANDOM.uniform(-1, 1, (count, 8, 8)).astype(np.float32), RANDOM.integers(0, 3, count).astype(np.int32))


DATA = Dataset({'train': split(20), 'validation': split(4), 'test': split(40)}, ('a', 'b', 'c'))


def environment(folder, *libraries):
    """A folder with what some libraries need, and nothing else that is installed here."""
    todo, seen = list(libraries), set()
    while todo:
        name = todo.pop()
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        found = importlib.metadata.distribution(name)
        for top in {path.parts[0] for path in found.files or () if path.parts[0] not in ('..', '__pycache__')}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))
        needed = [one for one in found.requires or () if 'extra ==' not in one]
        todo += [re.match(r'[\w.-]+', one)[0] for one in needed if _installed(re.match(r'[\w.-]+', one)[0])]
    return folder


def _installed(name):
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.mark.parametrize(
    ('format', 'runtime', 'maker', 'code'),
    [
        ('litert', 'ai-edge-litert', 'litert_converter', LITERT),
        ('onnx', 'onnxruntime', 'jax2onnx', ONNX),
    ],
)
def test_a_bundle_answers_where_there_is_no_kdjax(format, runtime, maker, code, tmp_path):
    pytest.importorskip(maker, reason=f'needs the extra {format}')
    student = exported.student('cnn.cnn', {'classes': 3, 'widths': (4, 6, 8)}, DATA.splits['test'].inputs)
    told = files.export(student, tmp_path / 'bundle', [format], DATA).about['files'][format]
    test = DATA.splits['test']
    np.savez(tmp_path / 'bundle' / 'data.npz', inputs=test.inputs, labels=test.labels)
    (tmp_path / 'libraries').mkdir()
    place = environment(tmp_path / 'libraries', runtime, 'numpy')
    # -S: without what is installed.
    command = [sys.executable, '-S', '-c', ALONE + code + SAID, str(tmp_path / 'bundle')]
    done = subprocess.run(command, env={'PYTHONPATH': str(place)}, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) == pytest.approx(told['test']['accuracy'])
