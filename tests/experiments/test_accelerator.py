"""What an accelerator is lent for: parts end in time, keep what they wrote, and none keeps others from their turn."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from experiments.accelerator import parts
from kdjax.errors import UsageError

IMAGE = {'python_version': '3.12', 'python_full_version': '3.12.0'}
ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / 'experiments' / 'accelerator'


def script(text, minutes=1.0):
    words = ('-c', f'import pathlib, time; work = pathlib.Path(r"{{work}}"); {text}')
    return parts.Part('one', words, minutes, ('*.json',))


@pytest.mark.parametrize(
    ('text', 'seconds', 'state'),
    [
        ('(work / "a.json").write_text("1")', 60, parts.DONE),
        ('(work / "a.json").write_text("1"); exit(3)', 60, f'{parts.FAILED} with code 3'),
        ('(work / "a.json").write_text("1"); time.sleep(60)', 2, parts.STOPPED),
    ],
)
def test_a_part_keeps_what_it_wrote_however_it_ends(text, seconds, state, tmp_path):
    (tmp_path / 'work').mkdir()
    found = parts.done(script(text), seconds, tmp_path, tmp_path / 'work')
    assert found['state'] == state
    assert found['seconds'] < seconds + parts.GRACE
    assert (tmp_path / 'one' / 'a.json').read_text() == '1'


def test_parts_are_asked_for_by_name():
    assert [part.name for part in parts.chosen('', tiny=False)] == [
        'devices', 'golden', 'cifar100', 'speed', 'decoding', 'text'
    ]  # fmt: skip
    assert [part.name for part in parts.chosen('text,golden', tiny=True)] == ['golden', 'text']
    with pytest.raises(UsageError, match=r"unknown part 'sped'; there is: 'speed', 'decoding', 'text'"):
        parts.chosen('sped', tiny=False)


def test_together_they_end_in_nine_minutes_or_are_cut():
    """The last ones may be cut; what is worth most has its whole time."""
    minutes = [part.minutes for part in parts.parts(tiny=False)]
    assert sum(minutes[:3]) < 9


THERE = ('jax', 'jaxlib', 'numpy', 'scipy', 'ml-dtypes', 'opt-einsum')  # with JAX


def needed():
    """Requirements that are listed, by name."""
    lines = (HERE / 'needs.txt').read_text().splitlines()
    return {canonicalize_name(Requirement(line).name): line for line in lines if line and not line.startswith('#')}


def test_what_an_image_may_lack_is_what_kdjax_needs():
    setup = (ROOT / 'setup.cfg').read_text()
    wanted = setup.partition('install_requires =')[2].partition('[options.entry_points]')[0].split()
    assert {line for line in wanted if not line.startswith(('jax>', 'numpy>'))} <= {*needed().values()}


@pytest.mark.slow  # not for its time: what is released tomorrow may need more
def test_nothing_that_those_need_in_turn_is_missing():
    """Wheels are fetched without what they need, of which an image has some already: all are listed."""
    found, todo = set(), [Requirement(name) for name in needed()]
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        if name in THERE or (name, *sorted(one.extras)) in found:
            continue
        found.add((name, *sorted(one.extras)))
        for line in metadata.requires(name) or ():
            more = Requirement(line)
            extras = one.extras or {''}
            if more.marker is None or any(more.marker.evaluate({**IMAGE, 'extra': extra}) for extra in extras):
                todo.append(more)
    assert {name for name, *_ in found} <= {*needed()}


@pytest.mark.slow
def test_all_of_it_runs_small_from_what_was_packed(tmp_path, restored):
    data, shared = tmp_path / 'data', pathlib.Path(os.environ.get('KDJAX_SHARED') or ROOT.parent / 'shared')
    for name in ('cifar100', 'tiny_shakespeare'):
        shutil.copytree(restored(name) / name, data / name)
    subprocess.run([HERE / 'pack.sh', data, shared, tmp_path / 'packed'], check=True, capture_output=True)
    assert all(path.stat().st_size < 60e6 for path in (tmp_path / 'packed').iterdir())
    # As a user has it: optimised, and one device.
    dropped = ('KDJAX_DATA', 'KDJAX_SHARED', 'XLA_FLAGS', 'NPROC', 'JAX_NUMPY_DTYPE_PROMOTION')
    own = {name: value for name, value in os.environ.items() if name not in dropped}
    own |= {'PACKED': str(tmp_path / 'packed'), 'TMPDIR': str(tmp_path), 'JAX_PLATFORMS': 'cpu'}
    command = [HERE / 'run.sh', '--tiny', '--minutes=60', f'--out={tmp_path / "out"}']
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / 'out' / 'parts.json').read_text())['parts']
    assert {result['state'] for result in found.values()} == {parts.DONE}
    assert (tmp_path / 'out' / 'cifar100' / 'summary.json').exists()


def test_who_is_stopped_stops_its_part_and_all_that_it_has_started(tmp_path):
    """A loan may end in the middle: nothing goes on, and what was written before is there."""
    started = 'import subprocess, sys; subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])'
    code = (
        'import pathlib, signal, sys; from experiments.accelerator import parts; '
        f'one = parts.Part("one", ("-c", {started + "; import time; print(1, flush=True); time.sleep(60)"!r}), 1, ()); '
        'signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); print("begun", flush=True); '
        f'parts.done(one, 60, pathlib.Path({str(tmp_path)!r}), pathlib.Path({str(tmp_path)!r}))'
    )
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == 'begun\n'
        children = pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children')
        deadline = time.monotonic() + 30
        log = tmp_path / 'one.log'  # where the part says that it has started another
        while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        (part,) = children.read_text().split()
        process.terminate()
        assert process.wait(30) == 143
    assert not [path for path in pathlib.Path('/proc').glob('[0-9]*/stat') if of_session(path, part)]


def of_session(path, session):
    """Whether a process, of which /proc tells, is of a session and has not ended."""
    try:
        state, _, _, own = path.read_text().rpartition(')')[2].split()[:4]
    except OSError:  # it ended meanwhile
        return False
    return own == session and state != 'Z'
