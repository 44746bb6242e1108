"""The terms of the loss as PyTorch users write them: each gives its mean over the batch, unweighted.

Every term has kdjax's name and fields (`TERMS`), and the formulas of kdjax/techniques, where the papers are cited.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.speed.torch_nets import Outputs


class Batch(NamedTuple):
    """A batch on its way through a step."""

    images: Tensor
    labels: Tensor  # (B,)
    ids: Tensor  # (B,)


Widths = Mapping[str, int]  # channels or units, by tap


class Data(NamedTuple):
    """What a term may ask for when it is made."""

    student: Widths
    teacher: Widths
    known: Tensor  # (n,) labels of the whole training set


class CrossEntropy(nn.Module):
    """The labels."""

    def __init__(self, data: Data) -> None:
        super().__init__()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return F.cross_entropy(student.logits, batch.labels)


class SoftTargets(nn.Module):
    """T^2 KL of softened predictions."""

    def __init__(self, data: Data, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        log_student = F.log_softmax(student.logits / self.temperature, dim=1)
        target = F.softmax(teacher.logits / self.temperature, dim=1)
        return F.kl_div(log_student, target, reduction='batchmean') * self.temperature**2


class AttentionTransfer(nn.Module):
    """Mean squared difference of normalised attention maps, summed over layers."""

    def __init__(self, data: Data, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return sum(
            F.mse_loss(_attention(student.features[layer]), _attention(teacher.features[layer]))
            for layer in self.layers
        )


def _attention(feature: Tensor) -> Tensor:
    return F.normalize(feature.pow(2).mean(dim=1).flatten(1))


class SimilarityPreserving(nn.Module):
    """Mean squared difference of row-normalised Gram matrices, summed over layers."""

    def __init__(self, data: Data, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return sum(
            F.mse_loss(_similarity(student.features[layer]), _similarity(teacher.features[layer]))
            for layer in self.layers
        )


def _similarity(feature: Tensor) -> Tensor:
    rows = feature.flatten(1)
    return F.normalize(rows @ rows.t())


class DistanceRelations(nn.Module):
    """Huber loss of pairwise distances over their mean."""

    def __init__(self, data: Data, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        with torch.no_grad():
            target = _distances(teacher.features[self.layer])
        return F.smooth_l1_loss(_distances(student.features[self.layer]), target)


def _distances(x: Tensor) -> Tensor:
    square = x.pow(2).sum(dim=1)
    distance = (square[:, None] + square[None, :] - 2 * x @ x.t()).clamp(min=1e-12).sqrt()
    distance = distance * (1 - torch.eye(len(x)))
    return distance / distance[distance > 0].mean()


class AngleRelations(nn.Module):
    """Huber loss of the cosines of angles in all triples."""

    def __init__(self, data: Data, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        with torch.no_grad():
            target = _cosines(teacher.features[self.layer])
        return F.smooth_l1_loss(_cosines(student.features[self.layer]), target)


def _cosines(x: Tensor) -> Tensor:
    edges = F.normalize(x[None, :] - x[:, None], dim=2)
    return torch.bmm(edges, edges.transpose(1, 2))


class ContrastiveRepresentation(nn.Module):
    """Noise-contrastive loss against two banks, in both directions; rows of the banks are gathered."""

    def __init__(
        self,
        data: Data,
        layer: str,
        examples: int,
        negatives: int,
        width: int,
        temperature: float,
        momentum: float,
    ) -> None:
        super().__init__()
        self.layer, self.negatives, self.temperature, self.momentum = layer, negatives, temperature, momentum
        self.embed = nn.ModuleDict({
            'student': nn.Linear(data.student[layer], width), 'teacher': nn.Linear(data.teacher[layer], width)
        })  # fmt: skip
        bound = (3 / width) ** 0.5
        for side in ('student', 'teacher'):
            self.register_buffer(f'{side}_bank', torch.empty(examples, width).uniform_(-bound, bound))
        self.others = [torch.nonzero(data.known != label)[:, 0] for label in range(int(data.known.max()) + 1)]
        self.scales: dict[str, Tensor] = {}  # Z of each direction, from the first batch

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return self.contrasted(student, teacher, batch, self.drawn(batch))

    def drawn(self, batch: Batch) -> Tensor:
        """Rows of the banks: an example's own, then its negatives, of other classes. (B, 1 + negatives)"""
        own = [self.others[label] for label in batch.labels.tolist()]
        negatives = [ids[torch.randint(len(ids), (self.negatives,))] for ids in own]
        return torch.cat([batch.ids[:, None], torch.stack(negatives)], dim=1)

    def contrasted(self, student: Outputs, teacher: Outputs, batch: Batch, rows: Tensor) -> Tensor:
        """The loss against these rows; then the banks move."""
        sides = {'student': student, 'teacher': teacher}
        anchors = {side: F.normalize(self.embed[side](outputs.features[self.layer])) for side, outputs in sides.items()}
        loss = self._direction('student', anchors['student'], self.teacher_bank, rows) + self._direction(
            'teacher', anchors['teacher'], self.student_bank, rows
        )
        self._move(self.student_bank, anchors['student'], batch.ids)
        self._move(self.teacher_bank, anchors['teacher'], batch.ids)
        return loss

    def _direction(self, side: str, anchor: Tensor, bank: Tensor, rows: Tensor) -> Tensor:
        gathered = bank.index_select(0, rows.flatten()).view(*rows.shape, -1)
        score = torch.exp(torch.bmm(gathered, anchor[:, :, None]).squeeze(2) / self.temperature)
        if side not in self.scales:
            self.scales[side] = score.detach().mean() * len(bank)
        score = score / self.scales[side]
        noise = self.negatives / len(bank)
        same = torch.log(score[:, 0] / (score[:, 0] + noise + 1e-7))
        apart = torch.log(noise / (score[:, 1:] + noise + 1e-7))
        return -(same.sum() + apart.sum()) / len(rows)

    @torch.no_grad()
    def _move(self, bank: Tensor, anchor: Tensor, ids: Tensor) -> None:
        bank[ids] = F.normalize(self.momentum * bank[ids] + (1 - self.momentum) * anchor)


class DecoupledTargets(nn.Module):
    """T^2 times the divergences of the label against the rest, and of the other classes among themselves."""

    def __init__(self, data: Data, alpha: float, beta: float, temperature: float) -> None:
        super().__init__()
        self.alpha, self.beta, self.temperature = alpha, beta, temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        label = F.one_hot(batch.labels, student.logits.shape[1]).bool()
        ours, theirs = student.logits / self.temperature, teacher.logits / self.temperature
        target = F.kl_div(_odds(ours, label).log(), _odds(theirs, label), reduction='batchmean')
        # exp(-1000) is 0: the label is out of the softmax, and its term is 0 times a finite difference.
        others = F.kl_div(
            F.log_softmax(ours - 1000.0 * label, dim=1), F.softmax(theirs - 1000.0 * label, dim=1),
            reduction='batchmean',
        )  # fmt: skip
        return (self.alpha * target + self.beta * others) * self.temperature**2


def _odds(logits: Tensor, label: Tensor) -> Tensor:
    """Probabilities of the label and of the rest. (B, 2)"""
    probability = F.softmax(logits, dim=1)
    return torch.stack([(probability * label).sum(dim=1), (probability * ~label).sum(dim=1)], dim=1)


class Fusion(nn.Module):
    """A student map is mixed with what the deeper level hands up, and becomes a guess of the teacher's map."""

    def __init__(self, into: int, width: int, out: int, top: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(into, width, 1, bias=False), nn.BatchNorm2d(width))
        self.gates = None if top else nn.Conv2d(2 * width, 2, 1)
        self.expand = nn.Sequential(nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor, deeper: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        x = self.reduce(x)
        if self.gates is not None:
            deeper = F.interpolate(deeper, x.shape[2:], mode='nearest')
            gates = torch.sigmoid(self.gates(torch.cat([x, deeper], dim=1)))
            x = x * gates[:, :1] + deeper * gates[:, 1:]
        if x.shape[2:] != size:
            x = F.interpolate(x, size, mode='nearest')
        return self.expand(x), x


class Review(nn.Module):
    """Fused student maps predict the teacher's maps, at several resolutions; summed over layers."""

    def __init__(self, data: Data, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers
        width = min(512, data.student[layers[-1]])
        self.fusions = nn.ModuleDict({
            layer: Fusion(data.student[layer], width, data.teacher[layer], top=layer == layers[-1]) for layer in layers
        })  # fmt: skip

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        loss, mixture = 0.0, None
        for layer in reversed(self.layers):
            target = _as_map(teacher.features[layer])
            guess, mixture = self.fusions[layer](_as_map(student.features[layer]), mixture, target.shape[2:])
            loss = loss + _context(guess, target)
        return loss


def _as_map(x: Tensor) -> Tensor:
    return x if x.ndim == 4 else x[:, :, None, None]


def _context(guess: Tensor, target: Tensor) -> Tensor:
    loss, total, weight = F.mse_loss(guess, target), 1.0, 1.0
    for level in (4, 2, 1):
        if level < guess.shape[2]:
            weight /= 2
            total += weight
            pooled = F.adaptive_avg_pool2d(guess, level), F.adaptive_avg_pool2d(target, level)
            loss = loss + weight * F.mse_loss(*pooled)
    return loss / total


class Hint(nn.Module):
    """Mean squared error of a regressor (1x1 convolution, normalisation, ReLU) from a student map to the teacher's."""

    def __init__(self, data: Data, layer: str, form: str) -> None:
        super().__init__()
        if form != 'repdistiller':
            raise ValueError(f"the hint is written in the form 'repdistiller' only, got {form!r}")
        self.layer = layer
        out = data.teacher[layer]
        self.regressor = nn.Sequential(nn.Conv2d(data.student[layer], out, 1), nn.BatchNorm2d(out), nn.ReLU())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return F.mse_loss(self.regressor(student.features[self.layer]), teacher.features[self.layer])


class Correlations(nn.Module):
    """T^2 times one minus the correlations of predictions: within examples, and of each class between them."""

    def __init__(self, data: Data, beta: float, gamma: float, temperature: float) -> None:
        super().__init__()
        self.beta, self.gamma, self.temperature = beta, gamma, temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = (F.softmax(side.logits / self.temperature, dim=1) for side in (student, teacher))
        within, between = 1 - _pearson(ours, theirs).mean(), 1 - _pearson(ours.t(), theirs.t()).mean()
        return (self.beta * within + self.gamma * between) * self.temperature**2


def _pearson(left: Tensor, right: Tensor) -> Tensor:
    """Correlations of rows."""
    left, right = left - left.mean(dim=1, keepdim=True), right - right.mean(dim=1, keepdim=True)
    return (left * right).sum(dim=1) / (left.norm(dim=1) * right.norm(dim=1) + 1e-8)


TERMS: dict[str, Any] = {
    'cross_entropy.CrossEntropy': CrossEntropy,
    'hinton.SoftTargets': SoftTargets,
    'attention.AttentionTransfer': AttentionTransfer,
    'similarity.SimilarityPreserving': SimilarityPreserving,
    'rkd.DistanceRelations': DistanceRelations,
    'rkd.AngleRelations': AngleRelations,
    'crd.ContrastiveRepresentation': ContrastiveRepresentation,
    'dkd.DecoupledTargets': DecoupledTargets,
    'reviewkd.Review': Review,
    'fitnets.Hint': Hint,
    'dist.Correlations': Correlations,
}
