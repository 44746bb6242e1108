"""A run on a folder of images of any size, as of ImageNet, over several devices; and the plan of a large one."""

import functools
import io
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import processes
import pytest
from PIL import Image
from rich.console import Console

from kdjax import trees
from kdjax.dataset import Dataset
from kdjax.errors import UsageError
from kdjax.study.recipe import build, execute, feeding, plan, plan_table
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep.rows import applied
from kdjax.train import parallel
from kdjax.train.checkpoint import load_variables
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

ROOT = Path(__file__).resolve().parents[3]
IMAGENET = runpy.run_path(str(ROOT / 'configs' / 'imagenet.py'))['get_config']
SMALL = {  # networks that are quickly compiled, and in single precision, so that devices agree
    'student.net': 'cnn.cnn', 'student.args': {'widths': (4,)}, 'teacher.net': 'cnn.cnn',
    'teacher.args': {'widths': (8, 8)}, 'run.precision': 'float32', 'run.optimise': False,
}  # fmt: skip

WIDE = {'student.args': {'widths': (4, 64)}, 'teacher.args': {'widths': (8, 64)}}  # some layers of which 'fsdp' cuts


@pytest.fixture(scope='module')
def painted(tmp_path_factory):
    """imagenet/train and imagenet/val with three classes of a few images each, JPEG and PNG, brighter by class."""
    root, random = tmp_path_factory.mktemp('data'), np.random.default_rng(0)
    for split, count in (('train', 8), ('val', 4)):
        for place, name in enumerate(('n01', 'n02', 'n03')):
            folder = root / 'imagenet' / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(70 * place, 70 * place + 80, (*random.integers(40, 60, 2), 3), np.uint8)
                Image.fromarray(pixels).save(folder / f'{number}.{("png", "JPEG")[number % 2]}')
    return root


def config(painted, arg='quick,batch=8', **fields):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('KDJAX_DATA', str(painted))
        return applied(IMAGENET(arg), {**SMALL, **fields})


def ran(config, workdir, until=None):
    """The final weights of the student, and what validation said on the way."""
    recipe = resolve(config)
    context = Context(recipe.execution, Screen(quiet=True), StopSignals())
    plan.check_shapes(recipe, context.datasets(recipe.data))
    execute.execute(list(plan.stages_of(recipe).values()), context, workdir)
    result = {name: artifact.result for name, artifact in context.done.items()}
    return load_variables(context.done['KD'].folder / 'variables'), result['KD']['history']


@pytest.mark.slow
@pytest.mark.parametrize('runner', ['sharded', 'fsdp'])
def test_over_four_devices_it_ends_as_on_one(runner, painted, tmp_path):
    assert len(jax.devices()) == 4
    # Two cells, which share a stream.
    alone, history = ran(config(painted, seeds=2, **WIDE, **{'run.runner': 'single'}), tmp_path / 'alone')
    found, again = ran(config(painted, seeds=2, **WIDE, **{'run.runner': runner}), tmp_path / 'several')
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4), found, alone)
    assert [line['step'] for line in again] == [line['step'] for line in history]


@pytest.mark.slow
@pytest.mark.parametrize('runner', ['sharded', 'fsdp'])
def test_two_processes_read_their_parts_and_end_as_one(runner, painted, tmp_path):
    with socket.socket() as probe:
        probe.bind(('localhost', 0))
        port = probe.getsockname()[1]
    flags = [f'--config.{name}={value!r}' if isinstance(value, dict) else f'--config.{name}={value}'
             for name, value in {**SMALL, **WIDE, 'run.runner': runner}.items()]  # fmt: skip
    command = [sys.executable, ROOT / 'run.py', f'--config={ROOT / "configs" / "imagenet.py"}:quick,batch=8', *flags]

    def begun(name, *more):
        own = {**processes.environment(), 'KDJAX_DATA': str(painted)}
        with (tmp_path / f'{name}.log').open('w') as log:
            flags = [f'--workdir={tmp_path / name.partition("-")[0]}', *more]
            return subprocess.Popen([*command, *flags], env=own, stdout=log, stderr=log)

    several = {f'two-{place}': begun(f'two-{place}', f'--distributed=localhost:{port},2,{place}') for place in (0, 1)}
    for name, process in {**several, 'one': begun('one')}.items():
        assert process.wait(600) == 0, (tmp_path / f'{name}.log').read_text()
    found, wanted = ([load_variables(path) for path in sorted((tmp_path / name).glob('*/variables'))]
                     for name in ('two', 'one'))  # fmt: skip
    assert len(found) == 3  # of the teacher, of labels alone, and of KD
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4), found, wanted)


def test_stopped_amid_the_stream_it_goes_on_to_the_same_bits(painted, tmp_path):
    """Twenty-four images in batches of eight: it is stopped in the third epoch, whose order and pieces are its own."""

    class Once(StopSignals):
        """Asks for a stop after so many dispatches."""

        left = 7

        def agreed(self):
            self.left -= 1
            return signal if self.left < 0 else None

    signal = type('Signal', (), {'name': 'SIGTERM'})()
    recipe = resolve(config(painted, **{'run.chunk': 1, 'run.runner': 'single', 'data.views': 4, 'teacher.views': 4}))
    todo = [plan.stages_of(recipe)['teacher']]

    def carried_out(workdir, stop):
        execute.execute(todo, Context(recipe.execution, Screen(quiet=True), stop), workdir)

    with pytest.raises(execute.Interrupted, match=r'after step [78] of 30'):
        carried_out(tmp_path / 'stopped', Once())
    for workdir in ('stopped', 'whole'):
        carried_out(tmp_path / workdir, StopSignals())
    found, wanted = (load_variables(next((tmp_path / workdir).glob('teacher-*/variables')))
                     for workdir in ('stopped', 'whole'))  # fmt: skip
    assert trees.fingerprint(found) == trees.fingerprint(wanted)


def shown(config, workdir):
    recipe = resolve(config)
    text = io.StringIO()
    Console(file=text, width=200).print(plan_table.table(recipe, build.dataset(recipe.data), workdir))
    return text.getvalue()


def flowing(text):
    """Lines of a table's caption as one."""
    return ' '.join(text.split())


def test_a_plan_says_what_devices_keep_how_long_it_takes_and_how_fast_images_must_come(tmp_path):
    """Of ImageNet's number of images, which are made up; networks are small."""
    fields = {**SMALL, 'run.tflops': 0.002, 'data.args.size': 16, 'run.runner': 'fsdp'}
    fields['teacher.args'] = {'widths': (8, 256)}  # some of which is cut
    said = shown(applied(IMAGENET('paper,epochs=1'), fields), tmp_path)
    steps = 1_281_167 // 256
    rows = {line.split('│')[1].strip(): [cell.strip() for cell in line.split('│')[2:-1]]
            for line in said.splitlines() if line.startswith('│')}  # fmt: skip
    assert {'teacher', 'baseline', 'KD', 'evaluate'} == set(rows)
    assert {row[3] for name, row in rows.items() if name != 'evaluate'} == {str(steps)}
    gflop, hours = float(rows['KD'][4]), float(rows['KD'][6])
    assert hours == pytest.approx(gflop / 1e3 / (4 * 0.002) / 3600, rel=0.01)
    assert rows['KD'][2] == rows['baseline'][2] != rows['teacher'][2]
    assert 'on each of 4 devices: that state, ' in flowing(said)
    total, _, rest = flowing(said).partition(' hours of steps at 0.002 TFLOP/s a device; ')
    whole = sum(float(rows[name][6]) for name in ('teacher', 'baseline', 'KD'))
    assert float(total.split()[-1]) == pytest.approx(whole, rel=0.01)
    assert 'examples a second are to be read' in rest
    rate = float(rest.partition(' examples')[0].replace(' ', ''))
    assert rate == pytest.approx(
        256 * steps / 3600 / min(float(rows[name][6]) for name in ('baseline', 'KD')), rel=0.02
    )


def test_pictures_that_are_cropped_while_they_are_read_need_a_stream_and_one_view_for_both(painted):
    def check(**fields):
        recipe = resolve(config(painted, **fields))
        dataset: Dataset = build.dataset(recipe.data)
        feeding.check_drawn(dataset, recipe)

    check()
    with pytest.raises(UsageError, match=r'inputs are cropped while they are read, anew for every view'):
        check(**{'data.stream': False})
    with pytest.raises(UsageError, match=r'once for student and teacher: set data\.consistent=True'):
        check(**{'data.consistent': False})
    with pytest.raises(UsageError, match=r'teacher\.folds reads the examples of a fold as they are'):
        check(**{'teacher.folds': 2, 'teacher.mode': 'cached'})


def test_a_batch_must_divide_over_devices(painted):
    with pytest.raises(UsageError, match=r'a batch of 6 does not divide over 4 devices; use a multiple of 4'):
        resolve(config(painted, 'quick,batch=6'))
    assert parallel.own_part(jax.devices(), 8) == slice(0, 8)


@pytest.mark.parametrize(('arg', 'message'), [
    ('methods=KD+AT', "unknown method 'AT'"),
    ('epochs=0', 'epochs and batch must be >= 1, got 0 and 256'),
])  # fmt: skip
def test_what_the_config_does_not_know_is_refused(arg, message):
    with pytest.raises(UsageError, match=message):
        IMAGENET(arg)
