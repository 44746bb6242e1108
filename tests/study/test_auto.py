"""The default runner where there are several devices: grids by cells, single networks by the examples of a batch."""

import json
import runpy
from pathlib import Path

import pytest

from kdjax.study import run
from kdjax.train import parallel

TINY = Path(__file__).resolve().parents[1] / 'configs' / 'tiny.py'


@pytest.mark.rotating(1, 2)
def test_all_devices_are_used_said_and_noted(tmp_path, monkeypatch, capsys):
    chosen = parallel.chosen

    def elsewhere(runner, devices, cells, batch):
        """The devices of these tests are of a processor, of which one would do."""
        return chosen(runner, [Gpu(device) for device in devices], cells, batch)

    monkeypatch.setattr(parallel, 'chosen', elsewhere)
    config = runpy.run_path(str(TINY))['get_config']('')
    assert config.run.runner == 'auto'
    run.run(config, tmp_path, 'command')
    assert "devices: 4 of 4 x cpu (runner 'auto'" in capsys.readouterr().err
    ran = {path.parent.name.partition('-')[0]: json.loads(path.read_text()).get('ran')
           for path in tmp_path.glob('*/manifest.json')}  # fmt: skip
    assert ran['teacher'] == {'runner': 'pmap', 'devices': 4}
    assert ran['combined'] == {'runner': 'cells', 'devices': 4}


class Gpu:
    """A device as of another platform."""

    platform = 'gpu'

    def __init__(self, device):
        self.process_index = device.process_index
