"""What a config leaves to the data is filled in as if it had been given, and what it does not list can be."""

import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import base
from kdjax.errors import UsageError
from kdjax.study import command_line
from kdjax.study.config import arguments
from kdjax.study.recipe.resolve import resolve

pytestmark = pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')  # of ml_collections

NET = """
from kdjax.nets.mlp import mlp
def net(*, classes, precision, axis):
    return mlp(widths=(8,), classes=classes, precision=precision, axis=axis)
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


def parsed(*words):
    """The config of a command line."""
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file('config', flag_values=values, lock_config=True)
    return command_line.parse(['run.py', *words], values, holder, Path('configs/digits.py'))


def test_arguments_that_a_config_does_not_list_can_be_given():
    config = base.config()
    config.data.source = 'originals.mnist'
    given = {'fits.combined.optim.clip': '1.0', 'terms.hard.class_weights': '(1., 2.)', 'data.args.folder': 'here'}
    found = arguments.extended(config.lock(), given)
    assert found.fits.combined.optim.clip == 1.0
    assert found.terms.hard.class_weights == (1.0, 2.0)
    assert found.data.args.folder == 'here'


@pytest.mark.parametrize(
    ('word', 'message'),
    [
        ('--config.fits.combined.optim.clop=1.0', "unknown argument 'clop' in 'fits.combined.optim.clop'; .*: 'clip'"),
        ('--config.terms.hard.class_weight=(1.,)', "unknown argument 'class_weight' in .*: 'class_weights'"),
        ('--config.student.args.width=(3,)', "unknown argument 'width' in .*: 'widths'"),
        ('--config.fits.combined.stops=3', "unknown config field 'stops' in 'fits.combined.stops'; .*: 'steps'"),
    ],
)
def test_arguments_that_nothing_takes_are_answered_with_those_that_are(word, message):
    with pytest.raises(UsageError, match=message):
        parsed(word)


def test_modules_beside_the_config_file_can_be_named(tmp_path):
    (tmp_path / 'own_nets_of_this_test.py').write_text(NET)
    (tmp_path / 'config.py').write_text(CONFIG)
    done = subprocess.run((sys.executable, 'run.py', f'--config={tmp_path / "config.py"}', '--mode=plan',
                           '--config.fits.combined.optim.clip=1.0', '--config.data.transfer_sizes=()'),
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
