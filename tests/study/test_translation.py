"""Translation from its config to what is measured, on digits that are written in the reverse order."""

import pytest

from configs import multi30k
from kdjax.study.recipe import execute, plan
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep.rows import applied
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

LITTLE = {'width': 32, 'depth': 1, 'heads': 4, 'inner': 64, 'dropout': 0.0, 'scanned': True}
SHORT = {
    'seeds': 1, 'data.source': 'reversed_digits:pairs', 'data.args': {}, 'teacher.args': LITTLE, 'student.args': LITTLE,
    'fits.*.steps': 400, 'teacher.fit.steps': 400, 'fits.*.batch_size': 64, 'teacher.fit.batch_size': 64,
    'fits.*.learning_rate': 5e-3, 'teacher.fit.learning_rate': 5e-3, 'run.validate_every': 400,
}  # fmt: skip


@pytest.mark.parametrize('arg', ['quick', 'quick,sequences=2', 'full', 'beam=5'])
def test_a_config_resolves(arg):
    config = multi30k.get_config(arg)
    assert config.is_locked
    assert resolve(applied(config, {'data.transfer_sizes': (10,)})).methods


@pytest.mark.slow
def test_a_teacher_writes_what_students_learn_to_write(tmp_path):
    pytest.importorskip('sacrebleu')
    config = applied(multi30k.get_config('sequences=2'), {**SHORT, 'data.transfer_sizes': (1500,)})
    with config.unlocked(), config.ignore_type():
        config.methods = {name: config.methods[name] for name in ('references alone', 'sequence level')}
    recipe = resolve(config.lock())
    context = Context(recipe.execution, Screen(quiet=True), StopSignals())
    execute.execute(list(plan.stages_of(recipe).values()), context, tmp_path)
    found = context.done['evaluate'].result
    assert found['teacher']['accuracy'] > 0.99
    assert found['teacher']['bleu'] > 97
    for method in recipe.methods:
        (metrics,) = found['metrics'][method]['1500']['last']
        assert metrics['accuracy'] > 0.99, method
        assert metrics['bleu'] > 97, method
        assert metrics['unended'] < 0.02
    cached = [artifact.result['bytes'] for name, artifact in context.done.items() if 'cache' in name]
    assert cached == [1500 * 22 * 4]
