"""A teacher that PyTorch trained: read, measured, not trained again, and another file is another teacher."""

import functools

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs import base
from kdjax import trees
from kdjax.errors import UsageError
from kdjax.export import weights as named
from kdjax.nets import mlp, resnet_cifar, torch_weights
from kdjax.study.recipe import build, dry_run, execute, plan
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep.rows import applied
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

ARGS = {'depth': 8, 'widths': (1, 2, 2, 3)}
LIKE = functools.partial(jax.eval_shape, resnet_cifar.resnet(classes=10, **ARGS).init, jax.random.key(0))


LEAVES = {'kernel': 'weight', 'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}


@pytest.fixture
def weights(tmp_path):
    """A file of weights as PyTorch calls them: drawn, and in its layout."""
    random, state = np.random.default_rng(0), {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(LIKE(np.zeros((1, 8, 8), np.float32))):
        *module, last = jax.tree_util.keystr(path, simple=True, separator='/').split('/')[1:]
        drawn = random.uniform(0.5, 1, leaf.shape).astype(np.float32)
        name = '.'.join([*module, LEAVES.get(last, last)]).replace('head', 'fc')
        state[name.replace('_', '.').replace('running.', 'running_')] = np.ascontiguousarray(
            drawn.transpose(3, 2, 0, 1) if drawn.ndim == 4 else drawn.T
        )
    save_file(state, tmp_path / 'teacher.safetensors')
    return tmp_path / 'teacher.safetensors'


def config_of(path, **changes):
    config = base.config()
    fields = {
        'teacher.net': 'resnet_cifar.resnet', 'teacher.args': ARGS, 'teacher.weights': str(path), 'seeds': 1,
        'data.transfer_sizes': (20,), 'fits.*.steps': 2, 'run.chunk': 1, **changes,
    }  # fmt: skip
    return applied(config.lock(), fields)


def test_the_weights_teach(weights, tmp_path):
    recipe = resolve(config_of(weights))
    context = Context(recipe.execution, Screen(quiet=True), StopSignals())
    teacher = plan.stages_of(recipe)['teacher']
    execute.execute([teacher], context, tmp_path)
    found, wanted = (
        context.teacher_variables(teacher.inputs),
        torch_weights.load(weights, LIKE(np.zeros((1, 8, 8), np.float32))),
    )
    assert trees.fingerprint(found) == trees.fingerprint(wanted)
    artifact = context.done['teacher']
    assert artifact.result['validation']['accuracy'] is not None
    assert not (artifact.folder / 'ledger.jsonl').exists(), 'it was trained'


def test_how_it_would_have_been_trained_changes_nothing_and_another_file_does(weights, tmp_path):
    def key(path, **changes):
        return plan.stages_of(resolve(config_of(path, **changes)))['teacher'].key

    assert key(weights) == key(weights, **{'teacher.fit.steps': 7, 'teacher.views': 3})
    copy = tmp_path / 'copy.safetensors'
    copy.write_bytes(weights.read_bytes())
    assert key(weights) == key(copy)
    copy.write_bytes(weights.read_bytes() + b' ')
    assert key(weights) != key(copy)
    assert key(weights) != key('')


def test_a_teacher_goes_on_from_a_file(tmp_path):
    net = mlp.mlp(classes=10, widths=(3,))
    weights, drawn = tmp_path / 'teacher.safetensors', net.init(jax.random.key(1), np.zeros((1, 8, 8), np.float32))
    leaves = named.paths(drawn).items()
    save_file({named.name(path, 'mlp.mlp', None): named.laid_out(leaf, path) for path, leaf in leaves}, weights)
    still = {'teacher.net': 'mlp.mlp', 'teacher.args': {'widths': (3,)}, 'teacher.weights': '', 'teacher.members': 2,
             'teacher.pretrained': str(weights), 'teacher.fit.learning_rate': 0.0,
             'teacher.fit.weight_decay': 0.0}  # fmt: skip
    recipe = resolve(config_of('', **still))
    context = Context(recipe.execution, Screen(quiet=True), StopSignals())
    teacher = plan.stages_of(recipe)['teacher']
    execute.execute([teacher], context, tmp_path)
    assert (context.done['teacher'].folder / 'ledger.jsonl').exists(), 'it was not trained'
    for member in context.teacher_variables(teacher.inputs)['params']:
        assert trees.fingerprint(jax.device_get(member)) == trees.fingerprint(jax.device_get(drawn['params']))


def test_another_file_to_start_from_is_another_teacher(weights):
    def key(**changes):
        return plan.stages_of(resolve(config_of('', **changes)))['teacher'].key

    assert len({key(), key(**{'teacher.pretrained': str(weights)}), key(**{'teacher.weights': str(weights)})}) == 3


def test_a_file_that_does_not_fit_is_met_before_anything_trains(weights):
    config = config_of('', **{'teacher.pretrained': str(weights), 'teacher.args': {**ARGS, 'widths': (1, 2, 2, 4)}})
    recipe = resolve(config)
    inputs = plan.stages_of(recipe)['teacher'].inputs
    with pytest.raises(UsageError, match=r"weights '.*teacher\.safetensors': .* of another shape: "):
        dry_run.trace(inputs, build.dataset(recipe.data))


def test_what_cannot_be_read_is_met_before_anything_trains(weights):
    with pytest.raises(UsageError, match=r"teacher\.pretrained: no file of weights.*'nowhere\.pth'"):
        resolve(config_of('', **{'teacher.pretrained': 'nowhere.pth'}))
    with pytest.raises(UsageError, match=r'set one of them, not both'):
        resolve(config_of(weights, **{'teacher.pretrained': str(weights)}))
    with pytest.raises(UsageError, match=r"teacher\.weights: no file of weights.*'nowhere\.pth'"):
        resolve(config_of('nowhere.pth'))
    with pytest.raises(UsageError, match=r'of one network, and teacher\.members is 2'):
        resolve(config_of(weights, **{'teacher.members': 2}))
