"""Which mode reads which flag of the command line."""

import pytest
from absl.testing import flagsaver

from kdjax.errors import UsageError
from kdjax.study import options


@pytest.mark.parametrize(
    ('mode', 'given', 'message'),
    [
        ('plan', {'method': 'alone'}, '--method is for --mode=export, not for --mode=plan. To export: whose student'),
        ('run', {'to': 'folder'}, '--to is for --mode=export and --mode=new, not for --mode=run'),
        ('sweep', {'distributed': 'auto'}, '--distributed is for --mode=run, not for --mode=sweep'),
        ('run', {'reads': 'layers'}, '--reads is for --mode=list, not for --mode=run'),
        ('list', {'data': 'mnist'}, '--data is for --mode=prepare, not for --mode=list'),
    ],
)
def test_a_flag_of_another_mode_is_an_error(mode, given, message):
    with flagsaver.as_parsed(mode=mode, **given), pytest.raises(UsageError) as error:
        options.check()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize('mode', options.MODES)
def test_flags_of_a_run_may_stand_beside_any_mode(mode):
    with flagsaver.as_parsed(mode=mode, workdir='runs/digits', search="{'terms.soft.temperature': (2., 4.)}"):
        options.check()
