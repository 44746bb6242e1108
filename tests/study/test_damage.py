"""Whatever happens to a file of a workdir, its name is said, or nothing changes; and what is advised, helps.

A run and a sweep in small are finished once. Each draw damages one file of a copy, forgets the last few stages, and
goes on: it must end in the same numbers, or say in one line what to delete, after which it ends in the same numbers.
"""

import dataclasses
import json
import random
import re
import runpy
import shutil
from pathlib import Path

import pytest

from kdjax.errors import UsageError
from kdjax.study.recipe import execute, plan
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep import collect, expand, rows, worker
from kdjax.train.stop import StopSignals

pytestmark = pytest.mark.xdist_group('damage')  # its tests share what takes long to make
CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
FEW, MANY = 5, 300


class Heard:
    """A screen that keeps what it is to show."""

    def __init__(self):
        self.said = []

    def show(self, *what):
        self.said += map(str, what)

    def __getattr__(self, name):
        return lambda *arguments: None


def shortened(name):
    """A config whose fits have four steps, and whose combined one has a term that learns."""
    config = runpy.run_path(str(CONFIGS / name))['get_config']()
    with config.unlocked():
        config.seeds = 1
        config.search = type(config.search)()
        config.terms['hint'] = {'kind': 'fitnets.Hint', 'layer': 'hidden1'}
        config.fits.distill.weights['hint'] = 1.0
        for fit in (config.teacher.fit, *config.fits.values()):
            fit.steps = 4
        config.run.chunk, config.run.validate_every, config.run.save_every = 2, 2, 2
    return config.lock()


RECIPE = resolve(shortened('tiny.py'))
STAGES = list(plan.stages_of(RECIPE).values())
METHODS = rows.product(rows.axis('method', 'combined', 'soft, then hard'), rows.axis('terms.soft.temperature', 2, 4))
SWEEP = expand.expand(shortened('tiny_sweep.py'), METHODS)


def run(workdir, screen=None):
    """Carries out the recipe, without its report."""
    with execute.locked(workdir), StopSignals() as stop:
        execute.execute(STAGES, Context(RECIPE.execution, screen or Heard(), stop), workdir)


def sweep(workdir, screen=None):
    """Trains the sweep, and collects what its report is made of."""
    with execute.locked(workdir, shared=True), StopSignals() as stop:
        worker.Worker(SWEEP, workdir, screen or Heard(), stop).work()
    return timeless(dataclasses.asdict(collect.results(SWEEP, workdir, '')))


def timeless(value):
    """What was found, without what no two runs share."""
    if isinstance(value, dict):
        return {name: timeless(inner) for name, inner in value.items() if name not in ('latency_ms', 'provenance')}
    return [timeless(inner) for inner in value] if isinstance(value, list | tuple) else value


JOBS = {'run': run, 'sweep': sweep}


def numbers(workdir):
    """What every stage found, by folder."""
    artifacts = {path.parent.name: json.loads(path.read_text()) for path in workdir.glob('*/artifact.json')}
    return {folder: timeless(stored['result']) for folder, stored in artifacts.items()}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A finished workdir of every job, and its numbers."""
    found = {}
    for name, job in JOBS.items():
        workdir = tmp_path_factory.mktemp(name)
        reported = job(workdir)
        found[name] = workdir, numbers(workdir), reported
    return found


def flip(path, chance):
    raw = bytearray(path.read_bytes())
    if raw:
        place = chance.randrange(8 * len(raw))
        raw[place // 8] ^= 1 << place % 8
        path.write_bytes(raw)


def cut(path, chance):
    path.write_bytes(path.read_bytes()[: int(chance.random() * path.stat().st_size)])


def zero(path, chance):
    raw = bytearray(path.read_bytes())
    start = chance.randrange(len(raw) + 1)
    raw[start : start + 64] = bytes(len(raw[start : start + 64]))
    path.write_bytes(raw)


def empty(path, chance):
    path.write_bytes(b'')


def delete(path, chance):
    path.unlink()


def folder_instead(path, chance):
    path.unlink()
    path.mkdir()


def swap(path, chance):
    """With another file of its name: of another stage, another step, another tree."""
    others = sorted(other for other in path.parents[2].rglob(path.name) if other != path and other.is_file())
    if others:
        other = chance.choice(others)
        one, two = path.read_bytes(), other.read_bytes()
        path.write_bytes(two)
        other.write_bytes(one)


DAMAGES = (flip, cut, zero, empty, delete, folder_instead, swap)


def chosen(workdir, chance):
    """A file: of every folder, and in it of every part, as often as of any other."""
    place = workdir
    while place.is_dir():
        inside = [path for path in sorted(place.iterdir()) if path.is_file() or any(path.rglob('*'))]
        place = chance.choice([path for path in inside if path.name != '.lock'] or inside)
    return place


def forget(workdir, chance):
    """Takes away the artifacts of the last few stages, which is as if they had not ended."""
    artifacts = sorted(workdir.glob('*/artifact.json'), key=lambda path: path.stat().st_mtime_ns)
    for path in artifacts[chance.randrange(len(artifacts) + 1) :]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def advised(error, workdir):
    """What a message says to delete."""
    if isinstance(error, OSError):
        return Path(error.filename)
    found = re.search(rf'delete ({re.escape(str(workdir))}\S+)', str(error)) or re.search(
        rf'({re.escape(str(workdir))}[^\s:;]+)', str(error)
    )
    assert found, str(error)
    return Path(found[1])


def goes_on(job, workdir, wanted, reported, damaged):
    """Whether it ended as it should at once; if it is told to delete something it does, and must end so then.

    What taught students that are all trained need not be there again.
    """
    for count in range(6):
        try:
            again = job(workdir)
        except (UsageError, OSError) as error:
            named = advised(error, workdir)
            if '\n' in str(error) or not named.exists() or workdir not in named.parents:
                raise AssertionError(f'{damaged}: unclear') from error
            shutil.rmtree(named) if named.is_dir() else named.unlink()
        else:
            found = numbers(workdir)
            gone = {name for name in wanted if name not in found}
            assert not gone or (job is sweep and {name.partition('-')[0] for name in gone} <= {'teacher', 'cache'})
            assert {name: found.get(name, wanted[name]) for name in wanted} == wanted, damaged
            assert again == reported, damaged
            return count == 0
    raise AssertionError(f'{damaged}: what was advised did not help')


def check(finished, name, seed, tmp_path, monkeypatch):
    def endless(seconds):
        raise AssertionError('it waits for something that never comes')

    monkeypatch.setattr(worker.time, 'sleep', endless)
    chance, (whole, wanted, reported) = random.Random(f'{name} {seed}'), finished[name]
    workdir = tmp_path / 'copy'
    shutil.copytree(whole, workdir)
    path, damage = chosen(workdir, chance), chance.choice(DAMAGES)
    damage(path, chance)
    forget(workdir, chance)
    return goes_on(JOBS[name], workdir, wanted, reported, f'{damage.__name__} {path.relative_to(workdir)}')


@pytest.mark.parametrize('seed', [*range(FEW), *(pytest.param(k, marks=pytest.mark.slow) for k in range(FEW, MANY))])
@pytest.mark.parametrize('name', JOBS)
def test_damage_is_named_or_changes_nothing(finished, name, seed, tmp_path, monkeypatch):
    check(finished, name, seed, tmp_path, monkeypatch)


@pytest.fixture
def copied(finished, tmp_path, monkeypatch):
    """Gives a copy of a finished workdir from which the artifacts of some stages are taken away."""
    monkeypatch.setattr(worker.time, 'sleep', lambda seconds: pytest.fail('it waits for something that never comes'))

    def copy(name, *forgotten):
        workdir = tmp_path / 'copy'
        shutil.copytree(finished[name][0], workdir)
        for path in (path for pattern in forgotten for path in workdir.glob(f'{pattern}/artifact.json')):
            path.unlink()
        return workdir

    return copy


def unsealed(path, change):
    """Changes JSON as someone who knows no fingerprint would write it."""
    content = json.loads(path.read_text())
    content.pop('fingerprint', None)
    path.write_text(json.dumps(change(content)))


def without_a_cell(artifact):
    artifact['result']['cells'].pop()
    return artifact


def test_a_grid_that_lacks_a_cell_is_named_and_not_waited_for(copied):
    workdir = copied('sweep')
    grid = next(path for path in workdir.glob('grid-*/artifact.json')
                if len(json.loads(path.read_text())['result']['cells']) > 1)  # fmt: skip
    unsealed(grid, without_a_cell)
    with pytest.raises(UsageError, match=f'^{grid} lacks the cell .*; delete {grid.parent} to have that stage run'):
        sweep(workdir)


@pytest.mark.parametrize('content', ['[]', '[[]]', '[["unknown"]]', '{}', '', '[3]'])
def test_a_division_that_is_not_one_is_named_and_the_sweep_does_not_end_without_its_cells(copied, content):
    workdir = copied('sweep', 'grid-*')
    (division,) = workdir.glob('divisions/*.json')
    division.write_text(content)
    with pytest.raises(UsageError, match=f'^{division} .*; delete it to have the sweep divided anew$'):
        sweep(workdir)


@pytest.mark.parametrize('content', ['', '{}', '[]', '\x00', '{"reads": 3, "versions": {}}'])
@pytest.mark.parametrize('name', ['manifest.json', 'artifact.json'])
def test_a_spoiled_manifest_or_artifact_of_a_grid_is_named_by_the_sweep_and_by_its_report(copied, name, content):
    workdir = copied('sweep', *(['grid-*'] if name == 'manifest.json' else []))
    path = sorted(workdir.glob(f'grid-*/{name}'))[0]
    path.write_text(content)
    for job in (sweep, lambda workdir: collect.results(SWEEP, workdir, '')):
        with pytest.raises(UsageError, match=f'^{path} is damaged .*; delete {path.parent} to have that stage run'):
            job(workdir)


@pytest.mark.parametrize('tree', ['variables', 'terms', 'tables', 'best'])
def test_one_bit_of_a_stored_tree_or_table_never_reaches_what_is_made_of_it(copied, finished, tree):
    """Once it changed the logits that students learn from by up to 9e-4, in silence."""
    workdir = copied('run', 'cache-*', 'distill*', 'combined-*', 'baseline-*', 'evaluate-*')
    for path in (path for place in workdir.glob(f'*/{tree}') for path in place.rglob('*') if path.is_file()):
        flip(path, random.Random(path.name))
    if tree == 'variables':
        with pytest.raises(UsageError, match=rf'^{workdir}/teacher-.* is damaged \(not as it was written\); delete '):
            run(workdir)
    else:  # all of these are made anew
        run(workdir)
        assert numbers(workdir) == finished['run'][1]


def test_what_measures_the_teacher_is_made_anew_where_all_else_is_done(copied, finished):
    """Once the report of a sweep then had no teacher, whatever was run again."""
    assert sweep(copied('sweep', 'examine-*')) == finished['sweep'][2]


def test_what_a_killed_process_left_half_written_goes_at_the_next_start(copied):
    workdir = copied('run', 'evaluate-*')
    (folder,) = workdir.glob('evaluate-*')
    (folder / '.artifact.json.1.partial').write_text('{')
    (folder / 'variables.orbax-checkpoint-tmp-1').mkdir()
    run(workdir)
    assert not [path for path in folder.iterdir() if 'partial' in path.name or 'tmp' in path.name]


def begun_with(path, **code):
    unsealed(path, lambda manifest: {**manifest, 'versions': {**manifest['versions'], **code}})


def test_other_libraries_than_at_the_start_are_said_once_and_kept(copied):
    workdir, screen = copied('run', 'combined-*'), Heard()
    for path in workdir.glob('*/manifest.json'):
        begun_with(path, jax='0.0.1')
    run(workdir, screen)
    assert screen.said == [f'teacher was begun with jax 0.0.1 (now {execute._code()["versions"]["jax"]})']
    (again,) = workdir.glob('combined-*/manifest.json')
    (before,) = json.loads(again.read_text())['earlier']
    assert before['versions']['jax'] == '0.0.1'
    assert execute.earlier(again.parent) == {'jax': '0.0.1'}


def test_a_sweep_says_it_too_and_its_report_has_it(copied):
    workdir, screen = copied('sweep', 'grid-*'), Heard()
    (teacher,) = workdir.glob('teacher-*/manifest.json')
    begun_with(teacher, numpy='0.1')
    sweep(workdir, screen)
    assert len([line for line in screen.said if 'teacher was begun with numpy 0.1' in line]) == 1
    assert collect.results(SWEEP, workdir, '').provenance.earlier == {teacher.parent.name: {'numpy': '0.1'}}


def test_where_nothing_differs_nothing_is_said(copied):
    workdir, screen = copied('run', 'combined-*'), Heard()
    run(workdir, screen)
    assert not screen.said
