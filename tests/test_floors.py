"""The floors of DESIGN section 2: imports go down only, and a few things have one place."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLOORS = {
    'version': 0, 'errors': 0, 'resolve': 0, 'types': 0, 'trees': 0, 'metrics': 0, 'jit_cache': 0, 'dataset': 0,
    'crf': 0, 'ctc': 0, 'boxes': 0, 'cpu': 0, 'decoding': 0.5,
    'nets': 1, 'techniques': 1, 'tasks': 1, 'data': 1, 'compress': 1,
    'train': 2, 'train.probes': 2, 'train.objective': 2, 'train.optim': 2, 'train.teachers': 2, 'train.step': 2,
    'train.rows': 2, 'train.anatomy': 2, 'train.inherit': 2, 'train.frozen': 2, 'train.texts': 2,
    'train.blockwise': 2, 'train.optim.schedules': 2, 'train.optim.averages': 2,
    'train.parallel': 3, 'train.grid': 3, 'train.layout': 3, 'train.checkpoint': 3, 'train.cache': 3, 'train.ledger': 3,
    'train.storage': 3, 'train.given': 3,
    'train.timing': 3,
    'train.loop': 3, 'train.pace': 3, 'train.stop': 3, 'train.screen': 3, 'train.distributed': 3, 'train.profile': 3,
    'cost': 4, 'export': 4,
    'study.report': 5.1, 'study.config': 5.15, 'study.recipe': 5.2, 'study.sweep': 5.3, 'study': 5.4,
    '__main__': 6,
    'terms': 6.1, 'face': 6.2, 'losses': 6.3, 'testing': 6.4, '': 7,
}  # fmt: skip
# What modules of a floor-1 package may import from their own package.
SHARED = {
    'techniques': {
        'base', 'algebra', 'distributions', 'tokens', 'layers', 'exits', 'chains', 'candidates', 'alignments',
        'anchors', 'mixture',
    },
    'nets': {
        'base', 'layers', 'sequences', 'blocks', 'decoders', 'recommenders', 'frames', 'pyramid', 'torch_weights',
    },
    'data': {
        'base', 'inputs', 'lazy', 'augment', 'feed', 'order', 'preprocess', 'mix', 'buckets', 'originals',
        'tfds', 'without_tensorflow', 'text', 'files', 'fetch', 'wordpiece', 'audio', 'subwords',
        'pictures',
    },
    'tasks': {
        'base', 'classification', 'entities', 'evaluation', 'next_token', 'own_text', 'speech', 'targets', 'centres',
        'average_precision', 'draws',
    },
    'compress': {'products', 'rounding', 'masks', 'quantized', 'selection', 'shared', 'huffman', 'factored'},
}  # fmt: skip
# Rooms that know nothing of each other, though the floors would allow it.
APART = [('study.recipe', 'study.report'), ('study.config', 'study.report')]
# What may be imported only in these places.
ONLY_IN = {
    'flax.linen': ('nets', 'techniques', 'cpu.convolution', 'cpu.pooling'),
    'ml_collections': (
        'study.config',
        'study.recipe',
        'study.sweep',
        'study.run',
        'study.bench',
        'study.command_line',
        'study.options',
        'study.config_file',
        'study.help',
    ),
    'configs': (),
    'orbax': ('train.checkpoint',),
    'tensorflow_datasets': ('data',),
    'pooch': ('data.fetch',),
}
# What takes longer to import than it should take to begin: loaded where it is used.
HEAVY = (
    'sklearn', 'scipy', 'matplotlib', 'orbax', 'tensorflow_datasets', 'tensorboardX', 'torch', 'pandas', 'wandb',
    'submitit', 'optuna', 'PIL', 'grain', 'pooch', 'tokenizers', 'safetensors', 'jax2onnx', 'onnx', 'onnxruntime',
    'litert_converter', 'ai_edge_litert', 'ai_edge_quantizer', 'pycocotools', 'sentencepiece', 'sacrebleu',
)  # fmt: skip


def sources():
    """Source by module, named from inside kdjax: 'train.step', and '' for kdjax itself; not what `kdjax new` copies."""
    files = {path.relative_to(ROOT / 'kdjax').with_suffix(''): path for path in (ROOT / 'kdjax').rglob('*.py')
             if path.parent.name != 'my_project'}  # fmt: skip
    return {'.'.join(path.parts).removesuffix('__init__').rstrip('.'): file.read_text() for path, file in files.items()}


MODULES = sources()


def imported(module, source):
    """Full names of all that the source of a module of kdjax imports, at whatever depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ['kdjax', *module.split('.')][: -node.level] if node.level else []
            yield from ('.'.join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def inner(name):
    """The module of kdjax that an import of `name` reaches, or None."""
    parts = name.split('.')
    if parts[0] != 'kdjax':
        return None
    whole = '.'.join(parts[1:])
    return whole if whole in MODULES else '.'.join(parts[1:-1])


def floor(module):
    """Of the longest prefix of its name that has one; modules of train have each their own."""
    parts = module.split('.')
    names = [module] if parts[0] == 'train' else ['.'.join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((FLOORS[name] for name in names if name in FLOORS), None)


def allowed(module, target):
    """Whether a module of kdjax may import another."""
    (package, _, _), (other, _, name) = module.partition('.'), target.partition('.')
    if any(within(module, [a]) and within(target, [b]) for a, b in APART):
        return False
    if floor(target) != floor(module):
        return floor(target) < floor(module)
    if floor(module) == 1:
        return package == other and name in SHARED[package]
    return package == other or floor(module) == 0


def within(name, places):
    return any(f'{name}.'.startswith(f'{place}.') for place in places)


def misplaced(module, name):
    """Whether `name` belongs elsewhere; whoever imports a whole package can reach what is inside."""
    return any(
        within(name, [rare]) or within(rare, [name]) for rare, places in ONLY_IN.items() if not within(module, places)
    )


def prints(source):
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return any(isinstance(called, ast.Name) and called.id == 'print' for called in calls)


def violations(module, source):
    """What is wrong with a module of kdjax."""
    if floor(module) is None:
        return ['stands on no floor']
    found = [f'imports {name}' for name in imported(module, source)
             if misplaced(module, name) or (inner(name) is not None and not allowed(module, inner(name)))]  # fmt: skip
    found += ['prints'] if prints(source) and module != 'study.command_line' else []
    found += ['is longer than 350 lines'] if len(source.splitlines()) > 350 else []
    found += ['has a name that says nothing'] if module.rpartition('.')[2] in ('utils', 'misc') else []
    return found


@pytest.mark.parametrize('module', sorted(MODULES))
def test_a_module_keeps_to_its_floor(module):
    assert violations(module, MODULES[module]) == []


@pytest.mark.parametrize(
    ('module', 'source', 'wrong'),
    [
        ('metrics', 'from kdjax.nets import mlp', 'imports kdjax.nets.mlp'),
        ('trees', 'import kdjax.train.step', 'imports kdjax.train.step'),
        ('nets.resnet', 'from kdjax.nets.cnn import cnn', 'imports kdjax.nets.cnn.cnn'),
        ('nets.resnet', 'from .cnn import cnn', 'imports kdjax.nets.cnn.cnn'),
        ('tasks.detection', 'from kdjax.data.feed import feed', 'imports kdjax.data.feed.feed'),
        ('techniques.crd', 'from kdjax.nets.base import tap', 'imports kdjax.nets.base.tap'),
        ('techniques.crd', 'from kdjax.techniques import hinton', 'imports kdjax.techniques.hinton'),
        ('techniques.crd', 'import ml_collections', 'imports ml_collections'),
        ('data.words', 'from kdjax.data import digits', 'imports kdjax.data.digits'),
        ('data.words', 'from flax import linen as nn', 'imports flax.linen'),
        ('train.step', 'import flax', 'imports flax'),
        ('train.step', 'def f():\n  from kdjax.train import loop', 'imports kdjax.train.loop'),
        ('train.loop', 'from orbax import checkpoint', 'imports orbax.checkpoint'),
        ('train.loop', 'from kdjax.study.run import run', 'imports kdjax.study.run.run'),
        ('study.recipe.plan', 'from kdjax.study.sweep import rows', 'imports kdjax.study.sweep.rows'),
        ('study.recipe.plan', 'from kdjax.study.report import latex', 'imports kdjax.study.report.latex'),
        ('study.report.latex', 'from kdjax.study.recipe import plan', 'imports kdjax.study.recipe.plan'),
        ('study.report.latex', 'from ml_collections import ConfigDict', 'imports ml_collections.ConfigDict'),
        ('study.sweep.grids', 'from kdjax.study import run', 'imports kdjax.study.run'),
        ('train.cache', 'import tensorflow_datasets as tfds', 'imports tensorflow_datasets'),
        ('cost', 'from kdjax.study import bench', 'imports kdjax.study.bench'),
        ('study.run', 'from configs.base import get_config', 'imports configs.base.get_config'),
        ('study.run', "if True:\n  print('table')", 'prints'),
        ('study.run', '#\n' * 351, 'is longer than 350 lines'),
        ('data.utils', '', 'has a name that says nothing'),
        ('train.novelty', '', 'stands on no floor'),
        ('novelty', '', 'stands on no floor'),
    ],
)
def test_a_violation_is_noticed(module, source, wrong):
    assert violations(module, source) == [wrong]


@pytest.mark.parametrize(
    ('module', 'source'),
    [
        ('nets.resnet', 'from flax import linen as nn\nfrom kdjax.nets.base import tap\nfrom kdjax.types import Net'),
        ('data.feed', 'from kdjax.data.augment import views'),
        ('techniques.crd', 'from kdjax.techniques.algebra import unit\nfrom kdjax.techniques import base'),
        ('train.step', 'from kdjax.train import objective\nfrom flax import struct'),
        ('train.checkpoint', 'import orbax.checkpoint as ocp\nfrom kdjax.train import step'),
        ('study.run', 'from ml_collections import ConfigDict\nfrom kdjax.study.report import latex\nscreen.print(1)'),
        ('study.sweep.worker', 'from kdjax.study.recipe import plan\nfrom kdjax.study.report import report'),
    ],
)
def test_what_is_allowed_is_not_held_against_a_module(module, source):
    assert violations(module, source) == []


WHOLE = """
from kdjax.data import prepare
from kdjax.study import bench, command_line, run
from kdjax.study.sweep import tune, worker
from kdjax.train import distributed
"""
PLAN = f"""{WHOLE}
import pathlib, tempfile, configs.digits
run.show_plan(configs.digits.get_config('quick'), pathlib.Path(tempfile.mkdtemp()))
"""


# Scikit-learn, with SciPy, has the digits that a plan of them looks at.
@pytest.mark.parametrize(('code', 'used'), [(WHOLE, ()), (PLAN, ('sklearn', 'scipy'))], ids=['run', 'plan'])
def test_what_only_some_runs_need_is_not_loaded_before_it_is_used(code, used):
    code += f"""
import sys
loaded = [name for name in {HEAVY} if name in sys.modules and name not in {used}]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
