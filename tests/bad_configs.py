"""Configurations that are wrong, drawn from a seed, and what the command answers to them.

    python tests/bad_configs.py SEED COUNT [FAMILY]    # from the repository's root; prints what was not one line

Every case is one mistake: a flag, a Python config, a file or a row of a sweep. The right answer is one line of at most
300 characters, exit code 2, in 3 seconds of the processor beyond the start, nothing trained.
"""

import collections
import contextlib
import os
import random
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LONGEST, SECONDS, MEMORY, PATIENCE = 300, 3.0, 6 * 2**30, 20

CONFIG = """
import numpy as np
from configs import base
from kdjax.study.sweep import rows
from kdjax.study.sweep.rows import Range


def get_config(arg=''):
    config = base.config()
    config.title, config.seeds, config.data.transfer_sizes = 'Tiny', 2, (50,)
    config.student.args.widths, config.teacher.args.widths = (8,), (32,)
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.steps = 20
    config.run.chunk, config.run.validate_every, config.run.save_every = 10, 10, 20
    {body}
    return config.lock()
"""
SWEEP = """

def {function}(arg=''):
    return {value}
"""
METHODS = "rows.axis('method', 'combined', 'hard labels')"


class Case(NamedTuple):
    """One wrong configuration."""

    family: str
    flags: tuple[str, ...] = ()
    body: str = ''  # lines of get_config
    more: str = ''  # after get_config
    text: str | bytes | None = None  # the whole file instead
    files: tuple[tuple[str, bytes], ...] = ()  # beside it; '{dir}' in flags and body is their folder
    mode: str = 'plan'


class Answer(NamedTuple):
    """What the command did."""

    code: int | None  # None: it was stopped
    error: str
    seconds: float  # of the processor: others may be at work
    trained: bool

    @property
    def verdict(self):
        """'one line', or what was wrong with it."""
        lines = [line for line in self.error.splitlines() if line.strip()]
        if self.code is None:
            return 'hang'
        if 'Traceback' in self.error:
            return 'traceback'
        if self.trained:
            return 'trained'
        if self.code != 2:
            return f'exit {self.code}'
        if len(lines) != 1 or not lines[0].startswith('error: '):
            return f'{len(lines)} lines'
        if len(lines[0]) > LONGEST + len('error: '):
            return 'long'
        return 'slow' if self.seconds > SECONDS else 'one line'


# What is wrong for a field of each kind, as Python; flags are given what is text of it.
TYPES = {
    'whole': ('"three"', '1.5', 'None', '(1, 2)', '{"a": 1}', 'True', '[3]', 'float("nan")', 'b"3"', 'object()', 'len'),
    'real': ('"x"', 'None', '{"a": 1}', 'True', '(0.1, 0.2)', 'float("nan")', 'float("inf")', '1j', 'len'),
    'text': ('3', 'None', '("a", "b")', '{"a": 1}', 'True', 'b"x"', '2.5', 'object()', 'len'),
    'bool': ('"yes"', '3', 'None', '(True,)', '2.0'),
    'wholes': ('"abc"', '3', 'None', '("a",)', '(1.5,)', '({},)', '(True,)', '((1,),)', 'float("nan")', 'len'),
    'reals': ('"abc"', 'None', '("a",)', '({},)', '(True,)', '((1.0,),)', '(float("nan"),)', '(float("inf"),)'),
    'part': ('3', 'None', '"text"', '(1,)', 'True', '{"nonsense": 1}', 'len', 'b"x"'),
}
FIELDS = {
    'whole': (
        'seed', 'seeds', 'data.views', 'data.bucket_run', 'teacher.members', 'teacher.views', 'teacher.folds',
        'teacher.keep', 'fits.combined.steps', 'fits.combined.batch_size', 'fits.baseline.accumulate',
        'fits.combined.peers', 'teacher.fit.steps', 'teacher.fit.batch_size', 'run.cells', 'run.chunk',
        'run.validate_every', 'run.save_every', 'run.profile', 'run.anatomy_every', 'launch.processes',
        'launch.slurm.tasks', 'launch.slurm.parallel', 'launch.slurm.minutes', 'launch.slurm.cpus',
        'launch.slurm.gpus', 'accept.transfer_size', 'accept.max_params', 'retry.attempts', 'tune.trials', 'tune.batch',
        'tune.parts', 'tune.keep_one_in',
    ),
    'real': (
        'data.label_noise', 'teacher.bound', 'fits.combined.learning_rate', 'fits.combined.weight_decay',
        'fits.baseline.terms_learning_rate', 'fits.distill.terms_weight_decay', 'teacher.fit.learning_rate',
        'run.memory', 'launch.slurm.memory', 'accept.score', 'accept.gap_recovered', 'terms.soft.temperature',
        'terms.hard.smoothing', 'fits.combined.weights.soft', 'fits.combined.sparsity', 'fits.combined.bits',
        'fits.baseline.input_bits', 'fits.baseline.rank', 'accept.max_kilobytes', 'accept.accuracy_drop',
    ),
    'text': (
        'title', 'baseline', 'expected', 'data.source', 'teacher.net', 'teacher.weights', 'teacher.pretrained',
        'teacher.inputs', 'teacher.mode', 'teacher.precision', 'student.net', 'student.inputs', 'terms.soft.kind',
        'terms.hard.kind', 'terms.soft.form', 'task.kind', 'fits.combined.teacher', 'fits.combined.examples',
        'fits.combined.optim.name', 'fits.combined.optim.schedule', 'run.runner', 'run.layout', 'run.precision',
        'launch.where', 'launch.slurm.cluster', 'launch.slurm.partition', 'accept.method', 'data.preprocess.kind',
        'data.augment.kind', 'student.pretrained', 'fits.combined.answer',
    ),
    'bool': ('data.stream', 'data.consistent', 'track.tensorboard', 'track.wandb'),
    'wholes': ('data.transfer_sizes', 'data.classes', 'data.buckets', 'student.args.widths', 'teacher.args.widths',
               'retry.transfer_size'),
    'reals': ('retry.temperature', 'retry.weight', 'retry.learning_rate', 'retry.sparsity', 'retry.bits'),
    'part': (
        'data', 'teacher', 'student', 'terms', 'fits', 'methods', 'run', 'launch', 'launch.slurm', 'accept', 'retry',
        'tune', 'track', 'search', 'task', 'terms.soft', 'fits.combined', 'fits.combined.optim',
        'fits.combined.weights', 'teacher.fit', 'data.preprocess', 'data.augment', 'data.mix', 'assistants',
        'student.start', 'fits.combined.change',
    ),
}  # fmt: skip
BELOW_ONE = tuple(field for field in FIELDS['whole'] if field not in (
    'seed', 'teacher.folds', 'teacher.keep', 'run.profile', 'run.anatomy_every', 'launch.slurm.parallel',
    'launch.slurm.gpus', 'accept.transfer_size', 'accept.max_params', 'retry.attempts'))  # fmt: skip
HUGE = ('data.views', 'seeds', 'seed', 'fits.combined.batch_size', 'teacher.fit.batch_size', 'fits.combined.steps',
        'teacher.members', 'fits.combined.peers', 'fits.combined.accumulate', 'data.bucket_run')  # fmt: skip
NAMED = ('data.source', 'teacher.net', 'student.net', 'terms.soft.kind', 'task.kind', 'run.runner', 'run.layout',
         'run.precision', 'teacher.mode', 'launch.where', 'accept.method', 'baseline', 'fits.combined.teacher',
         'fits.combined.optim.name', 'fits.combined.optim.schedule', 'fits.combined.examples', 'terms.soft.form',
         'data.preprocess.kind', 'data.augment.kind')  # fmt: skip
ODD = ('ünï', '日本語', '../../etc/passwd', 'x' * 5000, 'a b', '$(id)', '[/b]', '{}', '%s', 'a:b', ':', '.', '..',
       'os:getcwd', 'sys:nothing', 'json:loads', '-', '\u202e', '\t', "'", 'a\\b', 'nan', '[bold]', 'mlp.', '.mlp',
       'kdjax:x')  # fmt: skip
BADNAMES = ('/elsewhere/x', 'a/b', '../x', '..', 'report', 'cache', 'evaluate', 'teacher', 'average', 'a+b', 'x' * 300,
            'a\\0b', 'grid', '', ' ', 'a\\nb', 'folds', 'examine', 'a\\\\b', '~', '[/b]')  # fmt: skip

# Lines of get_config, and what may stand for '@'.
ARRANGED = (
    ("config.fits['@'] = base.fit(hard=1.0); config.methods.combined = ('@',)", BADNAMES),
    ("config.fits['@'] = base.fit(hard=1.0); config.methods.extra = ('@',)", BADNAMES),
    ("config.assistants['@'] = base.teacher()", BADNAMES),
    ("config.methods.combined = ('combined', 'combined')", ('',)),
    ('with config.ignore_type(): config.methods.combined = @', ('(1,)', 'None', '3', '()', '(None,)', '[]', '((),)')),
    ('config.methods.combined = @', ('()', '(1, 2)', '"combined"', '(3,)', '{}', '("nobody",)')),
    ('del config.@', ('student.net', 'teacher.fit', 'data', 'fits', 'seeds', 'run.chunk', 'terms.soft.kind', 'student',
                      'task.kind', 'data.source', 'methods', 'fits.combined.steps', 'retry', 'fits.combined.weights')),
    ('config.@ = 3', ('epochs', 'data.path', 'fits.combined.epochs', 'run.device', 'accept.f1', 'teacher.lr',
        'tune.steps',
                      'terms.soft.temprature', 'student.arg', 'retry.tempratures')),
    ('config.fits.combined.optim.@', (
        'momentums = 0.9', 'steps = 3', "name = 'sgd'; config.fits.combined.optim.momentum = 2.0", 'b1 = 1.5',
            'eps = -1.0',
        'b2 = 1.0', 'milestones = 3', 'milestones = (2.0, 3.0)', 'clip = -1.0', 'ema = 1.0', 'factor = -2.0',
        'delta = -0.9', 'nesterov = 3', 'warmup = 1.5', 'max_norm = -1.0', 'decay = 3', 'schedule = 4',
            'momentum = None',
        'milestones = (0.9, 0.1, None)', 'momentum = float("nan")', 'clip = float("inf")', 'ema = float("nan")')),
    ('config.terms.soft.schedules = @', (
        '(("temperature", 1.0, 0.0, 5),)', '(("temperature", float("nan"), 1.0, 5),)', '3', '("temperature",)',
        '(("temperature", 1.0, 2.0, 0),)', '(("temperature", 1.0, 2.0, "a"),)', '((1, 2, 3, 4),)', '(3,)',
        '(("weight", -1.0, 2.0, 5),)', '(("temperature", 1.0, float("inf"), 5),)')),
    ('config.student.args = @', ('{1: 2}', '{"widths": None}', '{"dropout": 1.5}', '{"dropout": -1.0}',
        '{"dropout": "a"}',
                                 '{"classes": 3.5}', '{"precision": 3}', '{"widths": "ab"}', '{"hidden": 3}')),
    ("config.student.net = 'cnn.cnn'; config.student.args = {'widths': @}",
     ('()', '(0,)', '(-1,)', '(1.5,)', '3', 'None', "('a',)", '(10**12,)')),
    ('config.data.args = @', ("{'validation': -1}", "{'validation': 10**9}", "{'validation': 'x'}", "{'pth': 3}",
                              "{'test': None}", '{3: 4}')),
    ('config.data.augment = @', (
        '{}', '()', '(3,)', '{"kind": "augment.crop", "padding": -1}', '{"kind": "augment.crop", "padding": 10**9}',
        '{"kind": "augment.crop", "padding": 1.5}', '{"kind": "augment.crop", "border": 3}', '[{"kind": None}]',
        '{"kind": "augment.chain"}', '{"padding": 2}', '{"kind": "augment.crop", "border": "x"}')),
    ("config.data.preprocess = {'kind': 'preprocess.normalise', 'mean': @}", (
        "(0.5,), 'std': (float('nan'),)", "(0.5,), 'std': (0.0,)", "(0.5,), 'std': (-1.0,)", "0.5, 'std': 'a'",
        "None, 'std': None", "(0.5, 0.5, 0.5, 0.5, 0.5, 0.5), 'std': (1.0,)")),
    ("config.teacher.mode = 'online'; config.data.mix = {'kind': 'mix.mixup', 'alpha': @}",
     ('-1.0', '0.0', 'float("nan")', 'None', '"a"')),
    ('config.search = base.Search(@)', (
        '{3: (1.,)}', '{"terms.soft.temperature": (float("inf"), 2.)}', '{"terms.soft.temperature": (0., 2.)}',
        '{"teacher.fit.learning_rate": (1., 2.)}', '{"seeds": (1., 2.)}', '{"fits.*.learning_rate": (-1., 2.)}',
        '{"*": (1.,)}', '{"": (1.,)}', '{"terms.soft.kind": (1., 2.)}', '3', '{"terms.soft.temperature": 3}', '"ab"',
        '{"terms.soft.temperature": tuple(range(1, 10**5))}')),
    ('config.data.transfer_sizes = (1,); config.data.classes = (3,)', ('',)),
    ('config.retry.attempts = 1; config.accept.score = 0.999; config.retry.@', (
        'transfer_size = (99999,)', 'temperature = (-1.0,)', 'weight = (-1.0,)', 'learning_rate = (-1.0,)',
        'transfer_size = (0,)', 'temperature = (float("nan"),)')),
    ('config.fits.combined.weights = @', ("{'soft': -1.0}", "{'soft': 'a'}", "{'nobody': 1.0}", '{}', '{3: 1.0}',
                                          "{'soft': float('nan')}", "{'soft': None}")),
    ('config.assistants.a = base.teacher(); config.assistants.a.@', (
        "fit.teacher = 'b'; config.assistants.a.fit.weights = {'soft': 1.0}", 'members = 0', 'views = -1',
        "mode = 'x'", "net = 'mlp.x'", "weights = 'nowhere.pt'", 'fit.steps = 0')),
    ('config.fits.combined.change = @', (
        '{"kind": "quantise"}', '{"keep": 0.5}', '{"kind": "narrow"}', '{"kind": "narrow", "keep": 2.0}',
        '{"kind": "narrow", "keep": "a"}', '{"kind": "narrow", "share": 0.5}', '{"kind": "factor"}',
        '{"kind": "factor", "ranks": 3}', '{"kind": "factor", "ranks": {"nobody/kernel": 8}}',
        '{"kind": "factor", "ranks": {"head/kernel": 0}}', '{"kind": "factor", "ranks": {"head/kernel": 1.5}}',
        '{"kind": "quantize", "nobody": 3}', '{"kind": "quantize", "last": "x"}')),
    ('config.fits.combined.@', (
        'bits = 1.0; config.fits.combined.change = {"kind": "quantize"}', 'sparsity = 1.5', 'answer = "nobody"',
        'sparsity = 1.0; config.fits.combined.optim.pruning = "layer"', 'optim.pruning = "nobody"', 'answer = "soft"',
        'teacher = "before"', 'input_bits = -3.0; config.fits.combined.change = {"kind": "quantize"}')),
    ('config.student.start = @', ('{"x": "y"}', '{"x": 3}', '{"x": ""}')),
    ("config.run.runner = 'sharded'; config.fits.combined.batch_size = @", ('30', '1', '33')),
    ('config.expected = @', ("'nowhere.json'", "'/'", "'README.md'", "'x' * 4000", r"'a\0b'")),
    ('with config.ignore_type(): config.title = @', ('3', 'None', '[1]')),
    ('config.launch.slurm.extra = @', ('{1: 2}', '{"a": object()}', '{"a": len}')),
    ('config.@ = 10**13', ('data.views', 'seeds', 'seed', 'fits.combined.batch_size', 'fits.combined.steps')),
    ('config.@', ("teacher.net = 'mlp'", "student.net = 'os:getcwd'", "data.source = 'os:getcwd'",
        "data.source = 'json:loads'",
                  "terms.soft.kind = 'os:getcwd'", "task.kind = 'os:getcwd'", "data.source = 'nobody:nothing'",
                  "terms.soft = {'temperature': 3.0}", 'terms.soft = {}', 'task = {}',
                  "terms['a.b'] = config.terms.soft",
                      "terms['a/b'] = config.terms.soft; config.fits.combined.weights = {'a/b': 1.0}",
                  "data = {'source': 'digits.digits'}", "teacher = {'net': 'mlp.mlp'}",
                      "fits.combined = {'steps': 3}")),
)  # fmt: skip
LASTS = (  # of get_config, instead of its last line
    'return', 'return {}', 'return ...', 'return 3', 'return get_config', 'return config.to_dict()', 'return [config]',
    'return base.ConfigDict()', 'return type(config)()', 'raise SystemExit(0)', 'raise SystemExit',
        'raise KeyError("x")',
    "raise ValueError('a' * 9999)", r"raise ValueError('a\nb\nc')", '1 / 0', 'assert False', 'return get_config(arg)',
    'exit()', 'raise StopIteration', 'yield config', 'raise BaseException("b")', 'return config["nobody"]',
    'return undefined', 'retrun config',
)  # fmt: skip
FIRSTS = (  # of the file
    'import nobody', 'import kdjax.nobody', 'from configs import nobody', 'from configs.base import nobody',
    'raise SystemExit(0)', 'raise SystemExit(3)', '1 / 0', 'import sys; sys.exit()', 'x = y', 'raise RuntimeError',
    'assert 0, (1, 2)', "int('a')", "open('/nowhere')", '  x = 1', 'def f(', "raise OSError('a')",
)  # fmt: skip
FILES = (  # whole ones
    'get_config = 3', '', '\x00\x01', b'\xff\xfe\xfa', '{"seeds": 3}', '    indented = 1', 'class get_config: pass',
    'get_config = None', 'def get_config(arg): return (' * 200, '"""unfinished', 'def get_config(): return 3',
    'def get_config(a, b): return 3', 'def get_config(*, arg): return 3', 'lambda: 3', 'def config(arg): return 3',
)  # fmt: skip
AXES = (  # values of a sweep, and what may stand for '@'
    ('@', ('[1, 2]', '3', 'None', '[]', '{}', "'abc'", '[()]', '[(1, 2)]', '(x for x in [3])', 'rows',
        'rows.axis', '[None]',
           '[rows.Row({}, {})]', "[rows.Row(3, {'method': 'combined'})]", '[rows.Row({}, 3)]',
               '[rows.Row({1: 2}, {1: 2})]',
           'undefined', '1 / 0', '[3] * 10**5')),
    ("rows.axis('method', @)", ('3', 'None', '(1,)', "'nobody'", 'len', "'x' * 3000", '')),
    ("rows.choice('x', @)", ("{'a': 3}", "{3: {'seeds': 2}, 'a': None}", '[1]', '{}', "{'a': {3: 4}}")),
    ('rows.@', ('axis(3, 1)', 'axis()', 'product(3)', 'product([3])', 'chained(3)', 'zipped(3, 4)', 'nobody()')),
    ("rows.product(rows.axis('method', 'combined'), rows.axis('method', 'combined'))", ('',)),
    ("rows.zipped(rows.axis('method', 'combined'), rows.axis('seed', 1, 2))", ('',)),
    ("rows.product(METHODS, rows.axis('seed', @))",
     ('-1', '1.5', 'None', "'a'", '2**32', 'True', '10**20', "float('nan')")),
    ("rows.product(METHODS, rows.axis('fits.*.learning_rate', @))", ("float('inf')", "float('nan')", '-1.0',
        'None', "'a'")),
    ("rows.product(METHODS, rows.axis('data.transfer_sizes', @))", ('(50, 60)', '0', '99999', 'None', '1.5')),
    ("rows.product(METHODS, rows.axis('seeds', @))", ('10**12', '0', '-1', '10**9')),
    ("rows.product(METHODS, rows.axis('fits.*.batch_size', @))", ('10**11', '0', '-1')),
    ("rows.product(METHODS, rows.axis('student.args.widths', @))", ('(0,)', '(10**12,)', 'None', '(1.5,)')),
    ("rows.sampled(@, {'terms.soft.temperature': Range(1., 2.)})", ('0', '-1', '2.5', "'a'")),
    ("rows.sampled(4, {'terms.soft.temperature': @})",
     ('3', 'None', 'Range(2., 1.)', 'Range(0., 1., log=True)', "Range(1., float('inf'))", '(1., 2.)')),
    ("rows.axis('method', 'combined') + [@]", ('3', 'None', '()')),
)  # fmt: skip
SPACES = (
    '3', 'None and 3', '{}', '[1]', "{'terms.soft.temperature': 3}", "{'terms.soft.temperature': Range(2., 1.)}",
    "{'terms.soft.temperature': Range(-1., 1.)}", "{'nobody': Range(1., 2.)}", '{3: Range(1., 2.)}', '1 / 0',
    "{'terms.soft.temperature': ('a', 'b')}", "{'terms.soft.temperature': Range('a', 'b')}",
    "{'terms.soft.temperature': Range(1., float('inf'))}", "{'terms.soft.temperature': ()}", "'abc'",
    "{'seeds': Range(1., 2.)}", "{'fits.nobody.learning_rate': Range(1., 2.)}", "{'run.runner': ('a', 'b')}",
)  # fmt: skip
ROW = ('{"point": {"method": "combined"}, "metric": "accuracy", "value": 0.9, "checkpoint": "last", '
       '"certainty": "secondary"}')  # fmt: skip
EXPECTED = '{"source": "S", "rows": [' + ROW + ']}'
CHANGES = (('0.9', '90'), ('0.9', 'NaN'), ('0.9', '"a"'), ('accuracy', 'x'), ('"last"', '3'), ('"last"', '["last"]'),
           ('{"method": "combined"}', '{}'), ('{"method": "combined"}', '[1]'), ('"combined"', '[1]'),
           ('"value": 0.9, ', ''), ('"value"', '"vallue"'), ('"secondary"', 'null'), ('"S"', '" "'),
               ('{"s', '\ufeff{"s'),
           (']}', ']}x'), ('"point"', '"n": 0, "point"'), ('"point"', '"sd": -1, "point"'), ('{"source"', '{"sauce"'),
           ('"method"', '"nobody"'))  # fmt: skip
OTHER = (b'', b'{', b'[]', b'3', b'null', b'{}', b'{"source": 3, "rows": []}', b'{"source": "S", "rows": 3}',
         b'{"source": "S", "rows": [1]}', b'[' * 100_000, b'\xff\xfe\x00', bytes(50))  # fmt: skip
WEIGHTS = (b'', b'text', b'PK\x03\x04', b'\x80\x02}q\x00.', bytes(range(100)), b'PK\x05\x06' + bytes(18))


def draw(seed, count, family=''):
    """So many cases of a seed."""
    rng = random.Random(seed)
    makers = {name: maker for name, maker in FAMILIES.items() if family in ('', name)}
    names = [name for name in makers for _ in range(makers[name][1])]
    return [makers[name][0](rng) for name in (rng.choice(names) for _ in range(count))]


def number(rng, *least):
    """A number that no count is."""
    return rng.choice([*least, -1, -rng.randint(2, 10**6), -(10**12)])


def wrong_flag(rng):
    """Another type on the command line."""
    kind = rng.choice(['whole', 'real', 'bool', 'wholes'])
    value = {
        'whole': ('three', '1.5', 'None', '1,2', '', '1e3', '0x', 'nan', '(1,)'),
        'real': ('x', 'None', '(1,', '', 'nan', 'inf', '-inf', '1,5', '{}'),
        'bool': ('maybe', '3', 'None', '(True,)'),
        'wholes': ('(1,', "('a',)", '(1.5,)', 'None', 'abc', "{'a': 1}", '(-1,)'),
    }[kind]  # fmt: skip
    return Case('types on the command line', (f'--config.{rng.choice(FIELDS[kind])}={rng.choice(value)}',))


def odd_text(rng):
    """Text that is no name."""
    field = rng.choice(NAMED)
    return Case('odd text', (f'--config.{field}={rng.choice(ODD)}',))


def unknown_field(rng):
    """A field with a slip of the pen."""
    field = rng.choice([field for fields in FIELDS.values() for field in fields])
    at = rng.randrange(len(field) + 1)
    letter = rng.choice('qxzjk')
    wrong = rng.choice([field[:at] + letter + field[at:], f'{field}.{letter}', f'{letter}.{field}', field + '.'])
    flag = f'--config.{wrong}={rng.choice(["1", "x", "(1,)"])}'
    search = f"--search={{'{wrong}': (1., 2.)}}"
    return Case('unknown fields', (rng.choice([flag, flag, flag, search]),))


def unknown_name(rng):
    """A name with a slip of the pen."""
    field = rng.choice(NAMED)
    letter = rng.choice('qxzjk')
    value = rng.choice([letter, f'mlp.{letter}', f'hinton.{letter}', f'{letter}.mlp', f'cached{letter}', 'None',
                        f'{letter}:{letter}', 'mlp', 'kdjax.nets.mlp:' + letter])  # fmt: skip
    return Case('unknown names', (f'--config.{field}={value}',), mode=rng.choice(['plan', 'run', 'tune']))


def out_of_range(rng):
    """A number on the command line that cannot be."""
    field, value = rng.choice([
        (rng.choice(BELOW_ONE), number(rng, 0)),
        (rng.choice(BELOW_ONE), number(rng, 0)),
        (rng.choice(FIELDS['whole']), number(rng)),
        (rng.choice(FIELDS['whole']), number(rng)),
        (rng.choice([field for field in FIELDS['real'] if field != 'accept.score']),
         rng.choice(['-1.0', '-0.5', 'nan', 'inf', '-inf', '-1e30'])),
        ('seed', rng.choice([2**32, 2**32 - 1, 2**63, 10**30])),
        (rng.choice(HUGE), 10 ** rng.randint(11, 25)),
        ('terms.soft.temperature', rng.choice([0.0, -2.0])),
        ('terms.hard.smoothing', rng.choice([1.0, 1.5, -0.1])),
        ('data.label_noise', rng.choice([1.5, -0.1, 100.0])),
        ('fits.combined.optim.warmup', rng.choice([-1, 20, 10**6])),
        (rng.choice(['student.args.widths', 'teacher.args.widths']),
         rng.choice(['(0,)', '(-1,)', '(1000000000000,)', '(8,0)', '(10000000,10000000)'])),
        ('data.transfer_sizes', rng.choice(['(0,)', '(-5,)', '(99999,)', '(1000000000000,)'])),
        ('data.classes', rng.choice(['(10,)', '(-1,)', '(0,99)', '(1000000000000,)'])),
        ('data.buckets', rng.choice(['(8,4)', '(0,)', '(-1,)', '(8,8)', '(8,16)'])),
        ('tune.keep_one_in', 1),
    ])  # fmt: skip
    return Case('numbers out of range', (f'--config.{field}={value}',), mode=rng.choice(['plan', 'run', 'tune']))


def structure(rng):
    """Another type or shape from a Python config."""
    kind = rng.choice(list(FIELDS))
    field, value = rng.choice(FIELDS[kind]), rng.choice(TYPES[kind])
    if (kind, value) == ('real', 'True') or (field, value) == ('data.buckets', '(True,)'):  # these are numbers there
        value = 'None'
    parent, _, last = field.rpartition('.')
    place = f'config.{parent}' if parent else 'config'
    ways = (
        f'config.{field} = {value}',
        f'with config.ignore_type(): config.{field} = {value}',
        f'with config.ignore_type(): config.{field} = {value}',
        f'with config.ignore_type(): {place}.update({{{last!r}: {value}}})',
    )
    return Case('structure', body=rng.choice(ways), mode=rng.choice(['plan', 'plan', 'run']))


def arrangement(rng):
    """Names, chains and arguments of a Python config that cannot be."""
    line, choices = rng.choice(ARRANGED)
    return Case(
        'arrangement', body=line.replace('@', rng.choice(choices)), mode=rng.choice(['plan', 'plan', 'run', 'tune'])
    )


def python(rng):
    """A config file that does not run."""
    whole = CONFIG.format(body='pass')
    text = rng.choice([
        whole.replace("arg=''):", "arg='')"),
        whole.replace("(arg=''", rng.choice(['(', "(a, b, c=''", '(*, arg', '(arg, /, b'])),
        whole.replace('return config.lock()', rng.choice(LASTS)),
        whole.replace('return config.lock()', rng.choice(LASTS)),
        f'{rng.choice(FIRSTS)}\n{whole}',
        rng.choice(FILES),
        whole.replace('    pass', rng.choice(['    config.methods["v1.5"] = ("combined",)',
            '    config.lock().epochs = 3',
                                              '    config.data.pth', '    config.fits["a.b"] = base.fit()'])),
        whole.replace('base.config()', 'base.' + rng.choice(['get_config("x")', 'nobody()', 'config(3)', 'fit()',
                                                             'teacher()', 'get_config("quick=3")'])),
    ])  # fmt: skip
    return Case('config files', text=text, mode=rng.choice(['plan', 'run', 'sweep', 'tune']))


def files(rng):
    """Files that a config names."""
    case = rng.choice(['expected', 'expected', 'weights', 'npz', 'path'])
    if case == 'expected':
        content = rng.choice([rng.choice(OTHER), *[EXPECTED.replace(*rng.choice(CHANGES), 1).encode()] * 3])
        mode = rng.choice(['plan', 'run', 'sweep', 'plan', 'tune'])
        swept = mode == 'sweep' or (mode == 'plan' and rng.random() < 0.5)
        return Case('files', body="config.expected = '{dir}/e.json'", files=(('e.json', content),), mode=mode,
                    more=SWEEP.format(function='sweep', value=METHODS) if swept else '')  # fmt: skip
    if case == 'weights':
        field, end = rng.choice(['weights', 'pretrained']), rng.choice(['pt', 'pth', 'safetensors'])
        return Case('files', (f'--config.teacher.{field}={{dir}}/w.{end}',),
                    files=((f'w.{end}', rng.choice(WEIGHTS)),), mode=rng.choice(['plan', 'run']))  # fmt: skip
    if case == 'npz':
        value = rng.choice([b'', b'text', b'PK\x03\x04' + bytes(30)])
        return Case('files', body="config.data.source, config.data.args = 'arrays.arrays', {'path': '{dir}/a.npz'}",
                    files=(('a.npz', value),), mode=rng.choice(['plan', 'run']))  # fmt: skip
    where = rng.choice(["'{dir}/nothing.npz'", "'{dir}'", "''", '3', 'None', '(1,)'])
    source = rng.choice([
        "'arrays.arrays', {'path': %s}", "'folder.images', {'folder': %s, 'size': 8}",
        "'records.images', {'folder': %s, 'size': 8}",
    ]) % where  # fmt: skip
    return Case('files', body=f'config.data.source, config.data.args = {source}', mode=rng.choice(['plan', 'run']))


def sweep(rng):
    """Rows that cannot be."""
    if rng.random() < 0.2:
        return Case('sweep rows', more=SWEEP.format(function='space', value=rng.choice(SPACES)), mode='tune')
    kind = rng.choice(['whole', 'real', 'text', 'part'])
    field = rng.choice([field for field in FIELDS[kind] if field not in ('title', 'expected', 'search')])
    typed = f"rows.product(METHODS, rows.axis('{field}', {rng.choice(TYPES[kind])}))"
    missing = f"rows.product(METHODS, rows.axis('nobody.{field}', 1))"
    line, choices = rng.choice([*AXES, (typed, ('',)), (typed, ('',)), (typed, ('',)), (missing, ('',))])
    value = line.replace('METHODS', METHODS).replace('@', rng.choice(choices))
    mode = rng.choice(['plan', 'plan', 'sweep', 'sweep', 'report'])
    if mode == 'report' and ('(10**12,)' in value or '99999' in value):  # whose shapes a report does not look at
        mode = 'plan'
    return Case('sweep rows', more=SWEEP.format(function='sweep', value=value), mode=mode)


FAMILIES = {  # -> what draws one, and how often
    'types on the command line': (wrong_flag, 2),
    'odd text': (odd_text, 1),
    'unknown fields': (unknown_field, 1),
    'unknown names': (unknown_name, 1),
    'numbers out of range': (out_of_range, 4),
    'structure': (structure, 5),
    'arrangement': (arrangement, 5),
    'config files': (python, 3),
    'files': (files, 3),
    'sweep rows': (sweep, 4),
}


def write(case, folder):
    """Writes the files of a case; returns its command line, without the program."""
    for name, content in case.files:
        (folder / name).write_bytes(content)
    text = CONFIG.format(body=case.body or 'pass') + case.more if case.text is None else case.text
    config = folder / 'case.py'
    if isinstance(text, str):
        text = text.replace('{dir}', str(folder)).encode()
    config.write_bytes(text)
    flags = [flag.replace('{dir}', str(folder)) for flag in case.flags]
    return [f'--config={config}', *flags, f'--workdir={folder / "w"}', f'--mode={case.mode}']


def answer(case):
    """What the command answers to a case, in a process that is a copy of this one, where all is imported."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        argv = ['run.py', *write(case, folder)]
        err = folder / 'stderr'
        child = os.fork()
        if child == 0:
            _be_the_command(argv, err)
        code, seconds = _waited(child)
        said = err.read_text(errors='replace') if err.exists() else ''
        return Answer(code, said, seconds, any((folder / 'w').glob('*-*')))


def _be_the_command(argv, err):
    code = 99
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        for number, path in ((1, os.devnull), (2, str(err))):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        import run

        try:
            code = run.main(argv)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code or 0)


def _waited(child):
    """The exit code of a process, None of one that had to be stopped; and its seconds of the processor."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, PATIENCE


def warm():
    """Imports what a command needs, so that the time that is left is that of the answer."""
    import warnings

    warnings.filterwarnings('ignore', 'os.fork')
    import jax  # noqa: F401
    import optuna  # noqa: F401
    import sklearn.datasets  # noqa: F401

    import run  # noqa: F401


def main():
    """Draws, asks, and prints."""
    seed, count, *family = sys.argv[1:]
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=4')
    os.environ.setdefault('NPROC', '16')
    warm()
    counts = collections.Counter()
    for place, case in enumerate(draw(int(seed), int(count), *family)):
        given = answer(case)
        counts[given.verdict] += 1
        counts[case.family, given.verdict] += 1
        if given.verdict != 'one line':
            shown = case.text[:400] if case.text is not None else case.body + case.more
            print(f'--- {place} {case.family}: {given.verdict} ({given.seconds:.1f} s) --mode={case.mode}',
                  ' '.join(flag[:100] for flag in case.flags), shown, given.error[-500:], sep='\n',
                      flush=True)  # fmt: skip
    for key, found in sorted(counts.items(), key=str):
        print(found, key)


if __name__ == '__main__':
    main()
