"""A fit on other data first: the head begins anew, the rest goes on from there, and what makes no sense is refused."""

import csv

import numpy as np
import pytest
from ml_collections import ConfigDict

from kdjax.errors import UsageError
from kdjax.study import run
from kdjax.study.config import fields
from kdjax.study.recipe import evaluation, execute, plan
from kdjax.study.recipe.context import Context, Datasets
from kdjax.study.recipe.recipe import ALL
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep import expand, rows, worker
from kdjax.train.checkpoint import load_variables
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals
from tests.configs import tiny

METHODS = {'scratch': ('baseline',), 'tuned': ('pre', 'tune'), 'probe': ('pre', 'probe'), 'soft': ('pre', 'distill')}


def config(**changes):
    """Digits 0 to 4 after 5 to 9, which are six classes there; the teacher goes on from a network of its own."""
    new = tiny.get_config()
    with new.unlocked(), new.ignore_type():
        new.search = type(new.search)()
        new.data.source, new.data.transfer_sizes = 'tests.halves:low', (10, 20)
        new.upstream.source = 'tests.halves:high'
        for name in ('pre', 'tune', 'probe'):
            new.fits[name] = ConfigDict(new.fits.baseline.to_dict())
        new.fits.pre.examples, new.fits.probe.trains = 'upstream', ('head',)
        new.assistants.base = ConfigDict(new.teacher.to_dict())
        new.assistants.base.fit.examples = 'upstream'
        new.teacher.pretrained = 'base'
        new.methods, new.baseline, new.accept.method = ConfigDict(METHODS), 'scratch', 'probe'
    return fields.changed(new.lock(), changes)


def of_fit(workdir, name, what='variables'):
    (folder,) = workdir.glob(f'{name}-*')
    return load_variables(folder / what)['params']


def test_a_chain_goes_on_from_what_was_learned_upstream(tmp_path):
    recipe = resolve(config())
    stages, context = plan.stages_of(recipe), Context(recipe.execution, Screen(quiet=True), StopSignals())
    execute.execute([stages[name] for name in ('pre', 'pre+probe')], context, tmp_path)
    before, after = of_fit(tmp_path, 'pre'), of_fit(tmp_path, 'pre+probe')
    assert before['head']['kernel'].shape == (2, 8, 6)  # one for each seed, whatever the sizes
    assert after['head']['kernel'].shape == (4, 8, 5)
    for size in range(2):
        chosen = slice(2 * size, 2 * size + 2)
        for name, leaf in before['dense1'].items():
            np.testing.assert_array_equal(after['dense1'][name][chosen], leaf)
    first, then = (context.done[name].result for name in ('pre', 'pre+probe'))
    assert {cell['transfer_size'] for cell in first['cells']} == {ALL}
    curve, _ = evaluation.curves([first, then], [1, 3])
    assert [line['step'] for line in curve] == [40, 50, 60]  # steps upstream count, their accuracy is of other classes


def test_stages_know_what_they_start_from():
    stages = plan.stages_of(resolve(config()))
    assert {name: stages[name].needs for name in ('teacher', 'pre', 'pre+tune', 'pre+distill')} == {
        'teacher': ('base',), 'pre': (), 'pre+tune': ('pre',), 'pre+distill': ('cache', 'pre')
    }  # fmt: skip
    assert stages['pre'].inputs.data.source == 'tests.halves:high'
    assert stages['pre+tune'].inputs.new == stages['teacher'].inputs.new == ('head',)
    other = plan.stages_of(resolve(config(**{'upstream.new': ('head', 'dense1')})))
    changed = {name for name in stages if stages[name].key != other[name].key}
    assert changed == {'teacher', 'cache', 'pre+tune', 'pre+probe', 'pre+distill', 'evaluate'}
    smaller = plan.stages_of(resolve(config(**{'data.transfer_sizes': (10,)})))
    assert smaller['pre'].key == stages['pre'].key


def test_shapes_are_met_before_anything_trains_and_a_head_alone_costs_less():
    recipe, data = resolve(config()), Datasets()
    costs = plan.check_shapes(recipe, data(recipe.data))
    assert costs['probe'].flops < 0.7 * costs['tune'].flops
    with pytest.raises(UsageError, match=r"fit 'teacher': params/head/bias|fit 'teacher': head/bias has the shape"):
        plan.check_shapes(resolve(config(**{'upstream.new': ()})), data(recipe.data))
    with pytest.raises(UsageError, match="fit 'probe': unknown module 'haed' that is trained"):
        plan.check_shapes(resolve(config(**{'fits.probe.trains': ('haed',)})), data(recipe.data))


def test_another_task_upstream_is_judged_by_its_own_metrics():
    found = resolve(config(**{'upstream.task': ConfigDict({'kind': 'classification.Classification', 'score': 'nll'})}))
    stages = plan.stages_of(found)
    assert stages['pre'].inputs.task.args == {'score': 'nll'}
    assert not stages['pre+tune'].inputs.task.args


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'upstream.source': ''}, "fit 'pre' has examples='upstream', and there is no such data set: set upstream"),
        ({'methods.probe': ('probe', 'pre')}, "fit 'pre' of method 'probe' is upstream and comes after 'probe'"),
        ({'methods.probe': ('pre',)}, "method 'probe' ends with fit 'pre', which is upstream"),
        ({'teacher.fit.examples': 'upstream'}, 'teacher.fit teaches the task of `data`'),
        ({'fits.tune.teacher': 'before'}, "fit 'tune' has the teacher 'before', which is the student upstream"),
        ({'fits.distill.teacher': 'base'}, "fit 'distill' learns from `data` and its teacher 'base' upstream"),
        ({'fits.pre.weights.soft': 1.0}, "fit 'pre' learns upstream and its teacher 'teacher' from `data`"),
        ({'fits.pre.change': ConfigDict({'kind': 'quantize'})}, "fit 'pre' is upstream and has change 'quantize'"),
        ({'fits.probe.optim.ema': 0.9}, r"fit 'probe' trains \('head',\) alone, and optim.ema is of whole networks"),
        ({'fits.probe.optim.name': 'dot'}, 'alone, and optim.name is of whole networks'),
        ({'teacher.pretrained': 'teacher'}, "teacher.pretrained is 'teacher' itself"),
        ({'assistants.base.pretrained': 'teacher'}, "base.pretrained: 'teacher' learns from `data`, and 'base'"),
        ({'assistants.base.members': 2}, "teacher.pretrained: 'base' is 2 networks, and one network is"),
        ({'upstream.task': ConfigDict({'kind': 'nothing.Nothing'})}, "upstream: unknown task module 'nothing'|nothing"),
        ({'methods': ConfigDict({'probe': ('probe',)}), 'baseline': 'probe', 'accept.method': 'probe',
          'assistants.base.fit.examples': 'transfer'}, 'upstream.source=.* is a data set that no fit learns from'),
        ({'fits.pre.examples': 'upstreem'}, "unknown fits.pre.examples 'upstreem'; there is: 'upstream'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(changes, said):
    with pytest.raises(UsageError, match=said) as error:
        resolve(config(**changes))
    assert '\n' not in str(error.value)


def test_students_start_as_an_assistant():
    spec = config().teacher.to_dict()
    recipe = resolve(config(**{'student.pretrained': 'base', 'student.args': ConfigDict(spec['args'])}))
    stages, data = plan.stages_of(recipe), Datasets()
    assert stages['baseline'].needs == ('base',)
    assert stages['baseline'].inputs.new == ('head',)
    assert stages['pre'].inputs.new == ()
    plan.check_shapes(recipe, data(recipe.data))
    wrong = resolve(config(**{'student.pretrained': 'base'}))
    with pytest.raises(UsageError, match="fit 'baseline': dense1/bias has the shape"):
        plan.check_shapes(wrong, data(recipe.data))


def test_a_sweep_shares_what_is_learned_upstream_among_sizes():
    listed = rows.product(rows.axis('method', *METHODS), rows.axis('data.transfer_sizes', 10, 20))
    planned = expand.expand(config(**{'data.transfer_sizes': (10,)}), listed)
    upstream = [cell for cell in planned.cells.values() if cell.fit.upstream]
    assert len(upstream) == 2  # seeds
    assert not any(cell.key in planned.judges for cell in upstream)
    taught = next(stage for stage in planned.stages.values() if stage.name == 'teacher')
    assert [stage.name for stage in expand.with_needs(planned, taught.key)] == ['base', 'teacher']


@pytest.mark.slow
def test_a_sweep_trains_what_a_run_trains(tmp_path):
    """The teacher, which is not moved here, is the network upstream but for its head."""
    methods = ConfigDict({name: METHODS[name] for name in ('scratch', 'soft')})
    new = config(**{'data.transfer_sizes': (10,), 'methods': methods, 'teacher.fit.learning_rate': 0.0})
    run.run(fields.changed(new, {'accept.method': 'soft'}), tmp_path / 'run', 'command')
    worker.run(new, rows.axis('method', 'scratch', 'soft'), tmp_path / 'sweep', 'command')
    said = [[*csv.DictReader((tmp_path / name / 'report' / 'runs.csv').read_text().splitlines())]
            for name in ('run', 'sweep')]  # fmt: skip
    found = [{(row['method'], row['seed']): float(row['last_accuracy']) for row in table} for table in said]
    assert found[0].keys() == found[1].keys()
    assert all(found[1][key] == pytest.approx(value, abs=1e-3) for key, value in found[0].items())
    first, then = of_fit(tmp_path / 'sweep', 'base'), of_fit(tmp_path / 'sweep', 'teacher')
    for name, leaf in first['dense1'].items():
        np.testing.assert_array_equal(then['dense1'][name], leaf)
    assert then['head']['kernel'].shape != first['head']['kernel'].shape
