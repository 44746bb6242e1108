"""A training loop of one's own without any library of networks, and losses that are plain functions of arrays.

    python examples/function_loop.py

The lines marked with + are all that distillation adds to the loop.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from kdjax import losses

BATCH, CLASSES, SHOWN = 64, 10, 200  # examples of a batch, and those whose labels the student sees


def init(key, width):
    keys = jax.random.split(key)
    shapes = {'hidden': (64, width), 'logits': (width, CLASSES)}
    return {
        name: {'kernel': jax.random.normal(key, shape) / shape[0] ** 0.5, 'bias': jnp.zeros(shape[1])}
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def apply(params, x):
    """Logits, and the hidden layer."""
    h = jax.nn.relu(x @ params['hidden']['kernel'] + params['hidden']['bias'])
    return h @ params['logits']['kernel'] + params['logits']['bias'], h


def train(params, x, y, steps, teacher=None):
    tx = optax.adam(2e-3)
    opt = tx.init(params)

    @jax.jit
    def update(params, opt, x, y):
        def loss(params):
            logits, h = apply(params, x)
            total = losses.cross_entropy(logits, y).mean()
            if teacher is not None:
                teacher_logits, teacher_h = apply(teacher, x)  # +
                total = 0.1 * total + 0.9 * losses.soft_targets(logits, teacher_logits, temperature=4.0).mean()  # +
                total += losses.distance_relations(h, teacher_h).mean()  # +
            return total

        updates, opt = tx.update(jax.grad(loss)(params), opt)
        return optax.apply_updates(params, updates), opt

    rng = np.random.default_rng(0)
    for _ in range(steps):
        ids = rng.choice(len(x), BATCH, replace=False)
        params, opt = update(params, opt, x[ids], y[ids])
    return params


def accuracy(params, x, y):
    return float(jnp.mean(jnp.argmax(apply(params, x)[0], axis=-1) == y))


def main(steps=300):
    """Accuracies on digits that none has seen: of the teacher, the student, and one that had only labels."""
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int32)
    seen, (x_test, y_test) = (x[:1400], y[:1400]), (x[1400:], y[1400:])
    teacher = train(init(jax.random.key(0), 256), *seen, steps)
    known = np.where(np.arange(1400) < SHOWN, seen[1], -1)  # a label below 0 is none; the teacher speaks of all
    start = init(jax.random.key(1), 16)
    found = {'teacher': teacher, 'student': train(start, seen[0], known, steps, teacher)}
    found['labels alone'] = train(start, seen[0], known, steps)
    return {name: accuracy(params, x_test, y_test) for name, params in found.items()}


if __name__ == '__main__':
    print(', '.join(f'{name} {value:.3f}' for name, value in main().items()))
