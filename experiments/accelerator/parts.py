"""Does all that is worth an accelerator's time, in order of worth, each part saved as it ends; see README.md.

Command: experiments/accelerator/run.sh [--out DIR] [--minutes 9] [--parts NAME,...] [--tiny]

A part is a command in a session of its own. One that takes longer than it may is asked to stop, as by Ctrl-C, and then
killed with all that it has started; what it has written by then is kept, and the parts after it run all the same. Who
is stopped itself stops its part, and what was done is in parts.json.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from kdjax.errors import UsageError, unknown
from kdjax.train import ledger

GRACE = 20  # seconds from being asked to stop until it is killed
DONE, STOPPED, FAILED, LEFT = 'done', 'stopped: it took longer than it may', 'failed', 'not begun: no time was left'
CIFAR = 'experiments/cifar100_techniques/config.py'


class Part(NamedTuple):
    """A command, and what is kept of it."""

    name: str
    words: Sequence[str]  # after the interpreter; '{work}' stands for a folder of its own
    minutes: float  # that it may take at most
    kept: Sequence[str]  # patterns of files in that folder


def parts(tiny: bool) -> list[Part]:
    """Everything, the most worth first; `tiny` is a look at the machinery, on any machine."""
    tests = ('-m', 'pytest', '-q', '-o', 'addopts=--import-mode=importlib', '-p', 'no:cacheprovider')
    golden = ('tests/test_golden.py', '-x', '-k', 'dkd') if tiny else ('tests/test_golden.py',)
    students = (
        'pair=resnet14-resnet8,epochs=0.02,teacher=0,seeds=1' if tiny
        else 'pair=resnet56-resnet20,epochs=60,teacher=0,seeds=2,precision=bfloat16'
    )  # fmt: skip
    speed = ('--cases', 'resnet56-resnet20:kd', '--rounds', '1') if tiny else ('--rounds', '2')
    text = ('configs/shakespeare.py:quick', '--config.seeds=1') if tiny else ('configs/shakespeare.py',)
    look = ('--tiny',) if tiny else ()
    return [
        Part('devices', ('experiments/accelerator/devices.py', '--out={work}/devices.json', *look), 1.5,
             ('devices.json',)),
        Part('golden', (*tests, *golden), 1.5, ()),
        Part('cifar100', ('run.py', f'--config={CIFAR}:{students}', '--mode=sweep', '--workdir={work}/run'), 4.5,
             ('run/report/*.png', 'run/report/report.md', 'run/report/summary.json', 'run/report/runs.csv')),
        Part('speed', ('experiments/speed/accelerator.py', '--out={work}/accelerator.json', *speed), 3,
             ('accelerator.json',)),
        Part('decoding', ('experiments/accelerator/decoding.py', '--out={work}/decoding.json', *look), 1,
             ('decoding.json',)),
        Part('text', ('run.py', f'--config={text[0]}', *text[1:], '--mode=bench', '--workdir={work}/run'), 1,
             ('run/bench/*',)),
    ]  # fmt: skip


def done(part: Part, seconds: float, out: Path, work: Path) -> dict[str, object]:
    """Does a part for at most so many seconds; its state, what it took, and its command. Its output goes to a log."""
    command = [sys.executable, *(word.format(work=work) for word in part.words)]
    start = time.monotonic()
    with open(out / f'{part.name}.log', 'w') as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(seconds)
            state = DONE if code == 0 else f'{FAILED} with code {code}'
        except subprocess.TimeoutExpired:
            state = STOPPED
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        finally:
            with contextlib.suppress(ProcessLookupError):  # all have ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for path in (path for pattern in part.kept for path in sorted(work.glob(pattern))):
        (out / part.name).mkdir(exist_ok=True)
        shutil.copyfile(path, out / part.name / path.name)
    return {'state': state, 'seconds': time.monotonic() - start, 'command': ' '.join(['python', *part.words])}


def chosen(names: str, tiny: bool) -> list[Part]:
    """Parts by name, with commas between; all if none is named.

    Raises:
      UsageError: an unknown name.
    """
    known = {part.name: part for part in parts(tiny)}
    for name in filter(None, names.split(',')):
        if name not in known:
            raise unknown('part', name, known)
    return [part for name, part in known.items() if not names or name in names.split(',')]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--out', type=Path, default=HERE / 'results')
    parser.add_argument('--minutes', type=float, default=9.0)
    parser.add_argument('--parts', default='', help='names, with commas between [all]')
    parser.add_argument('--tiny', action='store_true', help='a look at the machinery')
    given = parser.parse_args()
    try:
        wanted = chosen(given.parts, given.tiny)
    except UsageError as error:
        sys.exit(str(error))
    given.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of what stops a part
    end, results = time.monotonic() + 60 * given.minutes, {part.name: {'state': LEFT} for part in wanted}
    for part in wanted:
        left = end - time.monotonic() - GRACE
        if left > 0:
            # A look at the machinery may take as long as a slow machine needs.
            seconds = left if given.tiny else min(60 * part.minutes, left)
            print(f'{part.name}: at most {seconds:.0f} s; see {given.out / part.name}.log', flush=True)
            work = given.out / 'work' / part.name
            work.mkdir(parents=True, exist_ok=True)
            results[part.name] = done(part, seconds, given.out, work)
            print(f'{part.name}: {results[part.name]["state"]}, {results[part.name]["seconds"]:.0f} s', flush=True)
        ledger.replace(given.out / 'parts.json', json.dumps({'tiny': given.tiny, 'parts': results}, indent=1) + '\n')
    shutil.rmtree(given.out / 'work', ignore_errors=True)
    sys.exit(0 if all(result['state'] == DONE for result in results.values()) else 1)


if __name__ == '__main__':
    main()
