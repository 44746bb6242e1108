"""Every field of a config has a rule, and every rule a field; what is wrong is said once, field by field."""

import math
import re

import pytest
from ml_collections import ConfigDict

from configs import base
from kdjax.errors import UsageError
from kdjax.study.config import check, rules, schema
from kdjax.study.config.search import Search

WRONG = (object(), len, {'nonsense': 1}, b'x', ({'a': 1},), math.nan)


def places(rule, field=''):
    """Every rule of the table with the field that it is of, as far as the names of fields are not the user's."""
    yield field, rule
    for name, inner in getattr(rule, 'fields', {}).items():
        yield from places(inner, f'{field}.{name}'.lstrip('.'))


FIELDS = dict(places(schema.CONFIG))
LEAVES = [field for field, rule in FIELDS.items() if not isinstance(rule, rules.Part | rules.Named | rules.Optional)]


def put(config, field, value):
    """The config with any value in a field, as `ignore_type` lets a config file have it."""
    *way, last = field.split('.')
    node = config
    for part in way:
        node = node[part]
    with config.unlocked(), config.ignore_type():
        node[last] = value
    return config


def names(node, field=''):
    for name in node:
        inner = f'{field}.{name}'.lstrip('.')
        yield inner
        if isinstance(node[name], ConfigDict):
            yield from names(node[name], inner)


def test_the_defaults_are_what_the_table_says_and_nothing_is_left_out():
    assert schema.check(base.get_config()) == ([], True)
    assert {field for field in FIELDS if field} <= set(names(base.get_config()))


def test_a_field_that_the_table_does_not_know_is_unknown():
    config = base.config()
    config.run.device = 'gpu'
    config.fits.combined.epochs = 3
    messages, _ = schema.check(config)
    assert [message.partition(';')[0] for message in messages] == [
        "unknown config field 'epochs' in 'fits.combined.epochs'",
        "unknown config field 'device' in 'run.device'",
    ]


@pytest.mark.parametrize('field', LEAVES)
def test_nothing_is_of_any_type(field):
    """Whatever the field: an object, a function, a mapping, bytes, a mapping in a tuple and no number are refused."""
    for value in WRONG:
        messages, typed = schema.check(put(base.config(), field, value))
        assert messages, (field, value)
        assert all(len(message) <= 300 and field in message for message in messages)
        assert not typed or value is WRONG[-1]


@pytest.mark.parametrize('field', [field for field, rule in FIELDS.items() if field])
def test_what_is_missing_is_named(field):
    config = base.config()
    *way, last = field.split('.')
    node = config
    for part in way:
        node = node[part]
    del node[last]
    missing = [] if field in ('student.inputs', 'student.pretrained', 'student.start') else [f'{field} is missing']
    assert schema.check(config)[0] == missing


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('seeds', True, 'seeds must be an integer from 1 to 100000, got True'),
        ('seeds', 1.0, 'seeds must be an integer from 1 to 100000, got 1.0'),
        ('title', 'a\nb', r"title must be text without control characters, got 'a\nb'"),
        ('teacher.weights', 'a\0b', r"teacher.weights must be text without control characters, got 'a\x00b'"),
        ('baseline', None, 'baseline must be text without control characters, got None'),
        ('teacher.members', 10**12, 'teacher.members must be an integer from 1 to 1000, got 1000000000000'),
        ('data.label_noise', 1.5, 'data.label_noise must be a finite number in [0, 1], got 1.5'),
        ('run.memory', math.inf, 'run.memory must be a finite number >= 0, got inf'),
        ('accept.score', math.nan, 'accept.score must be a finite number, got nan'),
        ('retry.temperature', (2.0, math.nan), 'retry.temperature[1] must be a finite number >= 0, got nan'),
        ('retry.temperature', 2.0, 'retry.temperature must be a tuple, got 2.0'),
        ('data.transfer_sizes', ('a', 0), "data.transfer_sizes[0] must be an integer >= 1, got 'a'"),
        ('data.buckets', (8, 8), 'data.buckets must be increasing widths >= 1, or none, got (8, 8)'),
        ('data.augment', (), 'data.augment must be one or several, got none'),
        ('data.augment', ({'padding': 2},), 'data.augment[0].kind is missing'),
        ('data.augment', {'kind': 'a', 'b': ({},)}, 'data.augment.b[0] must be a number, text, True, False, None or '),
        ('methods.combined', 3, 'methods.combined must be a tuple, got 3'),
        ('methods', {3: ('combined',)}, 'methods must have text as names, got 3'),
        ('student.args', {1: 2, 'a': 3}, 'student.args must have text as names, got 1'),
        ('student.args', {'widths': (math.inf,)}, 'student.args.widths[0] must be finite, got inf'),
        ('launch.where', 'pol', "unknown launch.where 'pol'; there is: 'pool', 'slurm', 'here'"),
        ('launch.slurm.cluster', 'slrum', "unknown launch.slurm.cluster 'slrum'; there is: 'slurm', "),
        ('launch.slurm.extra', {'a': len}, 'launch.slurm.extra.a must be a number, text, True, False, None or '),
        ('tune.keep_one_in', 1, 'tune.keep_one_in must be an integer >= 2, got 1'),
        ('search', {'a': (1.0,)}, 'search must be a Search({field: candidates}) of kdjax.study.config.search, got '),
        ('run', 'x' * 5000, "run must be a mapping, got 'xxx"),
        (
            'fits.distill.learning_rate',
            (0.1, 0.2),
            'fits.distill.learning_rate must be a number, got (0.1, 0.2); candidates that validation chooses from are',
        ),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_that_names_it(field, value, message):
    config = put(base.config(), field, ConfigDict(value) if isinstance(value, dict) else value)
    found, _ = schema.check(config)
    assert found[0].startswith(message)
    assert max(map(len, found)) < 300


def test_the_same_fault_of_several_fields_is_one_line():
    config = base.config()
    for fit in config.fits.values():
        fit.batch_size = 0
    assert schema.check(config)[0] == [
        'fits.baseline.batch_size, fits.combined.batch_size, fits.distill.batch_size and 1 more '
        'must be an integer >= 1, got 0'
    ]


def test_fields_of_the_right_type_are_held_against_each_other_all_the_same():
    config = base.config()
    config.seeds, config.accept.method = 0, 'nobody'
    with pytest.raises(UsageError) as error:
        check.check(config)
    assert [line.partition(',')[0].partition(';')[0] for line in str(error.value).splitlines()] == [
        'seeds must be an integer from 1 to 100000',
        "unknown method 'nobody' in accept.method",
    ]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'seed': 2**32 - 1}, r'seed \+ seeds must be at most 4294967296, got 4294967295 \+ 20'),
        (
            {'search': Search({'fits.*.learning_rate': (0.1,) * 6000})},
            '6000 candidates of .* for 20 sizes and seeds are',
        ),
        ({'fits': {'grid': base.fit()}}, "fit 'grid' has the name of a stage"),
        ({'terms': {'a/b': {'kind': 'x'}}}, "term 'a/b' names a folder"),
    ],
)
def test_fields_that_cannot_be_beside_each_other(change, message):
    config = base.config()
    with config.ignore_type():
        config.update(change)
    with pytest.raises(UsageError, match=message):
        check.check(config)


def test_chains_of_fits_stay_names_of_folders():
    config = base.config()
    long = [letter * 80 for letter in 'abc']
    for name in long:
        config.fits[name] = base.fit(hard=1.0)
    config.methods.combined = tuple(long)
    with pytest.raises(UsageError, match=re.escape("the fits of method 'combined' name a folder together")):
        check.check(config)
