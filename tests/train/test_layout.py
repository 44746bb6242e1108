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
    """Programs that take as long as they are told to, by layout: (compiling, a step) in seconds."""

    def __init__(self, **seconds):
        self.seconds, self.built, self.lengths = seconds, [], []

    def __call__(self, name):
        self.built.append(name)
        compiling, step = self.seconds[name]
        compiled = set()

        def run(x):
            self.lengths.append(len(x))
            CLOCK.now += len(x) * step + (0 if len(x) in compiled else compiling)
            compiled.add(len(x))
            return x

        return run


def fastest(programs, cells=16, steps=1000, chunk=10, key='a', **more):
    return layout.fastest(programs, lambda n: (jnp.zeros(n),), cells=cells, steps=steps, chunk=chunk, key=key, **more)


def test_the_layout_that_is_done_first_is_chosen():
    assert fastest(Programs(map=(0.01, 0.005), vmap=(0.02, 0.001))) == 'vmap'
    assert fastest(Programs(map=(0.01, 0.001), vmap=(0.02, 0.005)), key='b') == 'map'


def test_compiling_counts_as_long_as_the_run_is_short():
    assert fastest(Programs(map=(0.01, 0.002), vmap=(0.5, 0.001)), steps=10_000) == 'vmap'
    assert fastest(Programs(map=(0.01, 0.002), vmap=(0.5, 0.001)), steps=200) == 'map'


def test_where_compiling_takes_the_time_nothing_else_is_measured():
    programs = Programs(map=(0.2, 0.0001))
    assert fastest(programs, steps=200) == 'map'
    assert programs.built == ['map']


def test_a_run_of_few_dispatches_is_not_measured_at_all():
    programs = Programs()
    assert fastest(programs, steps=10 * (layout.SHORT - 1)) == 'map'
    assert programs.built == []


def test_slow_steps_are_measured_in_short_dispatches():
    """Layouts after the first, which may be slower still, take a second or so and not a chunk; all of them are told."""
    programs, told = Programs(map=(1.0, 0.3), vmap=(1.0, 0.9), unroll=(2.0, 0.2)), []
    assert fastest(programs, cells=2, steps=10_000, chunk=100, told=told.append) == 'unroll'
    assert programs.lengths == [100, 100, 3, 3, 3, 3]
    assert told == ['map', 'vmap', 'unroll']
    known = layout.known('a', 2, 10_000, 100)
    assert known.step == pytest.approx(0.2)
    assert known.whole(10_000) == pytest.approx(2.0 + 10_000 * 0.2)


def test_a_choice_is_remembered_for_the_structure_and_its_size():
    fastest(Programs(map=(0.01, 0.005), vmap=(0.02, 0.001)))
    assert fastest(Programs()) == 'vmap'
    assert layout.known('a', 16, 1000, 10).step == pytest.approx(0.001)
    assert layout.known('a', 17, 1000, 10) is None
    again = Programs(map=(0.01, 0.001), vmap=(0.02, 0.005))
    assert fastest(again, cells=17) == 'map'
    assert again.built == ['map', 'vmap']


def test_a_choice_is_not_that_of_other_convolutions(monkeypatch):
    fastest(Programs(map=(0.01, 0.005), vmap=(0.02, 0.001)))
    assert layout.known('a', 16, 1000, 10) is not None
    monkeypatch.setattr(onednn, 'by', lambda: {'float32': 'oneDNN 3.2.0', 'bfloat16': 'XLA'})
    assert layout.known('a', 16, 1000, 10) is None


def test_few_cells_may_be_unrolled_and_one_cell_always_is():
    seconds = {'map': (0.01, 0.005), 'vmap': (0.02, 0.003), 'unroll': (0.02, 0.001)}
    assert fastest(Programs(**seconds), cells=layout.UNROLLED) == 'unroll'
    assert fastest(Programs(), cells=1) == 'unroll'


def test_further_layouts_take_part():
    programs = Programs(map=(0.01, 0.005), vmap=(0.02, 0.003), cells=(0.02, 0.001))
    assert fastest(programs, more=('cells',)) == 'cells'


def test_what_another_process_remembered_first_is_gone_by():
    programs = Programs(map=(0.01, 0.005), vmap=(0.02, 0.001))

    def meanwhile(steps):
        layout._remember(layout._address('a', 16, 1000, 10), 'map', {'map': Times(1.0, 1.0, 10)})
        return (jnp.zeros(steps),)

    assert layout.fastest(programs, meanwhile, cells=16, steps=1000, chunk=10, key='a') == 'map'


def test_a_memory_that_cannot_be_read_is_made_anew(tmp_path):
    (tmp_path / 'kdjax').mkdir()
    (tmp_path / 'kdjax' / 'layouts.json').write_text('{')
    assert fastest(Programs(map=(0.01, 0.005), vmap=(0.02, 0.001))) == 'vmap'
    assert fastest(Programs()) == 'vmap'


def test_copies_may_be_donated():
    tree = {'a': jnp.arange(3.0)}
    jax.jit(lambda x: x, donate_argnums=0)(layout.copied(tree))
    assert tree['a'].sum() == 3
