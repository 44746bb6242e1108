"""Several networks as one: an ensemble that teaches, peers that learn from each other, a head that answers for one."""

from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp

from kdjax.errors import UsageError
from kdjax.types import Array, Net, Outputs, Tree


def ensemble(nets: Sequence[Net]) -> Net:
    """The mean of the members' class probabilities, as log-probabilities.

    Variables are {'params': [one per member], 'stats': [...]}. Taps are those of the members, as 'member0/stage1', and
    their own logits, 'member0/logits'.

    Reference: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, sec. 5.
    """

    def init(key: Array, inputs: Array) -> Tree:
        keys = jax.random.split(key, len(nets))
        members = [net.init(key, inputs) for net, key in zip(nets, keys, strict=True)]
        return {part: [member[part] for member in members] for part in ('params', 'stats')}

    def apply(variables: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        members, stats = [], []
        for net, params, own in zip(nets, variables['params'], variables['stats'], strict=True):
            outputs, after = net.apply({'params': params, 'stats': own}, inputs, train=train, key=key)
            members.append(outputs)
            stats.append(after)
        log_probabilities = jnp.stack([jax.nn.log_softmax(member.logits, axis=-1) for member in members])
        logits = jax.nn.logsumexp(log_probabilities, axis=0) - jnp.log(len(nets))
        features = {
            f'member{k}/{tap}': leaf
            for k, member in enumerate(members)
            for tap, leaf in {'logits': member.logits, **member.features}.items()
        }
        masks = {f'member{k}/{tap}': masks for k, member in enumerate(members) for tap, masks in member.masks.items()}
        # All members read the same inputs.
        together = {'logits': members[0].masks['logits']} if 'logits' in members[0].masks else {}
        return Outputs(logits, features, {**masks, **together}), stats

    taps = (f'member{k}/{tap}' for k, net in enumerate(nets) for tap in ('logits', *net.taps))
    return Net(init, apply, tuple(taps))


def peers(net: Net, count: int) -> Net:
    """`count` networks of one kind with different initial weights, side by side in one vmapped program.

    Variables have a leading axis of peers. Logits and taps are those of the first; the tap 'peers' (B, count, K) has
    the logits of all, from which they learn.

    Raises:
      UsageError: fewer than 2 peers.
    """
    if count < 2:
        raise UsageError(f'peers must be at least 2, got {count}')

    def init(key: Array, inputs: Array) -> Tree:
        return jax.vmap(lambda own: net.init(own, inputs))(jax.random.split(key, count))

    def apply(variables: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        def one(own: Tree, index: Array) -> tuple[Outputs, Tree]:
            return net.apply(own, inputs, train=train, key=None if key is None else jax.random.fold_in(key, index))

        outputs, stats = jax.vmap(one)(variables, jnp.arange(count))
        first = first_peer(outputs)
        features = {**first.features, 'peers': jnp.moveaxis(outputs.logits, 0, 1)}
        return Outputs(first.logits, features, first.masks), stats

    return Net(init, apply, (*net.taps, 'peers'))


class Head(Protocol):
    """What answers in the place of a network."""

    def answer(self, params: Tree, memory: Tree, student: Outputs) -> Array:
        """Logits (B, K), from what the head learned and remembers, and what the network says."""


def answered(net: Net, head: Head) -> Net:
    """A network whose logits are those of a head that reads its outputs, as one that was trained beside it.

    Variables are {'params': {'student', 'head'}, 'stats': {'student', 'head'}}: of the head what it learned and what it
    remembers. Taps are those of the network.
    """

    def init(key: Array, inputs: Array) -> Tree:
        raise UsageError('a head that answers for a network is trained beside it: it has no variables of its own')

    def apply(variables: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Outputs, Tree]:
        # A file of weights does not have what is empty.
        own, heads = ({part: variables[part].get(of, {}) for part in ('params', 'stats')} for of in ('student', 'head'))
        outputs, stats = net.apply(own, inputs, train=train, key=key)
        logits = head.answer(heads['params'], heads['stats'], outputs)
        return outputs._replace(logits=logits), {'student': stats, 'head': heads['stats']}

    return Net(init, apply, net.taps)


def first_peer(tree: Tree) -> Tree:
    """What belongs to the first of several peers."""
    return jax.tree.map(lambda leaf: leaf[0], tree)
