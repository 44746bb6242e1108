"""What a network that writes writes by itself, as a teacher sees it.

Texts begin as examples do, and the draws of each are its own and always the same: networks that are held against each
other draw from the same numbers.

Reference: Agarwal et al., On-Policy Distillation of Language Models, ICLR 2024 (GKD), sec. 3; Li et al., A
Diversity-Promoting Objective Function for Neural Conversation Models, NAACL 2016 (distinct n-grams); Leviathan, Kalman,
Matias, Fast Inference from Transformers via Speculative Decoding, ICML 2023, sec. 3.1 (acceptance).
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.dataset import Split
from kdjax.decoding.base import Limits, generator_of
from kdjax.decoding.sampling import sample
from kdjax.errors import UsageError
from kdjax.jit_cache import bound, compiled
from kdjax.metrics import Metric
from kdjax.types import Array, Net, Tree

GRAMS = 4  # tokens of the n-grams that are counted
OWN = (
    Metric('own_kl', 'KL to the teacher of a token of own text', 'nats', 'lower', 4, 'own KL'),
    Metric(
        'own_nll', 'negative log-likelihood of a token of own text under the teacher', 'nats', 'lower', 4, 'own NLL'
    ),
    Metric('own_distinct', f'{GRAMS}-grams of own texts that are different', '%', short='distinct'),
    Metric('own_acceptance', 'tokens of own text that the teacher accepts', '%', short='accepted'),
)


class Writes(Protocol):
    """A task of texts, as far as they need it; hashable."""

    def __hash__(self) -> int: ...

    def text(self, inputs: Tree) -> Any:
        """The tokens of inputs."""

    def retold(self, inputs: Tree, text: Array) -> Tree:
        """Inputs with others."""

    def source(self, inputs: Tree) -> Tree:
        """What a network that writes reads."""

    def limits(self, length: int) -> Limits:
        """What may be written."""


def judge(
    task: Writes, student: Net, teacher: Net, split: Split, count: int, prompt: int
) -> Callable[[Tree, Tree], Mapping[str, np.ndarray]]:
    """A function from variables of cells C and of the teacher to the metrics OWN, (C,) each.

    All are means over the tokens after the prompts, up to their ends, drawn at temperature 1: 'own_kl' of KL(student ||
    teacher), 'own_nll' of -log p(token) of the teacher, 'own_acceptance' of 1 - TVD(student, teacher), the probability
    that a teacher accepts the token of a drafter. 'own_distinct' is the number of different n-grams of all texts over
    that of all: repetition, which the others may reward, lowers it.

    Args:
      task: says what is written.
      student, teacher: both networks, of one vocabulary.
      split: whose texts are begun with.
      count: how many, evenly spread; all if there are fewer.
      prompt: tokens of each that are given.

    Raises:
      UsageError: no text is longer than the prompt.
    """
    text = np.asarray(task.text(split.column('inputs')))
    if prompt >= text.shape[1] or not np.any(text[:, prompt] > 0):
        raise UsageError(f'prompt must be below the {text.shape[1]} tokens of a text, got {prompt}')
    longer = np.flatnonzero(text[:, prompt] > 0)
    chosen = longer[np.unique(np.linspace(0, len(longer) - 1, count).round().astype(int))]
    inputs = jax.device_put(jax.tree.map(lambda column: np.asarray(column)[chosen], split.column('inputs')))
    run = compiled(bound(_judged, task=task, student=student, teacher=teacher, prompt=prompt))

    def judged(cells: Tree, teacher_variables: Tree) -> Mapping[str, np.ndarray]:
        means, tokens = jax.device_get(run(cells, teacher_variables, inputs))
        return {**means, 'own_distinct': np.asarray([distinct(texts) for texts in tokens])}

    return judged


def distinct(tokens: np.ndarray, length: int = GRAMS) -> float:
    """The share of the n-grams of texts (B, T), 0 where nothing was written, that are different; nan of none."""
    if tokens.shape[1] < length:
        return float('nan')
    grams = np.lib.stride_tricks.sliding_window_view(tokens, length, axis=1).reshape(-1, length)
    grams = grams[np.all(grams > 0, axis=1)]
    return len(np.unique(grams, axis=0)) / len(grams) if len(grams) else float('nan')


def _judged(
    cells: Tree, teacher_variables: Tree, inputs: Tree, *, task: Writes, student: Net, teacher: Net, prompt: int
) -> tuple[Mapping[str, Array], Array]:
    """The means of every cell, and the tokens that it wrote after the prompts, (C, B, N)."""
    text = task.text(inputs)
    keys = jax.vmap(lambda place: jax.random.fold_in(jax.random.key(0), place))(jnp.arange(len(text)))

    def one(variables: Tree) -> tuple[Mapping[str, Array], Array]:
        limits = task.limits(text.shape[1])
        wrote = sample(generator_of(student), variables, task.source(inputs), text[:, :prompt], limits, keys)
        following = jnp.where(wrote.tokens == limits.end, 0, wrote.tokens)[:, :-1].astype(text.dtype)
        seen = task.retold(inputs, jnp.concatenate([text[:, :1], following], axis=1))
        q, p = (
            jax.nn.log_softmax(net.apply(own, seen, train=False, key=None)[0].logits.astype(jnp.float32), axis=-1)
            for net, own in ((student, variables), (teacher, teacher_variables))
        )
        tokens = jnp.where(jnp.arange(text.shape[1]) >= prompt - 1, wrote.tokens, 0)
        mask = (tokens > 0).astype(jnp.float32)
        values = {
            'own_kl': jnp.sum(jnp.exp(q) * (q - p), axis=-1),
            'own_nll': -jnp.take_along_axis(p, tokens[..., None], axis=-1)[..., 0],
            'own_acceptance': jnp.sum(jnp.exp(jnp.minimum(p, q)), axis=-1),
        }
        return {name: jnp.sum(value * mask) / jnp.sum(mask) for name, value in values.items()}, tokens

    return jax.lax.map(one, cells)
