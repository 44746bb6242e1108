"""How much XLA tries: its flags, and who asks for less."""

from configs import bccd
from kdjax.cpu import effort


def test_what_is_said_already_stays():
    environment = {}
    effort.save(environment)
    assert environment == {effort.FLAGS: ' '.join(effort.little())}
    effort.save(environment)
    assert environment[effort.FLAGS].split() == list(effort.little())
    environment = {effort.FLAGS: '--xla_backend_optimization_level=3 --xla_dump_to=here'}
    effort.save(environment)
    said = environment[effort.FLAGS].split()
    assert said[-2:] == ['--xla_backend_optimization_level=3', '--xla_dump_to=here']
    assert said[:-2] == list(effort.little()[1:])


def test_a_quick_look_asks_for_less():
    assert bccd.get_config().run.optimise
    assert not bccd.get_config('quick').run.optimise
