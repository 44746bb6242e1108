"""An epoch of BPR matrix factorisation as a plain PyTorch training loop, with its authors' optimiser.

The loss is summed over a batch, and Adam has the L2 in the gradient. What is held against an interaction is drawn anew
for a whole epoch, and again where its user took it.

  python torch_recommender.py FILE THREADS
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.speed import torch_speech


class Factorization(nn.Module):
    def __init__(self, users: Tensor, items: Tensor) -> None:
        super().__init__()
        self.users, self.items = (nn.Embedding.from_pretrained(table, freeze=False) for table in (users, items))

    def forward(self, user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The loss of a batch, its sum."""
        own = self.users(user)
        gap = (own * self.items(positive)).sum(1) - (own * self.items(negative)).sum(1)
        return -functional.logsigmoid(gap).sum()


class Loop:
    """Students that train one after the other, as separate runs would."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        told = arrays['told']
        self.batch = told['batch']
        taken = torch.from_numpy(arrays['taken']).long()
        self.user, self.item, self.items = *taken.T, told['items']
        self.known = torch.zeros(told['users'], told['items'], dtype=torch.bool)
        self.known[self.user, self.item] = True
        tables = [torch.from_numpy(arrays['params'][side]['table']) for side in ('users', 'items')]
        first = [torch.from_numpy(arrays['first'][name]).long() for name in ('user', 'positive', 'negative')]
        self.students = []
        for place in range(told['students']):
            net = Factorization(*(table.clone() for table in tables))
            optimiser = torch.optim.Adam(net.parameters(), **told['rates'])
            self.students.append((net, optimiser, self._batches([column[place] for column in first])))

    def round(self, steps: int) -> list[float]:
        """So many steps of every student; the losses of an interaction, means over students."""
        curves = [[self._step(*student) for _ in range(steps)] for student in self.students]
        return [sum(losses) / len(losses) / self.batch for losses in zip(*curves, strict=True)]

    def _step(self, net: nn.Module, optimiser: torch.optim.Optimizer, batches: Iterator[tuple[Tensor, ...]]) -> float:
        value = net(*next(batches))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return value.item()

    def _batches(self, first: list[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        """Those that are given, and then epoch after epoch of our own."""
        yield from zip(*first, strict=True)
        while True:
            order, negative = torch.randperm(len(self.user)), self._drawn()
            for ids in order.split(self.batch):
                yield self.user[ids], self.item[ids], negative[ids]

    def _drawn(self) -> Tensor:
        """An item for every interaction that its user did not take."""
        negative = torch.randint(self.items, self.user.shape)
        while len(wrong := self.known[self.user, negative].nonzero()[:, 0]):
            negative[wrong] = torch.randint(self.items, wrong.shape)
        return negative


if __name__ == '__main__':
    torch_speech.serve(Loop, *sys.argv[1:])
