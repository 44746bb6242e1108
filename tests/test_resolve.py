"""Names resolve by where they live; a wrong one is answered with what exists, nearest first."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdjax.errors import UsageError, nearest, unknown
from kdjax.resolve import construct, resolve

TEA = """
from collections import OrderedDict

class Green:
    def __init__(self, *, cups=1, sugar=False):
        self.cups, self.sugar = cups, sugar

class Grey:
    pass

def brew(*, minutes):
    return f'{minutes} minutes'

def _secret():
    pass

LEAVES = 3
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A package 'shop' with the modules 'tea' and 'tools'."""
    package = tmp_path / 'shop'
    package.mkdir()
    for name, source in {'__init__': '', 'tea': TEA, 'tools': 'def kettle(): ...'}.items():
        (package / f'{name}.py').write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    yield 'shop'
    for loaded in ('shop', 'shop.tea', 'shop.tools'):
        sys.modules.pop(loaded, None)


def test_a_name_is_the_object_that_lives_there(shop):
    assert resolve(shop, 'tea.Green', 'drink') is sys.modules['shop.tea'].Green
    assert resolve(shop, 'tools.kettle', 'drink') is sys.modules['shop.tools'].kettle


def test_an_unknown_module_is_answered_with_the_modules_nearest_first(shop):
    with pytest.raises(UsageError, match=r"^unknown drink 'tee.Green'; there is: 'tea', 'tools'$"):
        resolve(shop, 'tee.Green', 'drink')
    with pytest.raises(UsageError, match=r"^unknown drink 'tool.Green'; there is: 'tools', 'tea'$"):
        resolve(shop, 'tool.Green', 'drink')


@pytest.mark.parametrize('name', ['tea.Gren', 'tea._secret', 'tea.OrderedDict', 'tea.LEAVES', 'tea', 'tea.Green.cups'])
def test_only_a_modules_own_public_objects_have_names(shop, name):
    with pytest.raises(UsageError, match=f"^unknown drink '{name}'; there is: 'tea.Gre") as caught:
        resolve(shop, name, 'drink')
    offered = str(caught.value).partition('there is: ')[2]
    assert sorted(offered.split(', ')) == ["'tea.Green'", "'tea.Grey'", "'tea.brew'"]


def test_construction_passes_the_arguments_on(shop):
    green = construct(shop, 'tea.Green', {'cups': 3}, 'drink')
    assert (green.cups, green.sugar) == (3, False)
    assert construct(shop, 'tea.brew', {'minutes': 4}, 'drink') == '4 minutes'


def test_a_wrong_argument_is_answered_with_the_right_ones_nearest_first(shop):
    wanted = r"^unknown argument 'suger' of drink 'tea.Green'; there is: 'sugar', 'cups'$"
    with pytest.raises(UsageError, match=wanted):
        construct(shop, 'tea.Green', {'cups': 3, 'suger': True}, 'drink')


def test_an_error_without_alternatives_says_so():
    error = unknown('tap', 'stage9', [], ' of the student')
    assert str(error) == "unknown tap 'stage9' of the student; there is: none"


words = st.text('abcdxyz_', min_size=1, max_size=8)


@given(st.sets(words, min_size=1), words)
def test_nearest_orders_all_known_names_whatever_their_order(known, name):
    found = nearest(name, sorted(known))
    assert sorted(found) == sorted(known)
    assert found == nearest(name, sorted(known, reverse=True))


@given(st.sets(words, min_size=1), st.data())
def test_a_known_name_is_nearest_to_itself(known, data):
    name = data.draw(st.sampled_from(sorted(known)))
    assert nearest(name, known)[0] == name


def test_a_line_stays_a_line_whatever_is_named():
    said = str(unknown('term', 'x' * 5000, [f'technique{k}' for k in range(100)]))
    assert len(said) < 300
    assert "xxx... (5002 characters); there is: 'technique" in said
    assert re.search(r' and \d\d more$', said)
    assert "unknown method None; there is: 'soft'" in str(unknown('method', None, ['soft']))
