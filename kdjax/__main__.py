"""kdjax run|plan|sweep|tune|report|bench|list|prepare|export [--config=NAME|FILE[:ARGUMENTS]] [flags of run.py]
kdjax new NAME

The command of an installed kdjax: `kdjax plan --config=digits:quick` where a clone has
`python run.py --mode=plan --config=configs/digits.py:quick`.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parent / 'configs'


def main() -> int:
    """Runs the command line of this process; returns its exit code."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    # The configs are written to be read in a clone, where they are importable as what they are called there.
    if importlib.util.find_spec('configs') is None:
        sys.modules['configs'] = importlib.import_module('kdjax.configs')
    from kdjax.study import command_line

    program, *words = sys.argv
    if words and not words[0].startswith('-'):
        words = [f'--mode={words[0]}', *words[1:]]
    if words[:1] == ['--mode=new'] and words[1:] and not words[1].startswith('-'):
        words[1] = f'--to={words[1]}'
    for place, word in enumerate(words[:-1]):
        if word == '--config':
            words[place : place + 2] = ['', f'--config={words[place + 1]}']
    return command_line.main([program, *map(_found, filter(None, words))], CONFIGS / 'digits.py', _presets)


def _found(word: str) -> str:
    """A config that is no file here, as the one of that name in the package: 'digits', 'sweeps/temperature'."""
    if not word.startswith('--config='):
        return word
    name, colon, argument = word.removeprefix('--config=').partition(':')
    own = CONFIGS / f'{name.removeprefix("configs/").removesuffix(".py")}.py'
    return f'--config={own}{colon}{argument}' if own.is_file() and not Path(name).is_file() else word


def _presets() -> Mapping[str, Any]:
    return importlib.import_module('configs.sweeps.presets').presets()


if __name__ == '__main__':
    sys.exit(main())
