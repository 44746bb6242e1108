"""Addresses hash what files hold: the data that a source reads, and the code of objects of one's own."""

import functools
import importlib
import itertools
import os
import sys

import numpy as np
import pytest

from configs import base
from kdjax.study.recipe import contents, plan
from kdjax.study.recipe.context import Datasets
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep import expand, rows

FRESH = itertools.count()  # modules are imported once: each test has its own
SOURCE = """
import numpy as np
from kdjax.dataset import Dataset, Split
from {name}_more import SIZE

def data(shift=0):
    def make(count):
        return Split(np.ones((count, 4, 4), np.float32) * SIZE, (np.arange(count, dtype=np.int32) + shift) % 2)

    return Dataset({{'train': make(60), 'validation': make(20), 'test': make(20)}}, ('a', 'b'))
"""
TERM = """
import dataclasses
from kdjax.techniques.hinton import SoftTargets

@dataclasses.dataclass(frozen=True, kw_only=True)
class Mine(SoftTargets):
    FACTOR = {factor}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(contents, 'SETTLED', 0.0)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes files into a folder from which they can be imported; gives the name of a new module."""
    folder = tmp_path / 'own'
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    name = f'own_{os.getpid()}_{next(FRESH)}'

    def write(code, name=name, **values):
        path = folder / f'{name.replace(".", "/")}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code.format(name=name, **values))
        importlib.invalidate_caches()
        contents._of_module.cache_clear()  # as a new process has it
        return name

    yield write
    for imported in [each for each in sys.modules if each.startswith('own_')]:
        del sys.modules[imported]


def changed(**fields):
    config = base.config()
    with config.ignore_type():
        for path, value in fields.items():
            *parents, last = path.split('__')
            functools.reduce(lambda node, name: node[name], parents, config)[last] = value
    return config.lock()


def keys(config):
    return {name: stage.key for name, stage in plan.stages_of(resolve(config)).items()}


def saved(path, **changes):
    random = np.random.default_rng(0)
    arrays = {}
    for split, size in (('train', 60), ('validation', 20), ('test', 20)):
        arrays[f'{split}_inputs'] = random.normal(size=(size, 4, 4)).astype(np.float32)
        arrays[f'{split}_labels'] = np.arange(size) % 2
    arrays |= changes
    if path.suffix == '.npz':
        np.savez(path, **arrays)
    else:
        path.mkdir(exist_ok=True)
        for name, value in arrays.items():
            np.save(path / f'{name}.npy', value)
    return changed(data__source='arrays.arrays', data__args={'path': str(path)}, data__transfer_sizes=(50,))


@pytest.mark.parametrize('name', ['own.npz', 'own'])
def test_every_stage_has_another_address_when_the_file_of_its_data_holds_something_else(tmp_path, name):
    path = tmp_path / name
    before = keys(saved(path))
    assert keys(saved(path)) == before  # written anew, with the same content
    flipped = keys(saved(path, train_labels=1 - np.arange(60) % 2))
    assert not {*flipped.values()} & {*before.values()}
    assert keys(saved(path)) == before


def test_cells_and_grids_of_a_sweep_know_their_data(tmp_path):
    def cells(config):
        return set(expand.expand(config, rows.axis('method', 'hard labels')).cells)

    assert not cells(saved(tmp_path / 'own.npz')) & cells(saved(tmp_path / 'own.npz', test_labels=np.zeros(20, int)))


@pytest.mark.parametrize('args', [{'folder': 'images', 'size': 4}, {'data_dir': 'images', 'name': 'train'}])
def test_images_added_changed_and_taken_away_are_seen_and_what_is_hidden_is_not(tmp_path, args):
    args = {name: str(tmp_path / value) if value == 'images' else value for name, value in args.items()}
    source = 'folder.images' if 'folder' in args else 'tfds.prepared'
    place = tmp_path / 'images' / 'train' / 'cat'
    place.mkdir(parents=True)
    (place / '1.png').write_bytes(b'one')
    found = [contents.of_files(source, args)]
    for content in (b'two of them', b'one', None):
        (place / '2.png').write_bytes(content) if content else (place / '2.png').unlink()
        found.append(contents.of_files(source, args))
    assert len(set(found)) == 3
    assert found[0] == found[3]
    (place / '.DS_Store').write_bytes(b'x')
    assert contents.of_files(source, args) == found[0]


def test_files_of_records_are_seen_whatever_their_names_end_with(tmp_path):
    folder, found = tmp_path / 'records', []
    folder.mkdir()
    for content in (b'one', b'two', b'one'):
        (folder / 'train.array_record-00000-of-00001').write_bytes(content)
        found.append(contents.of_files('records.images', {'folder': str(folder), 'size': 4}))
    assert found[0] == found[2] != found[1]


def test_a_file_is_read_again_only_when_it_was_touched(tmp_path, monkeypatch):
    path = tmp_path / 'own.npz'
    saved(path)
    read, args = [], {'path': str(path)}
    real = contents.sha256
    monkeypatch.setattr(contents, 'sha256', lambda path: read.append(path) or real(path))
    first = [contents.of_files('arrays.arrays', args) for _ in range(3)]
    assert len(read) == 1
    saved(path, train_labels=np.zeros(60, int))
    assert contents.of_files('arrays.arrays', args) not in first
    assert len(read) == 2


@pytest.mark.parametrize('stored', ['', '[]', '{"x": 3}', 'null', '{'])
def test_what_was_remembered_may_be_lost(tmp_path, stored):
    saved(tmp_path / 'own.npz')
    wanted = contents.of_files('arrays.arrays', {'path': str(tmp_path / 'own.npz')})
    (tmp_path / 'cache' / 'kdjax' / 'contents.json').write_text(stored)
    assert contents.of_files('arrays.arrays', {'path': str(tmp_path / 'own.npz')}) == wanted


@pytest.mark.parametrize('source', ['digits.digits', 'originals.mnist', 'sst2.sentences', 'tfds:mnist'])
def test_what_is_the_same_everywhere_or_not_here_adds_nothing(tmp_path, source, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'nowhere'))
    assert Datasets().content(source, {}) == ''


def test_the_data_of_ones_own_source_are_in_the_address_and_so_are_its_code_and_what_it_imports(module):
    name = module(SOURCE)
    more = module('SIZE = 1', f'{name}_more')
    config = functools.partial(changed, data__source=f'{name}:data', data__transfer_sizes=(50,))
    before = keys(config())
    assert keys(config()) == before
    shifted = keys(config(data__args={'shift': 1}))
    module('SIZE = 1  # and a word', more)
    assert not {*keys(config()).values()} & {*before.values(), *shifted.values()}


def test_a_source_may_say_what_its_data_are(module):
    name = module("""
def data(*, version):
    raise AssertionError('it need not be loaded')

data.content = lambda *, version: version
""")
    assert Datasets().content(f'{name}:data', {'version': 3}) == '3'


def test_the_code_of_ones_own_term_is_in_the_address_of_the_fits_that_have_it(module):
    def found(factor):
        name = module(TERM, factor=factor)
        return keys(changed(terms__soft__kind=f'{name}:Mine'))

    one, other = found(1.0), found(0.0)
    assert one['teacher'] == other['teacher']
    assert one['baseline'] == other['baseline']
    assert all(one[name] != other[name] for name in ('combined', 'distill', 'distill+finetune', 'evaluate'))


@pytest.mark.parametrize('field', ['student__net', 'task__kind', 'data__augment', 'data__preprocess'])
def test_networks_tasks_augmentations_and_preprocessing_of_ones_own_are_seen_wherever_they_are_named(module, field):
    """An address looks through all that it hashes: it need not know where objects are named."""
    value = f'{module("x = 1")}:Thing'
    named = {'deep': [{field: {'kind': value}}]}
    before = contents.of_code(named)
    module('x = 2')
    assert {*before} == {*contents.of_code(named)} == {value.partition(':')[0]}
    assert before != contents.of_code(named)


IMPORTS = [
    'import {p}.b',
    'from {p} import b',
    'from . import b',
    'from .b import x',
    'from .c import y',
    'import {p}.c',
    'def f():\n    from {p}.b import x',
]


@pytest.mark.parametrize('line', IMPORTS)
def test_what_a_module_imports_beside_it_is_its_code_too(module, line):
    package = f'own_{os.getpid()}_{next(FRESH)}'
    module('', f'{package}.__init__')
    module('x = 1', f'{package}.b')
    module('from .b import x as y', f'{package}.c')
    module(line.format(p=package), f'{package}.a')
    before = contents.of_code(f'{package}.a:f')
    assert before
    module('z = 1', f'{package}.unrelated')
    assert contents.of_code(f'{package}.a:f') == before
    module('x = 2', f'{package}.b')
    assert contents.of_code(f'{package}.a:f') != before


@pytest.mark.parametrize('name', ['kdjax.techniques.hinton:SoftTargets', 'os:getcwd', 'tfds:mnist', 'digits.digits',
                                  'nowhere_at_all:Thing', 'a sentence: it has a colon', 'kdjax:nothing'])  # fmt: skip
def test_what_is_no_code_of_ones_own_adds_nothing(name):
    assert contents.of_code([{'kind': name}, 3, None]) == {}
