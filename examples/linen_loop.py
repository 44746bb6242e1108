"""A training loop of one's own in linen: what a teacher knows of handwritten digits, distilled into a small student.

    python examples/linen_loop.py

The lines marked with + are all that distillation adds to the loop: soft targets, relations between examples, and
contrast with a memory of the teacher's embeddings, which has parameters and a memory of its own.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits

import kdjax
from kdjax.terms import ContrastiveRepresentation, CrossEntropy, DistanceRelations, SoftTargets

BATCH, CLASSES, SHOWN = 64, 10, 200  # examples of a batch, and those whose labels the student sees


class Net(nn.Module):
    """A layer; answers logits, and that layer as a feature."""

    width: int

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(CLASSES)(h), {'h': h}


def batches(x, y, steps):
    rng = np.random.default_rng(0)
    for step in range(steps):
        ids = rng.choice(len(x), BATCH, replace=False)
        yield step, ids, x[ids], y[ids]


def train_teacher(x, y, steps):
    net, tx = Net(256), optax.adam(1e-3)
    params = net.init(jax.random.key(0), x[:1])
    opt = tx.init(params)

    @jax.jit
    def update(params, opt, x, y):
        def loss(params):
            return optax.losses.softmax_cross_entropy_with_integer_labels(net.apply(params, x)[0], y).mean()

        updates, opt = tx.update(jax.grad(loss)(params), opt)
        return optax.apply_updates(params, updates), opt

    for _, _, x_B, y_B in batches(x, y, steps):
        params, opt = update(params, opt, x_B, y_B)
    return net, params


def distil(teacher, teacher_params, x, y, steps):
    student, tx = Net(16), optax.adam(3e-3)
    params = {'student': student.init(jax.random.key(1), x[:1])}
    terms = {
        'ce': CrossEntropy(), 'kd': SoftTargets(temperature=4.0), 'rkd': DistanceRelations(layer='h'),
        'crd': ContrastiveRepresentation(layer='h', examples=len(x), negatives=256),
    }  # fmt: skip
    kd = kdjax.objective(terms, weights={'ce': 0.1, 'kd': 0.9, 'rkd': 1.0, 'crd': 0.02})  # +
    answers = student.apply(params['student'], x[:BATCH]), teacher.apply(teacher_params, x[:BATCH])
    params['terms'], memory = kd.init(jax.random.key(2), *answers, ids=np.arange(BATCH), labels=y[:BATCH])  # +
    opt = tx.init(params)

    @jax.jit
    def update(params, opt, memory, step, ids, x, y):
        def loss(params):
            answers = student.apply(params['student'], x), teacher.apply(teacher_params, x)
            return kd(params['terms'], memory, *answers, ids=ids, labels=y, step=step)  # +

        (_, (memory, logs)), gradient = jax.value_and_grad(loss, has_aux=True)(params)  # +
        updates, opt = tx.update(gradient, opt)
        return optax.apply_updates(params, updates), opt, memory, logs

    for step, ids, x_B, y_B in batches(x, y, steps):
        params, opt, memory, logs = update(params, opt, memory, step, ids, x_B, y_B)
    return student, params['student'], logs


def accuracy(net, params, x, y):
    return float(jnp.mean(jnp.argmax(net.apply(params, x)[0], axis=-1) == y))


def main(steps=300):
    """Accuracies on digits that neither has seen, and the parts of the last loss."""
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int32)
    seen, (x_test, y_test) = (x[:1400], y[:1400]), (x[1400:], y[1400:])
    teacher = train_teacher(*seen, steps)
    known = np.where(np.arange(1400) < SHOWN, seen[1], -1)  # a label below 0 is none; the teacher speaks of all
    *student, logs = distil(*teacher, seen[0], known, steps)
    return {'teacher': accuracy(*teacher, x_test, y_test), 'student': accuracy(*student, x_test, y_test), **logs}


if __name__ == '__main__':
    print(', '.join(f'{name} {value:.3f}' for name, value in main().items()))
