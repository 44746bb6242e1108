"""The studies of configs/sweeps: their rows fit their configs, and their pages say how they are run."""

import importlib
from pathlib import Path

import pytest

from configs.sweeps import sensitivity
from kdjax.study.sweep import rows

FOLDER = Path(__file__).resolve().parents[3] / 'configs' / 'sweeps'
STUDIES = sorted(path.stem for path in FOLDER.glob('*.py') if path.stem != '__init__')


@pytest.mark.parametrize('name', STUDIES)
def test_rows_fit_their_config_and_the_page_has_the_command(name):
    study = importlib.import_module(f'configs.sweeps.{name}')
    config, listed = study.get_config(), study.sweep()
    assert len({str(row.point) for row in listed}) == len(listed)
    for row in listed:
        assert rows.applied(config, row.changes).is_locked
        assert row.changes.get('method', config.baseline) in rows.applied(config, row.changes).methods
    assert f'python run.py --config=configs/sweeps/{name}.py' in study.__doc__


def test_drawn_points_lie_in_their_ranges_evenly():
    drawn = [row for row in sensitivity.sweep() if row.changes['method'] == 'combined']
    assert len(drawn) == sensitivity.POINTS
    for field, spread in sensitivity.RANGES.items():
        values = sorted(row.changes[field] for row in drawn)
        middle = (spread.low * spread.high) ** 0.5
        assert spread.low <= values[0] < values[-1] <= spread.high
        assert sum(value < middle for value in values) == sensitivity.POINTS // 2
