"""A training loop of one's own in nnx, whose networks stay as they are: layers are read by their path.

    python examples/nnx_loop.py

The lines marked with + are all that distillation adds to the loop: soft targets, and hints of a hidden layer by a
learned regressor. `kdjax.from_nnx` makes pure functions of a module, with dropout and statistics where it has them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import kdjax
from kdjax.terms import CrossEntropy, Hint, SoftTargets

BATCH, CLASSES, SHOWN = 64, 10, 200  # examples of a batch, and those whose labels the student sees


class Net(nnx.Module):
    """A layer with dropout, and one of logits."""

    def __init__(self, width, *, rngs):
        self.hidden = nnx.Linear(64, width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.logits = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.logits(self.dropout(nnx.relu(self.hidden(x))))


def batches(x, y, steps):
    rng = np.random.default_rng(0)
    for step in range(steps):
        ids = rng.choice(len(x), BATCH, replace=False)
        yield step, x[ids], y[ids]


def train(net, terms, weights, x, y, steps, teacher=None):
    """Trains by the labels alone, or by a teacher too: (network, variables)."""
    tx = optax.adam(2e-3)
    variables = net.init(jax.random.key(0), x[:1])
    kd = kdjax.objective(terms, weights)  # +

    def asked(of, x, train, key=None):
        return of[0].apply(of[1], x, train=train, key=key)[0] if of else None

    answers = asked((net, variables), x[:BATCH], False), asked(teacher, x[:BATCH], False)
    params = {'net': variables['params']}
    params['terms'], memory = kd.init(jax.random.key(2), *answers, labels=y[:BATCH])  # +
    opt = tx.init(params)

    @jax.jit
    def update(params, opt, memory, step, x, y):
        key = jax.random.fold_in(jax.random.key(3), step)

        def loss(params):
            answer = asked((net, {**variables, 'params': params['net']}), x, True, key)
            return kd(params['terms'], memory, answer, asked(teacher, x, False), labels=y, step=step)  # +

        (_, (memory, _)), gradient = jax.value_and_grad(loss, has_aux=True)(params)  # +
        updates, opt = tx.update(gradient, opt)
        return optax.apply_updates(params, updates), opt, memory

    for step, x_B, y_B in batches(x, y, steps):
        params, opt, memory = update(params, opt, memory, step, x_B, y_B)
    return net, {**variables, 'params': params['net']}


def accuracy(net, variables, x, y):
    outputs, _ = net.apply(variables, x, train=False, key=None)
    return float(jnp.mean(jnp.argmax(outputs.logits, axis=-1) == y))


def main(steps=300):
    """Accuracies on digits that neither has seen."""
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int32)
    seen, (x_test, y_test) = (x[:1400], y[:1400]), (x[1400:], y[1400:])
    large, small = (
        kdjax.from_nnx(lambda rngs, width=width: Net(width, rngs=rngs), capture={'h': 'hidden'}) for width in (256, 16)
    )
    teacher = train(large, {'ce': CrossEntropy()}, {}, *seen, steps)
    terms = {'ce': CrossEntropy(), 'kd': SoftTargets(temperature=4.0), 'hint': Hint(layer='h', form='mean')}
    known = np.where(np.arange(1400) < SHOWN, seen[1], -1)  # a label below 0 is none; the teacher speaks of all
    student = train(small, terms, {'ce': 0.1, 'kd': 0.9, 'hint': 0.1}, seen[0], known, steps, teacher)
    return {'teacher': accuracy(*teacher, x_test, y_test), 'student': accuracy(*student, x_test, y_test)}


if __name__ == '__main__':
    print(', '.join(f'{name} {value:.3f}' for name, value in main().items()))
