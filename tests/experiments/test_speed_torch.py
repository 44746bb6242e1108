"""The PyTorch side of the comparison of speed has the arithmetic of kdjax: networks, terms and gradients."""

import functools
import io
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='PyTorch is not installed: pip install "kdjax[bench]"')

from torch.utils.flop_counter import FlopCounterMode

from experiments.speed import cases, torch_loop, torch_nets, torch_terms, worker
from kdjax import trees
from kdjax.errors import UsageError
from kdjax.nets import torch_weights
from kdjax.resolve import construct
from kdjax.techniques import crd
from kdjax.train.objective import Objective
from kdjax.types import Outputs, TermInputs

ROOT = Path(__file__).resolve().parents[2]
# Channels are multiples of 8: of others oneDNN 3.12 (in PyTorch 2.14), where there is AVX2 and no AVX-512, writes
# beyond the gradient of a 1x1 convolution of stride 2 in channels_last (jit_1x1:avx2, backward_weights), and aborts.
RESNET = cases.Network('resnet_cifar.resnet', {'depth': 8, 'widths': (8, 16, 24, 32)})
THINNER = cases.Network('resnet_cifar.resnet', {'depth': 8, 'widths': (8, 8, 16, 24)})
WRN = cases.Network('wide_resnet.wrn', {'depth': 16, 'widen': 1})
TINY = cases.Case('tiny', RESNET, THINNER, 5, (8, 8, 3), 32, 'kd')
GRID = TINY._replace(students=4)
WIDE = TINY._replace(teacher=WRN, student=cases.Network('wide_resnet.wrn', {'depth': 10, 'widen': 2}))
DENSE = [cases.Network('mlp.mlp', {'widths': widths}) for widths in ((9, 7), (6,))]
MLP = TINY._replace(teacher=DENSE[0], student=DENSE[1], shape=(8, 8))
PAIRS = {case.name.partition(':')[0]: case for case in cases.cases()}
BATCH, CLASSES = 12, 5


@pytest.fixture(autouse=True, scope='module')
def _one_thread():
    """On a busy machine the threads of tiny operations mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(spec, case):
    return construct('kdjax.nets', spec.net, {'classes': case.classes, **spec.args}, 'network')


def like(spec, case):
    return jax.eval_shape(network(spec, case).init, jax.random.key(0), jnp.zeros((1, *case.shape)))


@pytest.mark.parametrize('case', PAIRS.values(), ids=PAIRS)
def test_networks_have_the_parameters_and_operations_that_are_compared(case):
    for spec in (case.teacher, case.student):
        with torch.device('meta'):
            found = torch_nets.NETS[spec.net](case.shape, case.classes, **spec.args)
            inputs = torch.zeros(1, *(case.shape[2:] + case.shape[:2]))
        assert sum(leaf.numel() for leaf in found.parameters()) == trees.count(like(spec, case)['params'])
        with FlopCounterMode(display=False) as counter:
            found(inputs)
        assert counter.get_total_flops() == cases.forward_flops(spec, case.shape, case.classes)


@pytest.mark.parametrize('case', [TINY, WIDE, MLP], ids=['resnet', 'wrn', 'mlp'])
def test_networks_say_what_those_of_kdjax_say_with_the_same_weights(case, tmp_path):
    torch_nets.save(tmp_path / 'weights.safetensors', case)
    saved = torch_weights.state_dict(tmp_path / 'weights.safetensors')
    images = cases.pool(case).images[:4]
    for side, spec in (('teacher', case.teacher), ('student', case.student)):
        own = {name.removeprefix(f'{side}.'): value for name, value in saved.items() if name.startswith(f'{side}.')}
        variables = torch_weights.variables(own, like(spec, case))
        expected, _ = network(spec, case).apply(variables, images, train=False, key=None)
        theirs = torch_nets.load(tmp_path / 'weights.safetensors', side, torch_nets.net(spec, case, 7)).eval()
        with torch.no_grad():
            found = theirs(torch_nets.images(case)[:4])
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)
        assert found.features
        for tap, value in found.features.items():
            value = value.permute(0, 2, 3, 1) if value.ndim == 4 else value
            np.testing.assert_allclose(value, expected.features[tap], atol=1e-4, err_msg=tap)


class Sides:
    """The same inputs in both libraries: random logits and features of student and teacher."""

    def __init__(self, seed=0):
        random = np.random.default_rng(seed)
        shapes = {'stage1': (8, 8), 'stage2': (4, 4), 'stage3': (2, 2), 'penult': ()}
        self.features = {
            side: {
                tap: np.maximum(random.normal(size=(BATCH, *size, width + place)), 0).astype(np.float32)
                for place, (tap, size) in enumerate(shapes.items())
            }
            for side, width in (('student', 3), ('teacher', 4))
        }
        self.logits = {side: random.normal(0, 3, (BATCH, CLASSES)).astype(np.float32) for side in self.features}
        self.labels, self.ids = random.integers(CLASSES, size=BATCH), np.arange(BATCH) * 2
        self.known = torch.from_numpy(random.integers(CLASSES, size=2 * BATCH))

    def inputs(self):
        sides = (Outputs(self.logits[side], self.features[side]) for side in ('student', 'teacher'))
        batch = {'labels': self.labels, 'mask': np.ones(BATCH, np.float32), 'id': self.ids, 'view': 0 * self.ids}
        return jax.tree.map(jnp.asarray, TermInputs(*sides, {name: _32(value) for name, value in batch.items()}))

    def tensors(self):
        """Student, teacher, batch; what a gradient is asked of are the student's leaves."""

        def one(side):
            features = {
                tap: torch.from_numpy(value).permute(0, 3, 1, 2) if value.ndim == 4 else torch.from_numpy(value)
                for tap, value in self.features[side].items()
            }
            leaves = [torch.from_numpy(self.logits[side]), *features.values()]
            leaves = [leaf.clone().requires_grad_(side == 'student') for leaf in leaves]
            return torch_nets.Outputs(leaves[0], dict(zip(features, leaves[1:], strict=True)))

        batch = torch_terms.Batch(torch.zeros(0), torch.from_numpy(self.labels), torch.from_numpy(self.ids))
        return one('student'), one('teacher'), batch

    def data(self):
        widths = {side: {tap: value.shape[-1] for tap, value in taps.items()} for side, taps in self.features.items()}
        return torch_terms.Data(widths['student'], widths['teacher'], self.known)


def _32(value):
    return value.astype(np.int32) if value.dtype == np.int64 else value


def share(objective, params, memory, inputs):
    """The loss of an objective of one term, its gradients by student logits and features, and the next memory."""
    knobs = jax.tree.map(jnp.float32, objective.knobs())

    def loss(student):
        shares = objective.shares(
            params, memory, inputs._replace(student=student), knobs, step=jnp.int32(0), key=jax.random.key(0)
        )
        return shares.loss, shares.memory

    (value, memory), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(inputs.student)
    return value, grads, memory


def agree(term, sides, expected, grads):
    student, teacher, batch = sides.tensors()
    found = term(student, teacher, batch)
    np.testing.assert_allclose(found.item(), expected, rtol=1e-4)
    found.backward()
    pairs = {'logits': (student.logits, grads.logits)}
    pairs |= {tap: (leaf, grads.features[tap]) for tap, leaf in student.features.items()}
    assert any(leaf.grad is not None for leaf, _ in pairs.values())
    for name, (leaf, grad) in pairs.items():
        own = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        own = own.permute(0, 2, 3, 1) if own.ndim == 4 else own
        np.testing.assert_allclose(own, grad, rtol=1e-3, atol=1e-5, err_msg=name)


def kernels(params):
    """Convolutions of kdjax, as PyTorch lays them."""
    return {
        'weight': torch.from_numpy(np.array(params['kernel'].transpose(3, 2, 0, 1))),
        **({'bias': torch.from_numpy(np.array(params['bias']))} if 'bias' in params else {}),
    }


def fill_hint(term, params):
    term.regressor[0].load_state_dict(kernels(params['Conv_0']))


def fill_review(term, params):
    for place, layer in enumerate(reversed(term.layers)):
        own, fusion = params[f'Fusion_{place}'], term.fusions[layer]
        for number, convolution in enumerate((fusion.reduce[0], fusion.expand[0])):
            convolution.load_state_dict(kernels(own[f'Conv_{number}']))
        if fusion.gates:  # 1 x 1, and here a matrix
            gates = own['Gates_0']
            fusion.gates.load_state_dict(kernels({**gates, 'kernel': gates['kernel'][None, None]}))


TERMS = {
    f'{technique}-{term.kind}': term
    for technique, terms in cases.OBJECTIVES.items()
    for term in terms
    if technique != 'crd' and (technique == 'kd' or term != cases.HARD)
}
FILL = {'fitnets.Hint': fill_hint, 'reviewkd.Review': fill_review}


@pytest.mark.parametrize('spec', TERMS.values(), ids=TERMS)
def test_a_term_and_its_gradients_are_those_of_kdjax(spec):
    sides = Sides()
    own = construct('kdjax.techniques', spec.kind, {**spec.args, 'weight': 1.0}, 'term')
    objective = Objective((('own', own),))
    params, memory = objective.init(jax.random.key(0), sides.inputs())
    theirs = torch_terms.TERMS[spec.kind](sides.data(), **spec.args)
    if spec.kind in FILL:
        FILL[spec.kind](theirs, params['own'])
    value, grads, _ = share(objective, params, memory, sides.inputs())
    agree(theirs, sides, value, grads)


def test_the_contrast_is_that_of_kdjax_over_the_same_rows():
    """The loss, and the banks after it, over two steps; Z is that of the first batch."""
    sides, later = Sides(), Sides(1)
    later.ids, later.labels = sides.ids[::-1].copy(), sides.labels[::-1].copy()
    negatives, examples = 6, 2 * BATCH
    args = {'layer': 'penult', 'examples': examples, 'negatives': negatives, 'width': 5, 'temperature': 0.5,
            'momentum': 0.5}  # fmt: skip
    rows = np.random.default_rng(2).integers(examples, size=(BATCH, negatives))

    class Fixed(crd.ContrastiveRepresentation):
        def contrast_ids(self, ids_B, labels_B, known_n, keys_B):
            return jnp.asarray(rows, jnp.int32)

    objective = Objective((('own', Fixed(**args)),))
    params, memory = objective.init(jax.random.key(0), sides.inputs())
    theirs = torch_terms.ContrastiveRepresentation(sides.data(), **args)
    for side in ('student', 'teacher'):
        own = params['own'][side]
        dense = {'weight': own['kernel'].T, 'bias': own['bias']}
        theirs.embed[side].load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in dense.items()})
        getattr(theirs, f'{side}_bank').copy_(torch.from_numpy(np.array(memory['own'][f'{side}_bank'])))
    for seen in (sides, later):
        value, grads, memory = share(objective, params, memory, seen.inputs())
        chosen = torch.cat([torch.from_numpy(seen.ids)[:, None], torch.from_numpy(rows)], dim=1)
        agree(functools.partial(_contrasted, theirs, chosen), seen, value, grads)
        for bank in ('student_bank', 'teacher_bank'):
            np.testing.assert_allclose(getattr(theirs, bank), memory['own'][bank], atol=1e-5)


def _contrasted(term, rows, student, teacher, batch):
    return term.contrasted(student, teacher, batch, rows)


def test_negatives_are_of_other_classes():
    sides = Sides()
    args = {**cases.OBJECTIVES['crd'][1].args, 'examples': 2 * BATCH, 'negatives': 50}
    term = torch_terms.ContrastiveRepresentation(sides.data(), **args)
    rows = term.drawn(sides.tensors()[2]).numpy()
    np.testing.assert_array_equal(rows[:, 0], sides.ids)
    assert rows.shape == (BATCH, 51)
    assert (sides.known.numpy()[rows[:, 1:]] != sides.labels[:, None]).all()
    assert len(np.unique(rows[:, 1:])) > BATCH


def test_variants_train_alike(monkeypatch):
    """What a variant saves is time: losses are those of the plain loop, but for the rounding of bfloat16.

    Networks stay uncompiled, which needs a compiler of C++.
    """
    losses, compiled = {}, []
    monkeypatch.setattr(torch, 'compile', lambda net: compiled.append(net) or net)
    for variant in torch_loop.VARIANTS:
        loop = torch_loop.build(GRID, variant)
        losses[variant] = [*loop.round(2), *loop.round(1)]
        tolerance = 3e-2 if torch_loop.VARIANTS[variant].bfloat16 else 1e-4
        np.testing.assert_allclose(losses[variant], losses['plain'], rtol=tolerance, err_msg=variant)
    assert len(set(losses['plain'])) == 3
    assert losses['tuned'] != losses['channels_last']
    assert len(compiled) == 4 * (1 + 4)  # variants: a teacher and students of each


def test_a_grid_is_so_many_runs():
    grid = torch_loop.build(GRID, 'plain').round(2)
    rest = []
    for student, temperature in enumerate(cases.TEMPERATURES[4]):
        loop = torch_loop.build(GRID, 'plain')
        loop.groups = loop.groups[student : student + 1]
        assert loop.groups[0][0].terms[1].temperature == temperature
        rest.append(loop.round(2))
    np.testing.assert_allclose(grid, np.mean(rest, axis=0), rtol=1e-6)


@pytest.mark.parametrize('technique', [name for name in cases.OBJECTIVES if name != 'crd'])
def test_every_technique_learns(technique):
    loop = torch_loop.build(TINY._replace(technique=technique), 'channels_last')
    loop.batches = loop.batches[:1]
    losses = loop.round(5)
    assert np.isfinite(losses).all()
    assert min(losses[1:]) < losses[0]


def test_the_teacher_stays_and_the_student_moves(tmp_path):
    loop = torch_loop.build(TINY, 'plain')
    before = {name: value.clone() for name, value in loop.teacher.state_dict().items()}
    loop.round(1)
    assert all(torch.equal(value, before[name]) for name, value in loop.teacher.state_dict().items())
    (learner,) = loop.groups[0]
    start = torch_nets.student(TINY, 0).state_dict()
    assert not any(torch.equal(value, start[name]) for name, value in learner.net.state_dict().items())


def test_loops_start_from_given_weights(tmp_path):
    path = tmp_path / 'weights.safetensors'
    torch_nets.save(path, TINY)
    given, own = (torch_loop.build(TINY, 'plain', weights).round(2) for weights in (path, None))
    assert given == own
    heads = [group[0].net.fc.weight for group in torch_loop.build(GRID, 'plain', path).groups]
    assert all(torch.equal(head, heads[0]) for head in heads)


def test_what_cannot_be_is_said():
    with pytest.raises(UsageError, match="unknown variant 'fast' of the PyTorch loop; there is: "):
        torch_loop.build(TINY, 'fast')
    with pytest.raises(UsageError, match="keeps logits, and technique 'at' reads features"):
        torch_loop.build(TINY._replace(technique='at'), 'cached')


def test_a_worker_trains():
    answers = io.StringIO()
    worker.serve(functools.partial(torch_loop.build, TINY, 'plain'), ['{"steps": 2}'], answers)
    ready, answer = map(json.loads, answers.getvalue().splitlines())
    assert [*ready['losses'], *answer['losses']] == torch_loop.build(TINY, 'plain').round(3)
    assert answer['cpu'] > 0


@pytest.mark.slow
def test_a_worker_is_a_process():
    command = [sys.executable, worker.__file__, 'torch', 'mlp1200-mlp800:kd', 'plain', '--threads=1']
    done = subprocess.run(command, cwd=ROOT, input='{"steps": 2}\n', capture_output=True, text=True, check=True)
    ready, answer = map(json.loads, done.stdout.splitlines())
    assert (ready['ready'], len(answer['losses'])) == (True, 2)
    command[3] = 'mlp'
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr.startswith("unknown case 'mlp'; there is: ")
