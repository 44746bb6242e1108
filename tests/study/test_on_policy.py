"""Texts that are written in the steps of a fit, from the config to what is measured."""

import pytest

from configs import base, multi30k, shakespeare
from kdjax.errors import UsageError
from kdjax.study.recipe import build, execute, plan
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep import collect, expand, rows, worker
from kdjax.study.sweep.rows import applied
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

LITTLE = {'width': 8, 'depth': 1, 'heads': 2, 'inner': 8, 'dropout': 0.0, 'scanned': True}
SHORT = {'fits.*.steps': 2, 'teacher.fit.steps': 2, 'fits.*.batch_size': 8, 'teacher.fit.batch_size': 8,
         'run.chunk': 2, 'run.validate_every': 2, 'seeds': 1, 'student.args': LITTLE,
         'teacher.args': LITTLE, 'fits.*.optim.warmup': 0, 'teacher.fit.optim.warmup': 0}  # fmt: skip


def plays(**changes):
    own = {f'fits.{name}.texts.prompt': 3 for name in ('gkd', 'minillm', 'distillm')}
    given = {
        'data.source': 'likely_letters:texts',
        'data.args': {},
        'task.own': 6,
        'task.prompt': 3,
        **SHORT,
        **own,
    }
    return applied(shakespeare.get_config(), {**given, **changes})


def translation(**changes):
    """Reversed digits, with the three ways to write in a step."""
    config = multi30k.get_config().copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        config.terms.update({'sequence': {'kind': 'minillm.SequenceReverseKL'}, 'jsd': {'kind': 'gkd.GeneralizedJSD'}})
        config.fits.gkd, config.fits.minillm = base.fit(jsd=1.0), base.fit(sequence=1.0, hard=1.0)
        config.fits.replay = base.fit(soft=1.0)
        config.methods = {config.baseline: config.methods[config.baseline]}
        config.accept.method = config.baseline
        for name, kind in (('gkd', 'student'), ('minillm', 'mixed'), ('replay', 'replay')):
            config.fits[name].texts = {'kind': kind}
            config.methods[name] = (name,)
    last = dict.fromkeys(('fits.*.optim.average_last', 'teacher.fit.optim.average_last'), 0)
    given = {'data.source': 'reversed_digits:pairs', 'data.args': {}, **SHORT, **last,
             'fits.*.optim.warmup': 1, 'teacher.fit.optim.warmup': 1}  # fmt: skip
    return applied(config.lock(), {**given, **changes})


def traced(config):
    recipe = resolve(config)
    return plan.check_shapes(recipe, build.dataset(recipe.data))


def ran(config, workdir):
    recipe = resolve(config)
    context = Context(recipe.execution, Screen(quiet=True), StopSignals())
    execute.execute(list(plan.stages_of(recipe).values()), context, workdir)
    return context


@pytest.mark.parametrize('config', [plays, translation])
def test_fits_that_write_could_run(config):
    assert all(cost.flops > 0 for cost in traced(config()).values())


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'teacher.mode': 'cached'}, "what 'teacher' says of them cannot be looked up: set teacher.mode='online'"),
        ({'fits.gkd.texts.kind': 'nobody'}, "unknown fits.gkd.texts.kind 'nobody'"),
        ({'fits.gkd.texts': {}}, r"set texts to {'kind': 'student'}, got \(0.7,\) and \(1.0,\)"),
        ({'fits.gkd.on_policy': 1.5}, r'on_policy must be in \[0, 1\], got \(1.5,\)'),
        ({'fits.gkd.sampling_temperature': 0.0}, r'sampling_temperature must be > 0, got \(0.0,\)'),
        ({'fits.minillm.on_policy': 1.0}, "term 'hard' reads labels, and with on_policy=1 no example has any"),
        ({'fits.hard.texts': {'kind': 'student'}}, "texts of kind 'student' are judged by a teacher"),
        ({'fits.distillm.texts.capacity': 7}, 'capacity of texts must be at least a batch, 8, got 7'),
        ({'fits.forward.weights': {'sequence': 1.0}}, r"batch\['written'\], the tokens that are written in a step"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_anything_trains(changes, said):
    with pytest.raises(UsageError, match=said):
        traced(plays(**{'fits.gkd.on_policy': 0.7, **changes}))


@pytest.mark.slow
def test_a_run_says_what_own_texts_are_worth_and_what_they_cost(tmp_path):
    context = ran(plays(**{'fits.*.steps': 30, 'teacher.fit.steps': 60}), tmp_path)
    found = context.done['evaluate'].result
    assert found['teacher']['own_kl'] == pytest.approx(0, abs=1e-5)
    for method, sizes in found['metrics'].items():
        (metrics,) = sizes['120']['last']
        assert metrics['own_kl'] > 0
        assert 0 < metrics['own_acceptance'] < 1
        assert 0 < metrics['own_distinct'] <= 1
        more = found['costs'][method]['more']
        parts = more['sampling_ms'] + more['teacher_ms'] + more['update_ms']
        assert more['step_ms'] == pytest.approx(parts)
        assert (more['sampling_ms'] > 0) == (method in ('GKD', 'MiniLLM', 'DistiLLM'))
        assert (more['teacher_ms'] > 0) == (method != 'the plays alone')


@pytest.mark.slow
def test_a_sweep_says_what_own_texts_are_worth(tmp_path):
    planned = expand.expand(plays(), rows.axis('method', 'the plays alone', 'GKD'))
    with StopSignals() as stop:
        worker.Worker(planned, tmp_path, Screen(quiet=True), stop).work()
    found = collect.results(planned, tmp_path, '')
    teacher = next(iter(found.teachers.values()))
    assert teacher.metrics['own_kl'] == pytest.approx(0, abs=1e-5)
    for run in found.runs:
        assert run.last['own_kl'] > 0
        assert 0 < run.last['own_acceptance'] < 1
        more = run.cost.more
        assert more['step_ms'] == pytest.approx(more['sampling_ms'] + more['teacher_ms'] + more['update_ms'])
        assert (more['sampling_ms'] > 0) == (run.method == 'GKD')


@pytest.mark.slow
def test_translators_are_taught_on_what_they_write(tmp_path):
    args = {**LITTLE, 'width': 32, 'heads': 4, 'inner': 64}
    longer = {'teacher.fit.steps': 400, 'fits.*.steps': 200, 'fits.*.batch_size': 64, 'teacher.fit.batch_size': 64,
              'teacher.fit.learning_rate': 5e-3, 'fits.*.learning_rate': 5e-3, 'run.validate_every': 200,
              'teacher.args': args, 'student.args': args,
              'student.start': {'words': 'words', 'encoder': 'encoder:spread'},
              # After a warm-up of one step the rate would have fallen to a tenth before anything is learned
              'teacher.fit.optim.warmup': 100, 'fits.*.optim.warmup': 50,
              'task.beam': 0, 'task.score': 'nll'}  # fmt: skip
    context = ran(translation(**longer), tmp_path)
    found = context.done['evaluate'].result
    for method in ('gkd', 'minillm', 'replay'):
        (metrics,) = found['metrics'][method]['1500']['last']
        assert metrics['accuracy'] > 0.99, method
