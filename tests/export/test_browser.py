"""The page of examples/browser, opened in a browser without a window: networks recognise a digit that is drawn."""

import functools
import http.server
import importlib.util
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from written_out import digits_network

from kdjax.data import digits
from kdjax.export import files

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).resolve().parents[2] / 'examples' / 'browser'
BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
FILES = {'teacher.onnx': (256, 'onnx'), 'student.onnx': (32, 'onnx'), 'student.int8.onnx': (32, 'onnx-int8')}


def modules(place):
    """onnxruntime-web beside the page: that of the example where it is installed, else fetched."""
    installed = EXAMPLE / 'node_modules'
    if installed.is_dir():
        (place / 'node_modules').symlink_to(installed.resolve())
        return
    if shutil.which('npm') is None:
        pytest.skip('npm is not installed, which fetches onnxruntime-web')
    done = subprocess.run(['npm', 'install', '--no-audit', '--no-fund'], cwd=place, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'onnxruntime-web cannot be fetched here: {done.stderr.strip().splitlines()[-1]}')


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """The address of the page, with its networks."""
    if BROWSER is None:
        pytest.skip('there is no browser here (chromium)')
    absent = [name for name in ('jax2onnx', 'onnxruntime') if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"{absent[0]} is not installed: pip install 'kdjax[onnx]'")
    place = tmp_path_factory.mktemp('page')
    for name in ('index.html', 'package.json'):
        shutil.copyfile(EXAMPLE / name, place / name)
    modules(place)
    for name, (width, kind) in FILES.items():
        told = files.export(digits_network(width), place / kind, [kind], digits.digits()).about['files'][kind]
        shutil.copyfile(place / kind / told['file'], place / name)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(place))
    handler.log_message = lambda *words: None
    with http.server.ThreadingHTTPServer(('localhost', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://localhost:{server.server_port}/index.html', place
        server.shutdown()


def shown(address, place):
    """The page after it has answered."""
    command = [BROWSER, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={place / "profile"}',
               '--virtual-time-budget=60000', '--dump-dom', address]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=600).stdout


def test_a_digit_drawn_by_hand_is_recognised(page):
    address, place = page
    text = shown(f'{address}?draw=0', place)
    assert 'data-failed' not in text
    assert 'data-answered="yes"' in text
    rows = dict(re.findall(r'data-network="([^"]*)"><td>[^<]*</td><td class="says">(\d)</td>', text))
    assert set(rows) == {'teacher', 'student', 'student, 8 bits'}
    assert rows['teacher'] == '0'
    sizes = [float(number) for number in re.findall(r'%</td><td>([\d.]+)</td><td>[\d.]+</td>', text)]
    assert sizes == [round((place / name).stat().st_size / 1000, 1) for name in FILES]
