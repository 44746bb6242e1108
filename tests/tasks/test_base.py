"""The seam of a task: what is measured does not depend on batches, widths, streams or cells."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError
from kdjax.metrics import Metric, mean
from kdjax.tasks.base import Task
from kdjax.tasks.classification import Classification
from kdjax.tasks.evaluation import evaluator, examiner
from kdjax.types import Net, Outputs

EXAMPLES, LONGEST, CELLS, CLASSES = 23, 9, 2, 3
RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.integers(1, LONGEST + 1, EXAMPLES).astype(np.int32)
TOKENS = np.where(np.arange(LONGEST) < LENGTHS[:, None], RANDOM.integers(1, 7, (EXAMPLES, LONGEST)), 0).astype(np.int32)
TAGS = np.where(TOKENS > 0, TOKENS % CLASSES, 0).astype(np.int32)
TABLE = RANDOM.normal(size=(CELLS, 7, CLASSES)).astype(np.float32)
SPLIT = Split(TOKENS, TAGS, {'length': LENGTHS})
TAGGER = Net(
    init=lambda key, inputs: {'params': TABLE[0], 'stats': {}},
    apply=lambda variables, inputs, *, train, key: (Outputs(variables['params'][inputs], {}), {}),
    taps=(),
)
VARIABLES = {'params': TABLE, 'stats': {}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokens(Task):
    """A class for every token, measured on the device and on the host."""

    score: str = 'wrong'

    @property
    def metrics(self):
        return (Metric('wrong', 'tokens that are wrong', '%', 'lower'), Metric('right', 'tokens that are right', '%'))

    @property
    def per_token(self):
        return True

    def prepare(self, batch):
        real = (batch['inputs'] > 0).astype(jnp.float32)
        return {**batch, 'mask': batch['mask'][:, None] * real}

    def sums(self, outputs, batch, teacher_logits=None):
        right = (jnp.argmax(outputs.logits, axis=-1) == batch['labels']).astype(jnp.float32)
        meters = {'right': mean(right, batch['mask'])}
        if teacher_logits is not None:
            same = jnp.argmax(teacher_logits, axis=-1) == jnp.argmax(outputs.logits, axis=-1)
            meters['agreement'] = mean(same.astype(jnp.float32), batch['mask'])
        return meters

    def predict(self, outputs, batch):
        return jnp.argmax(outputs.logits, axis=-1).astype(jnp.uint8)

    def measure(self, predictions, split):
        real = split.inputs > 0
        return {'wrong': float(np.mean((predictions != split.labels)[real]))}


def by_hand(cell):
    right = TABLE[cell][TOKENS].argmax(-1) == TAGS
    return float(right[TOKENS > 0].mean())


@pytest.mark.parametrize('stream', [False, True])
@pytest.mark.parametrize('buckets', [(), (3, 5), (20,)])
@pytest.mark.parametrize('batch_size', [1, 4, 100])
def test_metrics_and_predictions_do_not_depend_on_batches_widths_or_streams(batch_size, buckets, stream):
    options = {'padded': ('inputs', 'labels'), 'buckets': buckets, 'batch_size': batch_size, 'stream': stream}
    teacher = TABLE[0][TOKENS]
    found = evaluator(Tokens(), TAGGER, SPLIT, teacher, **options)(VARIABLES)
    for cell in range(CELLS):
        np.testing.assert_allclose(found['right'][cell], by_hand(cell), rtol=1e-6)
        np.testing.assert_allclose(found['wrong'][cell], 1 - by_hand(cell), rtol=1e-6)
    assert found['agreement'][0] == 1
    predicted = examiner(Tokens(), TAGGER, SPLIT, **options)(VARIABLES)[1]
    assert predicted.dtype == np.uint8
    for cell in range(CELLS):
        wanted = TABLE[cell][TOKENS].argmax(-1)
        np.testing.assert_array_equal(predicted[cell][TOKENS > 0], wanted[TOKENS > 0])


def test_a_score_is_one_of_the_metrics():
    with pytest.raises(UsageError, match="unknown score 'f1' of Tokens; there is: 'right', 'wrong'"):
        Tokens(score='f1')


@pytest.mark.parametrize(
    ('metric', 'sign', 'factor', 'difference'),
    [(Metric('wer', 'word errors', '%', 'lower'), -1, 100, 'points'), (Metric('bleu', 'BLEU', 'BLEU'), 1, 1, 'BLEU')],
)
def test_a_metric_knows_which_of_two_values_is_better(metric, sign, factor, difference):
    assert (metric.sign, metric.factor, metric.difference) == (sign, factor, difference)


def test_draws_are_nested_and_keep_the_proportions_of_classes():
    split = Split(np.zeros((90, 1)), np.repeat(np.arange(3), (60, 20, 10)).astype(np.int32))
    small, large = (Classification().draw(split, size, 5) for size in (9, 45))
    assert set(small) < set(large)
    assert np.bincount(split.labels[large]).tolist() == [30, 10, 5]


@pytest.mark.parametrize(
    ('splits', 'message'),
    [
        ({'train': Split(np.zeros((2, 1)))}, "unknown column 'labels' of the data"),
        ({'train': Split(np.zeros((2, 1)), np.zeros(2))}, 'needs integer labels'),
        ({'test': Split(np.zeros((2, 1)), np.array([0, -1]))}, "split 'test' has examples without a label"),
    ],
)
def test_data_that_are_no_classification_are_refused(splits, message):
    whole = Split(np.zeros((2, 1)), np.array([0, 1]))
    dataset = Dataset({'train': whole, 'validation': whole, 'test': whole, **splits}, ('a', 'b'))
    with pytest.raises(UsageError, match=message):
        Classification().check(dataset)


def test_tokens_say_which_of_them_are_real():
    batch = Classification().prepare({'inputs': jnp.asarray(TOKENS), 'mask': jnp.ones(EXAMPLES)})
    np.testing.assert_array_equal(batch['token_mask'], TOKENS > 0)
    assert 'token_mask' not in Classification().prepare({'inputs': jnp.zeros((2, 3)), 'mask': jnp.ones(2)})
