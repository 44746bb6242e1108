"""Our own plain PyTorch training loops: as users write them, and as somebody who tunes them for a CPU would.

Variants:
  plain           contiguous float32, the teacher evaluated at every step
  channels_last   the same in the memory layout in which convolutions are fast on a CPU
  tuned           channels_last, both networks under bfloat16 autocast (losses and what terms learn in float32)
  cached          channels_last; the teacher's logits are computed once for the whole pool, before the first step
  tuned cached    both
  shared          channels_last; in a grid the teacher is evaluated once per batch for all students
  tuned shared    both
  compiled, compiled bfloat16, ... shared     channels_last, networks by torch.compile, and as above

On a GPU, if there is one, whose products of float32 are then rounded as those of JAX are. Without sharing the students
of a grid train one after the other, as separate runs would.
"""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from experiments.speed import cases, torch_nets
from experiments.speed.torch_nets import Outputs
from experiments.speed.torch_terms import TERMS, Batch, Data

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
torch.set_float32_matmul_precision('high')  # which says nothing to a CPU


class Variant(NamedTuple):
    """How a loop is written."""

    channels_last: bool = False
    bfloat16: bool = False
    cached: bool = False
    shared: bool = False
    compiled: bool = False

    def network(self, net: nn.Module) -> nn.Module:
        """The network where and how it is wanted."""
        net = net.to(DEVICE)
        net = net.to(memory_format=torch.channels_last) if self.channels_last else net
        return torch.compile(net) if self.compiled else net

    def outputs(self, net: nn.Module, images: Tensor, taps: Set[str]) -> Outputs:
        """What a network says, in float32, with the features of these taps only: to convert the others takes time."""
        with torch.autocast(DEVICE, torch.bfloat16, enabled=self.bfloat16):
            logits, features = net(images)
        return Outputs(logits.float(), {tap: features[tap].float() for tap in taps})


VARIANTS = {
    'plain': Variant(),
    'channels_last': Variant(channels_last=True),
    'tuned': Variant(channels_last=True, bfloat16=True),
    'cached': Variant(channels_last=True, cached=True),
    'tuned cached': Variant(channels_last=True, bfloat16=True, cached=True),
    'shared': Variant(channels_last=True, shared=True),
    'tuned shared': Variant(channels_last=True, bfloat16=True, shared=True),
    'compiled': Variant(channels_last=True, compiled=True),
    'compiled bfloat16': Variant(channels_last=True, bfloat16=True, compiled=True),
    'compiled shared': Variant(channels_last=True, shared=True, compiled=True),
    'compiled bfloat16 shared': Variant(channels_last=True, bfloat16=True, shared=True, compiled=True),
}


class Learner:
    """A student with its loss and its optimiser."""

    def __init__(self, net: nn.Module, terms: Sequence[cases.Term], data: Data, variant: Variant) -> None:
        self.net, self.variant, self.taps = variant.network(net), variant, _taps(terms)
        self.terms = nn.ModuleList(TERMS[term.kind](data, **term.args) for term in terms).to(DEVICE)
        self.weights = [term.weight for term in terms]
        self.optimiser = torch.optim.SGD(
            [*net.parameters(), *self.terms.parameters()],
            lr=cases.LEARNING_RATE, momentum=cases.MOMENTUM, weight_decay=cases.WEIGHT_DECAY,
        )  # fmt: skip

    def step(self, batch: Batch, teacher: Outputs) -> float:
        """One update; the loss before it."""
        student = self.variant.outputs(self.net, batch.images, self.taps)
        parts = [term(student, teacher, batch) for term in self.terms]
        loss = sum(weight * part for weight, part in zip(self.weights, parts, strict=True))
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()


class Loop:
    """Teacher, students and data of a case."""

    def __init__(self, case: cases.Case, variant: Variant, teacher: nn.Module, students: Sequence[nn.Module]) -> None:
        self.variant, self.done = variant, 0
        self.taps = _taps(cases.OBJECTIVES[case.technique])
        pool, images = cases.pool(case), torch_nets.images(case)
        if variant.channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        data = Data(_widths(students[0], images), _widths(teacher, images), torch.from_numpy(pool.known))
        whole = Batch(images, torch.from_numpy(pool.labels), torch.from_numpy(pool.ids))
        self.batches = [Batch(*(part[place].to(DEVICE) for part in whole)) for place in cases.batches(case)]
        self.teacher = variant.network(teacher)
        learners = [Learner(net, cases.objective(case, k), data, variant) for k, net in enumerate(students)]
        self.groups = [learners] if variant.shared else [[learner] for learner in learners]
        self.cache = [self._asked(batch) for batch in self.batches] if variant.cached else None

    def round(self, steps: int) -> list[float]:
        """So many steps of every student, from where the last round ended; the losses, means over students."""
        numbers = range(self.done, self.done + steps)
        curves = [curve for group in self.groups for curve in self._trained(group, numbers)]
        self.done += steps
        return [sum(losses) / len(losses) for losses in zip(*curves, strict=True)]

    def _trained(self, group: Sequence[Learner], numbers: Sequence[int]) -> list[list[float]]:
        """Losses by learner of learners that share a teacher's answers."""
        curves: list[list[float]] = [[] for _ in group]
        for number in numbers:
            place = number % len(self.batches)
            batch = self.batches[place]
            teacher = self.cache[place] if self.cache else self._asked(batch)
            for curve, learner in zip(curves, group, strict=True):
                curve.append(learner.step(batch, teacher))
        return curves

    @torch.no_grad()
    def _asked(self, batch: Batch) -> Outputs:
        return self.variant.outputs(self.teacher, batch.images, self.taps)


def build(case: cases.Case, variant: str, weights: str | Path | None = None) -> Loop:
    """The loop of a case, before its first step.

    Args:
      case: what is trained.
      variant: of VARIANTS.
      weights: file of `torch_nets.save` with which the teacher and all students start.

    Raises:
      UsageError: unknown variant, or a cache of logits for a term that reads more.
    """
    how = cases.variant(case, variant, VARIANTS, 'PyTorch')
    students = [torch_nets.student(case, number) for number in range(case.students)]
    if weights is None:
        return Loop(case, how, torch_nets.teacher(case), students)
    teacher = torch_nets.load(weights, 'teacher', torch_nets.net(case.teacher, case, cases.SEED))
    students = [torch_nets.load(weights, 'student', student) for student in students]
    return Loop(case, how, teacher.eval().requires_grad_(False), students)


def _taps(terms: Sequence[cases.Term]) -> set[str]:
    """What terms read of both networks besides logits."""
    named = [(*term.args.get('layers', ()), *filter(None, [term.args.get('layer')])) for term in terms]
    return {tap for names in named for tap in names}


def _widths(net: nn.Module, images: Tensor) -> dict[str, int]:
    """Channels or units by tap; the network stays as it is."""
    training = net.training
    with torch.no_grad():
        features = net.eval()(images[:1]).features
    net.train(training)
    return {tap: feature.shape[1] for tap, feature in features.items()}
