"""python run.py [--config=FILE[:ARGUMENTS]] [--config.FIELD=VALUE ...] [--workdir=DIR] [--mode=MODE] [--debug]

One run in several processes: --distributed=auto or --distributed=HOST:PORT,COUNT,INDEX, see experiments/launch.
A data set of TFDS or of a public repository: --mode=prepare --data=NAME [--originals=DIR] [--data_dir=DIR].
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def presets() -> Mapping[str, Any]:
    """Every preset; loaded when asked for, as only the list of techniques is."""
    from configs.sweeps.presets import presets as all_presets

    return all_presets()


def main(argv: list[str]) -> int:
    """Returns the exit code of kdjax.study.command_line.main."""
    from kdjax.study import command_line

    return command_line.main(argv, Path(__file__).parent / 'configs' / 'digits.py', presets)


if __name__ == '__main__':
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    sys.exit(main(sys.argv))
