"""What is wrong with a config file is one line that says where."""

import pytest

from kdjax.errors import UsageError
from kdjax.study import command_line, config_file


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('import nowhere_at_all\n', ":1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ('\ndef get_config(arg)\n', ":2: SyntaxError: expected ':'"),
        ('\n\nraise SystemExit(0)\n', ':3: SystemExit: 0'),
        ('def get_config(arg):\n    return 1 / 0\n', ':2: ZeroDivisionError: division by zero'),
        ('def get_config():\n    return None\n', r': get_config\(arg\) must take one argument'),
        ('get_config = 3\n', r': get_config must be a function get_config\(arg\), got int'),
        ('def get_config(arg):\n    return None\n', r': get_config\(arg\) must return something, got None'),
        ('def get_config(arg):\n    return {}\n', ': get_config must return a ConfigDict, got dict'),
        ('x = 1\n', r' has no function get_config\(arg\)'),
        (f'def get_config(arg):\n    raise ValueError("x" * {10**6})\n', ':2: ValueError: x{100} [.]{3}$'),
        (
            'from ml_collections import ConfigDict\ndef get_config(arg):\n'
            "    config = ConfigDict({'a': 1}).lock()\n    config.b = 2\n    return config\n",
            r':4: AttributeError: .*"b"',
        ),
    ],
)
def test_a_faulty_file_is_named_with_the_line(tmp_path, text, message):
    path = tmp_path / 'faulty.py'
    path.write_text(text)
    with pytest.raises(UsageError, match=f'^{path}{message}') as caught:
        config_file.config_of(str(path), '')
    assert len(str(caught.value).splitlines()) == 1


def test_an_error_of_its_own_is_left_as_it_is(tmp_path):
    path = tmp_path / 'own.py'
    path.write_text("from kdjax.errors import UsageError\ndef get_config(arg):\n    raise UsageError('no such form')\n")
    with pytest.raises(UsageError, match=r'^no such form$'):
        config_file.config_of(str(path), '')


def test_rows_that_fail_one_by_one_are_met_at_once(tmp_path):
    path = tmp_path / 'rows.py'
    path.write_text("def get_config(arg):\n    pass\n\n\ndef sweep(arg):\n    yield 1\n    yield {}['missing']\n")
    with pytest.raises(UsageError, match=f"^{path}:7: KeyError: 'missing'"):
        command_line.called(['run.py', f'--config={path}'], 'sweep')
    assert command_line.called(['run.py', f'--config={path}'], 'space') is None


def test_a_fault_of_the_program_is_no_missed_bar(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command_line, '_dispatch', lambda *_: [][0])
    assert command_line.main(['run.py'], tmp_path / 'default.py', dict) == 3
    assert 'IndexError' in capsys.readouterr().err
