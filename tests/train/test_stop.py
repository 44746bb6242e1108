"""A second Ctrl-C, and signals that are answered while the program is busy."""

import signal
import subprocess
import sys
import time

BUSY = """
import ctypes
from kdjax.train.stop import StopSignals
with StopSignals():
    print('open', flush=True)
    ctypes.CDLL(None).sleep(30)
    ctypes.CDLL(None).sleep(30)
"""


def test_a_signal_is_answered_at_once_and_a_second_ctrl_c_ends_without_a_traceback():
    with subprocess.Popen(
        [sys.executable, '-c', BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == '\n'
        assert process.stderr.readline() == 'SIGINT: stopping after this dispatch, saving; Ctrl-C again to stop now\n'
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(20) == 130
    assert 'Traceback' not in rest
    assert 'stopped at once' in rest
    assert time.monotonic() - begun < 20
