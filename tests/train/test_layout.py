"""The layout of a grid is measured, chosen and remembered."""

import jax
import jax.numpy as jnp
import pytest

from kdjax.cpu import onednn
from kdjax.train import layout
from kdjax.train.layout import Times


class Clock:
    """A clock that only programs move: the machine may be as busy as it likes."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


CLOCK = Clock()


@pytest.fixture(autouse=True)
def _own_cache_and_clock(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(layout, 'time', CLOCK)


class Programs:
    """Programs that take as long as they are told to, by layout: (first call, later calls) in seconds."""

    def __init__(self, **seconds):
        self.seconds, self.built = seconds, []

    def __call__(self, name):
        self.built.append(name)
        waits = list(self.seconds[name])

        def run(x):
            CLOCK.now += waits.pop(0)
            return x

        return run


def fastest(programs, cells=16, dispatches=100, key='a', **more):
    return layout.fastest(programs, lambda: (jnp.zeros(()),), cells=cells, dispatches=dispatches, key=key, **more)


def test_the_layout_that_is_done_first_is_chosen():
    assert fastest(Programs(map=(0.01, 0.05), vmap=(0.02, 0.01))) == 'vmap'
    assert fastest(Programs(map=(0.01, 0.01), vmap=(0.02, 0.05)), key='b') == 'map'


def test_compiling_counts_as_long_as_the_run_is_short():
    long = Programs(map=(0.01, 0.02), vmap=(0.5, 0.01))
    assert fastest(long, dispatches=1000) == 'vmap'
    assert fastest(Programs(map=(0.01, 0.02), vmap=(0.5, 0.01)), dispatches=20) == 'map'


def test_where_compiling_takes_the_time_nothing_else_is_measured():
    programs = Programs(map=(0.2, 0.001))
    assert fastest(programs, dispatches=20) == 'map'
    assert programs.built == ['map']


def test_a_run_of_few_dispatches_is_not_measured_at_all():
    programs = Programs()
    assert fastest(programs, dispatches=layout.SHORT - 1) == 'map'
    assert programs.built == []


def test_a_choice_is_remembered_for_the_structure_and_its_size():
    fastest(Programs(map=(0.01, 0.05), vmap=(0.02, 0.01)))
    assert fastest(Programs()) == 'vmap'
    assert layout.known('a', 16, 100).dispatch == pytest.approx(0.01)
    assert layout.known('a', 17, 100) is None
    again = Programs(map=(0.01, 0.01), vmap=(0.02, 0.05))
    assert fastest(again, cells=17) == 'map'
    assert again.built == ['map', 'vmap']


def test_a_choice_is_not_that_of_other_convolutions(monkeypatch):
    fastest(Programs(map=(0.01, 0.05), vmap=(0.02, 0.01)))
    assert layout.known('a', 16, 100) is not None
    monkeypatch.setattr(onednn, 'by', lambda: {'float32': 'oneDNN 3.2.0', 'bfloat16': 'XLA'})
    assert layout.known('a', 16, 100) is None


def test_few_cells_may_be_unrolled_and_one_cell_always_is():
    seconds = {'map': (0.01, 0.05), 'vmap': (0.02, 0.03), 'unroll': (0.02, 0.01)}
    assert fastest(Programs(**seconds), cells=layout.UNROLLED) == 'unroll'
    assert fastest(Programs(), cells=1) == 'unroll'


def test_further_layouts_take_part():
    programs = Programs(map=(0.01, 0.05), vmap=(0.02, 0.03), cells=(0.02, 0.01))
    assert fastest(programs, more=('cells',)) == 'cells'


def test_what_another_process_remembered_first_is_gone_by():
    programs = Programs(map=(0.01, 0.05), vmap=(0.02, 0.01))

    def meanwhile():
        layout._remember(layout._address('a', 16, 100), 'map', {'map': Times(1.0, 1.0)})
        return (jnp.zeros(()),)

    assert layout.fastest(programs, meanwhile, cells=16, dispatches=100, key='a') == 'map'


def test_a_memory_that_cannot_be_read_is_made_anew(tmp_path):
    (tmp_path / 'kdjax').mkdir()
    (tmp_path / 'kdjax' / 'layouts.json').write_text('{')
    assert fastest(Programs(map=(0.01, 0.05), vmap=(0.02, 0.01))) == 'vmap'
    assert fastest(Programs()) == 'vmap'


def test_copies_may_be_donated():
    tree = {'a': jnp.arange(3.0)}
    jax.jit(lambda x: x, donate_argnums=0)(layout.copied(tree))
    assert tree['a'].sum() == 3
