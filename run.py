"""python run.py [--config=FILE[:ARGUMENTS]] [--config.FIELD=VALUE ...] [--workdir=DIR] [--mode=MODE] [--debug]

One run in several processes: --distributed=auto or --distributed=HOST:PORT,COUNT,INDEX, see experiments/launch.
A data set of TFDS: --mode=prepare --data=NAME [--originals=DIR] [--data_dir=DIR].
"""

import os
import shlex
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file('config', None, 'What to run. Default: configs/digits.py.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where everything is kept. Default: runs/<name of the config file>.')
MODE = flags.DEFINE_enum(
    'mode', 'run', ['run', 'sweep', 'tune', 'plan', 'report', 'bench', 'list', 'prepare'],
    'Train and report; the same for the sweep of the config file; look for a better setting; print what would run and '
    'its cost; report what is there of a sweep; how fast it trains here; list techniques; prepare a data set of TFDS.',
)  # fmt: skip
DISTRIBUTED = flags.DEFINE_string('distributed', None, "A run in several processes: 'auto', or HOST:PORT,COUNT,INDEX.")
DATA = flags.DEFINE_string('data', '', 'To prepare: the data set, such as mnist.')
ORIGINALS = flags.DEFINE_string('originals', '', 'To prepare: folder of its original files; left out, download.')
DATA_DIR = flags.DEFINE_string('data_dir', '', 'To prepare: where to. Default: TFDS_DATA_DIR or ~/tensorflow_datasets.')
DEBUG = flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')


def main(argv: list[str]) -> int:
    """Exit codes: 0 done, 1 an acceptance bar was missed, 2 unusable input, 130 interrupted and saved."""
    from kdjax.names import Interrupted, UsageError

    command = shlex.join(['python', *argv])
    try:
        from kdjax.study import settings

        config = settings.parse(argv, flags.FLAGS, CONFIG, default=Path(__file__).parent / 'configs' / 'digits.py')
        workdir = Path(WORKDIR.value or Path('runs') / settings.name(argv, 'digits'))
        from kdjax.data import prepare
        from kdjax.study import bench, drive, launch, tune
        from kdjax.train import distributed

        if not DEBUG.value:
            launch.quiet_threads()
        if DISTRIBUTED.value and MODE.value != 'run':
            raise UsageError('--distributed is for --mode=run; processes of a sweep need nothing but its workdir')
        rows = settings.listed(argv, 'sweep')
        apart = {
            'list': launch.show_techniques,
            'prepare': lambda: print(prepare.prepare(DATA.value, ORIGINALS.value, DATA_DIR.value)),
            'bench': lambda: bench.run(config, workdir, command),
            **({'plan': lambda: launch.show_plan(config, workdir)} if rows is None else {}),
        }
        if MODE.value in apart:
            apart[MODE.value]()
            return 0
        if MODE.value == 'tune':
            return 0 if tune.run(config, settings.listed(argv, 'space'), workdir, command) else 1
        if MODE.value in drive.MODES:
            drive.MODES[MODE.value](config, rows, workdir, command)
            return 0
        with distributed.job(DISTRIBUTED.value, os.environ):
            return 0 if launch.run(config, workdir, command) else 1
    except Interrupted as stop:
        print(f'{stop}; go on with: {command}', file=sys.stderr)
        return 130
    except (UsageError, OSError) as error:
        if '--debug' in argv:
            raise
        place = f': {error.filename or "the workdir"}' if isinstance(error, OSError) else ''
        print(f'error: {getattr(error, "strerror", None) or error}{place}', file=sys.stderr, flush=True)
        sys.stdout.flush()
        # Everything is closed; on a full disk the exit handlers of libraries would try, fail and print once more.
        os._exit(2)


if __name__ == '__main__':
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    sys.exit(main(sys.argv))
