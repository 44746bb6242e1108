"""Every preset on handwritten digits, or on blood cells: does each technique train, and does it lead anywhere?

Command:  python experiments/presets/publish.py (all of them), or
          python run.py --config=configs/sweeps/presets.py:nets=vit (those that need a transformer)
Cost:     about half an hour on 2 CPU cores
Expected: every student is finite and far better than chance (10 %)
Arguments: nets=cnn|vit|resnet, or detector, which needs KDJAX_DATA; quick (2 seeds, few steps), only=NAME (one preset)
"""

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from configs import base, preset
from kdjax.errors import unknown
from kdjax.study.sweep import rows

FOLDER = Path(__file__).resolve().parents[1] / 'presets'


def get_config(arg: str = '') -> ConfigDict:
    """The job with all presets that run on one kind of networks, locked."""
    arguments = base.arguments(arg, quick=False, nets='cnn', only='')
    known = presets()
    if arguments['only'] and arguments['only'] not in known:
        raise unknown('preset', arguments['only'], known)
    chosen = {
        name: found for name, found in known.items()
        if found.nets == arguments['nets'] and arguments['only'] in ('', name)
    }  # fmt: skip
    return preset.job(chosen, arguments['nets'], 'quick' if arguments['quick'] else '').lock()


def sweep(arg: str = '') -> Sequence[rows.Row]:
    """Every preset of `get_config(arg)`, and the baseline."""
    return rows.axis('method', *get_config(arg).methods)


def presets() -> dict[str, preset.Preset]:
    """All presets by name, that is, by file."""
    found = sorted(module.name for module in pkgutil.iter_modules([str(FOLDER)]))
    return {name: importlib.import_module(f'configs.presets.{name}').PRESET for name in found}
