"""What a config leaves to the data is filled in as if it had been given."""

import subprocess
import sys

from ml_collections import ConfigDict

from configs import base
from kdjax.study.recipe.resolve import resolve

NET = """
from kdjax.nets.mlp import mlp
def net(**arguments):
    return mlp(widths=(8,), **arguments)
"""
CONFIG = """
from configs import base
import own_nets_of_this_test
def get_config(arg=''):
    config = base.config()
    with config.ignore_type():
        config.student = {'net': 'own_nets_of_this_test:net', 'args': {}}
    return config.lock()
"""


def remembering(**given):
    """A config whose baseline remembers every example."""
    config = base.config()
    with config.ignore_type():
        config.terms.crd = ConfigDict({'kind': 'crd.ContrastiveRepresentation', 'layer': 'hidden1', **given})
        config.fits.combined.weights = ConfigDict({'crd': 1.0})
    return config


def test_no_transfer_sizes_are_all_training_examples():
    config = base.config()
    config.data.transfer_sizes = ()
    assert resolve(config.lock()).transfer_sizes == (1000,)


def test_terms_that_remember_examples_are_told_how_many_there_are():
    found, given = (resolve(config.lock()) for config in (remembering(), remembering(examples=1000)))
    assert found.fits['combined'].terms == given.fits['combined'].terms
    assert dict(found.fits['combined'].objective.terms)['crd'].examples == 1000


def test_modules_beside_the_config_file_can_be_named(tmp_path):
    (tmp_path / 'own_nets_of_this_test.py').write_text(NET)
    (tmp_path / 'config.py').write_text(CONFIG)
    done = subprocess.run((sys.executable, 'run.py', f'--config={tmp_path / "config.py"}', '--mode=plan'),
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
