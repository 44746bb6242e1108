"""A mixture of experts that a softmax of the teacher's embedding chooses from: of DE and of topology distillation."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdjax.techniques.base import init_module
from kdjax.types import Array, Tree


class Expert(nn.Module):
    """Two layers with ReLU between."""

    width: int
    target: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(self.target)(x)


def init(key: Array, experts: int, width: int, student_BD: Array, teacher_BT: Array) -> Tree:
    """Parameters of so many experts, from the student's embeddings to the teacher's, and of the gate."""
    own, gate = jax.random.split(key)
    module = Expert(width, teacher_BT.shape[1])
    each = jax.vmap(lambda key: init_module(module, key, student_BD))(jax.random.split(own, experts))
    return {'experts': each, 'gate': init_module(nn.Dense(experts), gate, teacher_BT)}


def guessed(experts: Tree, chosen_BM: Array, student_BD: Array) -> Array:
    """sum_m g_m E_m(s), as two products: what experts say one by one, (M, B, T), is never made. (B, T)"""
    before, after = experts['Dense_0'], experts['Dense_1']
    inner_BMW = nn.relu(jnp.einsum('bd,mdw->bmw', student_BD, before['kernel']) + before['bias'])
    summed_BT = jnp.einsum('bmw,mwt->bt', chosen_BM[:, :, None] * inner_BMW, after['kernel'])
    return summed_BT + chosen_BM @ after['bias']
