"""python run.py [--config=FILE[:ARGUMENTS]] [--config.FIELD=VALUE ...] [--workdir=DIR] [--mode=MODE] [--debug]

python run.py --mode=prepare --data=NAME [--originals=DIR] [--data_dir=DIR]
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
    'mode', 'run', ['run', 'plan', 'list', 'prepare'],
    'Train and report; print what would run and its cost; list all techniques; prepare a data set of TFDS.',
)  # fmt: skip
DATA = flags.DEFINE_string('data', '', 'To prepare: the data set, such as mnist.')
ORIGINALS = flags.DEFINE_string('originals', '', 'To prepare: folder of the original files; left out, download.')
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
        from kdjax.study import launch

        if not DEBUG.value:
            launch.quiet_threads()
        if MODE.value == 'plan':
            launch.show_plan(config, workdir)
            return 0
        if MODE.value == 'list':
            launch.show_techniques()
            return 0
        if MODE.value == 'prepare':
            from kdjax.data.prepare import prepare

            print(prepare(DATA.value, ORIGINALS.value, DATA_DIR.value))
            return 0
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
