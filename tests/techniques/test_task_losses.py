"""Losses of labels, of several at once and of numbers, against PyTorch and numpy; and distillation of such outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import expit, rel_entr

from kdjax.errors import UsageError
from kdjax.techniques.binary_cross_entropy import BinaryCrossEntropy
from kdjax.techniques.bkd import BinaryTargets
from kdjax.techniques.bounded_regression import BoundedRegression
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.hinton import SoftTargets
from kdjax.techniques.mean_squared_error import MeanSquaredError
from kdjax.techniques.mld import MultiLabelTargets
from kdjax.train.objective import Objective
from kdjax.types import Outputs, TermInputs

B, K = 6, 5
RNG = np.random.default_rng(11)
STUDENT, TEACHER = RNG.normal(0, 2, (2, B, K))
SOME = (RNG.random((B, K)) < 0.4).astype(np.float64)
UNKNOWN = np.where(RNG.random((B, K)) < 0.3, -1, SOME)
UNKNOWN[2] = -1
NUMBERS = RNG.normal(size=(B, K))
CLASSES = RNG.integers(0, K, B)
WEIGHTS = (1.0, 0.5, 2.0, 0.0, 4.0)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def asked(term, labels, logits=(STUDENT, TEACHER), mask=None, **columns):
    """The values of a term and its share of the loss."""
    mask = np.ones(len(logits[0])) if mask is None else mask
    batch = {'mask': mask, **({'labels': labels} if labels is not None else {}), **columns}
    inputs = jax.tree.map(jnp.asarray, TermInputs(Outputs(logits[0], {}), Outputs(logits[1], {}), batch))
    shares = Objective((('term', term),)).shares(
        {'term': {}}, {'term': {}}, inputs, {'term': term.knobs()}, step=jnp.int32(0), key=jax.random.key(0)
    )
    values = term.values(inputs, term.knobs()) if not columns and labels is not None else None
    return values, float(shares.parts['term'])


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)


def entropy(targets, logits=STUDENT):
    p = expit(logits)
    return -(targets * np.log(p) + (1 - targets) * np.log(1 - p))


def test_binary_cross_entropy():
    values, loss = asked(BinaryCrossEntropy(), SOME)
    close(values, entropy(SOME).mean(axis=1))
    close(loss, entropy(SOME).mean())
    close(values, optax.losses.sigmoid_binary_cross_entropy(jnp.asarray(STUDENT), jnp.asarray(SOME)).mean(axis=1))
    close(asked(BinaryCrossEntropy(form='sum'), SOME.astype(np.int8))[0], entropy(SOME).sum(axis=1))


def test_binary_cross_entropy_of_classes_asks_no_of_the_others():
    close(asked(BinaryCrossEntropy(), CLASSES)[0], entropy(np.eye(K)[CLASSES]).mean(axis=1))
    one = STUDENT[:, :1]
    close(asked(BinaryCrossEntropy(), SOME[:, 0].astype(int), (one, one))[0], entropy(SOME[:, :1], one)[:, 0])


@pytest.mark.parametrize('form', BinaryCrossEntropy.FORMS)
@pytest.mark.parametrize('dtype', [np.int32, np.float64])
def test_unknown_labels_leave_the_loss_and_its_mean(form, dtype):
    known = UNKNOWN >= 0
    each = [entropy(SOME)[b][known[b]] for b in range(B) if known[b].any()]
    wanted = np.mean([row.mean() if form == 'mean' else row.sum() for row in each])
    assert len(each) < B
    close(asked(BinaryCrossEntropy(form=form), UNKNOWN.astype(dtype))[1], wanted)


def test_binary_cross_entropy_and_squares_of_mixed_examples_are_those_of_mixed_targets():
    share, other = RNG.uniform(size=B), np.roll(SOME, 1, axis=0)
    mix = np.broadcast_to(np.stack([share, 1 - share], axis=1)[:, None], (B, K, 2))
    mixed = share[:, None] * SOME + (1 - share[:, None]) * other
    columns = {'labels_mixed': np.stack([SOME, other], axis=-1), 'mix': mix}
    close(asked(BinaryCrossEntropy(), None, **columns)[1], entropy(mixed).mean())
    close(asked(MeanSquaredError(), None, **columns)[1], np.mean((STUDENT - mixed) ** 2))
    classes = {'labels_mixed': np.stack([CLASSES, np.roll(CLASSES, 1)], axis=-1), 'mix': mix[:, 0]}
    mixed = share[:, None] * np.eye(K)[CLASSES] + (1 - share[:, None]) * np.eye(K)[np.roll(CLASSES, 1)]
    close(asked(BinaryCrossEntropy(), None, **classes)[1], entropy(mixed).mean())


@pytest.mark.parametrize('temperature', [1.0, 3.0])
def test_distillation_of_several_labels(temperature):
    p, q = expit(TEACHER / temperature), expit(STUDENT / temperature)
    wanted = temperature**2 * (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).sum(axis=1)
    close(asked(MultiLabelTargets(temperature=temperature), SOME)[0], wanted)
    if temperature == 1:
        close(asked(BinaryTargets(form='kl'), SOME)[0], wanted / K)


def test_two_classes_are_one_label():
    """The softmax of (z, 0) is the sigmoid of z."""
    z, t = STUDENT[:, :1], TEACHER[:, :1]
    pairs = tuple(np.concatenate([x, np.zeros_like(x)], axis=1) for x in (z, t))
    close(asked(MultiLabelTargets(temperature=2.0), SOME[:, 0], (z, t))[0],
          asked(SoftTargets(temperature=2.0), CLASSES, pairs)[0])  # fmt: skip


def test_a_label_that_is_ruled_out_stays_finite():
    logits = np.where(SOME > 0, STUDENT, -np.inf)
    assert np.all(np.isfinite(asked(MultiLabelTargets(), SOME, (logits, TEACHER))[0]))
    assert np.all(np.isfinite(asked(MultiLabelTargets(), SOME, (logits, logits))[0]))
    close(asked(BinaryCrossEntropy(), SOME, (logits, TEACHER))[0], (entropy(SOME) * SOME).mean(axis=1))


def test_squared_errors():
    close(asked(MeanSquaredError(), NUMBERS)[0], np.mean((STUDENT - NUMBERS) ** 2, axis=1))
    close(asked(MeanSquaredError(), NUMBERS[:, 0], (STUDENT[:, :1],) * 2)[0], (STUDENT[:, 0] - NUMBERS[:, 0]) ** 2)
    close(asked(MeanSquaredError(), CLASSES)[0], np.mean((STUDENT - np.eye(K)[CLASSES]) ** 2, axis=1))
    tokens, targets = RNG.normal(size=(2, 2, 3, 1))
    close(
        asked(MeanSquaredError(), targets[..., 0], (tokens, tokens), np.ones((2, 3)))[0],
        (tokens - targets)[..., 0] ** 2,
    )


def test_targets_that_are_missing_leave_the_loss_and_its_mean():
    missing = np.where(UNKNOWN < 0, np.nan, NUMBERS)
    square = (STUDENT - NUMBERS) ** 2
    wanted = np.mean([square[b][UNKNOWN[b] >= 0].mean() for b in range(B) if (UNKNOWN[b] >= 0).any()])
    close(asked(MeanSquaredError(), missing)[1], wanted)
    bounded = np.nansum((STUDENT - missing) ** 2, axis=1), np.nansum((TEACHER - missing) ** 2, axis=1)
    wanted = np.where(bounded[0] > bounded[1], bounded[0], 0)[(UNKNOWN >= 0).any(axis=1)].mean()
    close(asked(BoundedRegression(), missing)[1], wanted)


@pytest.mark.parametrize('margin', [0.0, 3.0])
def test_a_student_is_bounded_by_its_teachers_error(margin):
    student, teacher = (np.sum((z - NUMBERS) ** 2, axis=1) for z in (STUDENT, TEACHER))
    wanted = np.where(student + margin > teacher, student, 0)
    assert 0 < np.sum(wanted == 0) < B
    close(asked(BoundedRegression(margin=margin), NUMBERS)[0], wanted)


@pytest.mark.parametrize('term', [BinaryCrossEntropy(), MeanSquaredError(), BoundedRegression()])
def test_labels_that_do_not_fit_are_refused(term):
    with pytest.raises(UsageError, match=r'labels \(6, 3\) of float64 do not fit outputs \(6, 5\)'):
        asked(term, NUMBERS[:, :3])
    with pytest.raises(UsageError, match=r'labels \(6,\) of float64 do not fit outputs \(6, 5\)'):
        asked(term, NUMBERS[:, 0])


# ---- classes that weigh


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_class_weights_are_those_of_pytorch(smoothing):
    torch = pytest.importorskip('torch')
    mask = np.asarray([1, 1, 0, 1, 1, 1.0])
    real = mask > 0
    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS, dtype=torch.float64), label_smoothing=smoothing)
    wanted = loss(torch.tensor(STUDENT[real]), torch.tensor(CLASSES[real])).item()
    whole = CrossEntropy(smoothing=smoothing, class_weights=WEIGHTS, by_weight=True)
    close(asked(whole, CLASSES, mask=mask)[1], wanted)
    # Over examples rather than over their weights.
    weights = np.asarray(WEIGHTS)[CLASSES[real]]
    plain = CrossEntropy(smoothing=smoothing, class_weights=WEIGHTS)
    close(asked(plain, CLASSES, mask=mask)[1], wanted * weights.mean())


def test_equal_class_weights_are_none():
    for options in ({'class_weights': (3.0,) * K, 'by_weight': True}, {'class_weights': (1.0,) * K}):
        close(asked(CrossEntropy(**options), CLASSES)[0], asked(CrossEntropy(), CLASSES)[0])
    assert CrossEntropy(class_weights=WEIGHTS, by_weight=True).scope == 'batch'


def test_a_batch_of_classes_without_weight_has_no_loss():
    assert asked(CrossEntropy(class_weights=WEIGHTS, by_weight=True), np.full(B, 3))[1] == 0


@pytest.mark.parametrize(
    ('fields', 'said'),
    [
        ({'class_weights': (1.0, -1.0)}, r'class_weights of CrossEntropy must be >= 0, got \(1.0, -1.0\)'),
        ({'by_weight': True}, r'by_weight of CrossEntropy needs class_weights that are not all 0, got \(\)'),
    ],
)
def test_weights_that_cannot_be_are_refused(fields, said):
    with pytest.raises(UsageError, match=said):
        CrossEntropy(**fields)


def test_as_many_weights_as_classes_are_needed():
    with pytest.raises(UsageError, match=r'2 class_weights do not fit logits \(6, 5\)'):
        asked(CrossEntropy(class_weights=(1.0, 2.0)), CLASSES)
