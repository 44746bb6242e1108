"""Teachers: anything that gives `Outputs` for a batch. The step does not know which."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax.types import Batch, Net, Outputs, Teacher, Tree

PREFIX = 'teacher/'


def none() -> Teacher:
    """No teacher: what a network trained on hard labels alone has."""
    return lambda variables, batch: Outputs(None, {})  # type: ignore[arg-type]


def frozen(net: Net) -> Teacher:
    """A network in inference mode; `variables` are its own."""
    return lambda variables, batch: net.apply(variables, batch['inputs'], train=False, key=None)[0]


def cached() -> Teacher:
    """Outputs that the batch brings along: 'teacher/logits' and 'teacher/<tap>'. `variables` are not read."""

    def teach(variables: Tree, batch: Batch) -> Outputs:
        features = {name.removeprefix(PREFIX): leaf for name, leaf in batch.items() if name.startswith(PREFIX)}
        return Outputs(features.pop('logits'), features)

    return teach


def ensemble(nets: Sequence[Net]) -> Teacher:
    """The mean of the members' class probabilities, as log-probabilities; `variables` is a sequence, one per member.

    Features are those of the members, as 'member0/tap', ...

    Reference: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, sec. 5.
    """

    def teach(variables: Tree, batch: Batch) -> Outputs:
        members = [frozen(net)(own, batch) for net, own in zip(nets, variables, strict=True)]
        log_probabilities = jnp.stack([jax.nn.log_softmax(member.logits, axis=-1) for member in members])
        logits = jax.nn.logsumexp(log_probabilities, axis=0) - jnp.log(len(members))
        features = {
            f'member{k}/{tap}': leaf for k, member in enumerate(members) for tap, leaf in member.features.items()
        }
        return Outputs(logits, features)

    return teach
