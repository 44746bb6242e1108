"""A look at the gradients of terms, through the recipe: off by default, and then as if it were not there."""

import copy
import runpy
import shutil
import traceback
from pathlib import Path

import jax
import pytest

from kdjax import trees
from kdjax.errors import UsageError
from kdjax.study.recipe import evaluation, execute, plan
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.techniques.hinton import SoftTargets
from kdjax.train import ledger, objective
from kdjax.train.checkpoint import load_variables
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

TINY = runpy.run_path(str(Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'))['get_config']


def changed(every, runner='single'):
    config = copy.deepcopy(TINY())
    with config.unlocked():
        config.methods = {'combined': ('combined',)}
        config.baseline = 'combined'
        config.run.anatomy_every, config.run.runner = every, runner
        config.fits.combined.batch_size = 16
    return config


def trained(workdir, every, runner='single', config=None):
    """The context after the stages up to the student's, in this process."""
    recipe = resolve(config or changed(every, runner))
    context = Context(recipe.execution, Screen(), StopSignals())
    todo = [stage for name, stage in plan.stages_of(recipe).items() if name != 'evaluate']
    execute.execute(todo, context, workdir)
    return context


def test_ten_files_lead_from_the_command_line_to_a_term(tmp_path, monkeypatch):
    """As many as a reader meets: those on the stack where a student's term is first asked for its values."""
    stacks = []

    def values(term, inputs, knobs):
        stacks.append([frame.filename for frame in traceback.extract_stack()])
        return asked(term, inputs, knobs)

    asked = SoftTargets.values
    monkeypatch.setattr(SoftTargets, 'values', values)
    trained(tmp_path, every=0)
    (stack, *_) = [stack for stack in stacks if any(name.endswith('train/loop.py') for name in stack)]
    package = Path(objective.__file__).parents[1]
    met = dict.fromkeys(str(Path(name).relative_to(package)) for name in stack if Path(name).is_relative_to(package))
    below = ['study/recipe/execute.py', 'study/recipe/stages.py', 'train/loop.py', 'train/grid.py', 'train/step.py']
    assert list(met) == [*below, 'train/objective.py', 'techniques/base.py']  # then the technique; run and command line


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp('runs')


@pytest.fixture(scope='module')
def looked(workdir):
    return trained(workdir, every=15)


def test_a_student_is_trained_again_to_be_looked_at_and_is_the_same(looked, workdir):
    plain = trained(workdir, every=0)
    assert plain.done['teacher'].folder == looked.done['teacher'].folder
    assert plain.done['combined'].folder != looked.done['combined'].folder
    one, other = (load_variables(context.done['combined'].folder / 'variables') for context in (plain, looked))
    assert trees.fingerprint(one) == trees.fingerprint(other)
    results = [dict(context.done['combined'].result) for context in (plain, looked)]
    assert results[0].pop('anatomy') == []
    assert [line['step'] for line in results[1].pop('anatomy')] == [20, 30]  # in chunks of 10
    assert results[0] == results[1]
    kinds = {line['kind'] for line in ledger.read(plain.done['combined'].folder / 'ledger.jsonl')}
    assert kinds == {'train', 'validation'}


def test_every_cell_is_looked_at_and_has_what_is_its_own(looked):
    result = looked.done['combined'].result
    assert len(result['cells']) == 4  # two temperatures, two seeds
    for line in result['anatomy']:
        assert {name for name in line if '/' in name} == {'norm/hard', 'norm/soft', 'cosine/hard|soft'}
        assert all(len(values) == 4 and all(map(bool, values)) for name, values in line.items() if '/' in name)
    for cell in range(4):
        _, gradients = evaluation.curves([result], [cell])
        assert [line['step'] for line in gradients] == [20, 30]
        for line, whole in zip(gradients, result['anatomy'], strict=True):
            assert line['norms'] == {name: whole[f'norm/{name}'][cell] for name in ('hard', 'soft')}
            assert line['cosines'] == {'hard|soft': whole['cosine/hard|soft'][cell]}


@pytest.mark.rotating(0, 2)
def test_a_term_that_can_move_nothing_is_named_before_anything_is_trained(workdir, looked, tmp_path, capsys):
    """In the log, in the ledger and in what the fit leaves; nobody has to ask for a look."""
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns('combined-*'))
    config = changed(every=0)
    with config.unlocked():
        config.terms.nothing = {'kind': 'dkd.DecoupledTargets', 'alpha': 0.0, 'beta': 0.0}
        config.fits.combined.weights.nothing = 1.0
    done = trained(tmp_path, every=0, config=config).done['combined']
    assert done.result['silent'] == ['nothing']
    assert looked.done['combined'].result['silent'] == []
    assert 'warning: combined: the gradient of nothing is 0 whatever the student says' in capsys.readouterr().err
    kinds = [line['kind'] for line in ledger.read(done.folder / 'ledger.jsonl')]
    assert kinds[0] == 'silent'


@pytest.mark.parametrize('runner', ['pmap', 'cells'])
def test_it_is_the_same_over_devices(runner, looked, workdir, tmp_path):
    """Tables of the teacher's outputs come with the batch; each cell has its own examples."""
    assert len(jax.devices()) == 4
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns('combined-*'))
    spread = trained(tmp_path, every=15, runner=runner).done['combined'].result['anatomy']
    for line, wanted in zip(spread, looked.done['combined'].result['anatomy'], strict=True):
        assert line.keys() == wanted.keys()
        for name in line:
            if '/' in name:
                assert line[name] == pytest.approx(wanted[name], rel=2e-2, abs=2e-3)


def test_the_fits_of_a_method_are_joined_and_artifacts_without_looks_are_still_good():
    def fit(steps, **anatomy):
        return {'history': [{'step': steps, 'accuracy': [0.5, 0.6]}], 'chosen': {'100': {}}, **anatomy}

    line = {'kind': 'anatomy', 'step': 10, 'norm/hard': [1.0, None]}
    history, gradients = evaluation.curves([fit(30), fit(10, anatomy=[line])], [1, 0])
    assert gradients == [{'step': 40, 'norms': {'hard': 1.0}, 'cosines': {}}]
    assert history == [{'step': 30, 'metrics': {'accuracy': 0.6}}, {'step': 40, 'metrics': {'accuracy': 0.5}}]


def test_it_is_off_by_default_and_a_negative_number_is_refused():
    assert TINY().run.anatomy_every == 0
    assert all('anatomy_every' not in stage.reads for stage in plan.stages_of(resolve(TINY())).values())
    with pytest.raises(UsageError, match=r'run.anatomy_every must be an integer >= 0, got -1'):
        resolve(changed(-1))
