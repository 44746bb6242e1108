"""The step of a detector as a plain PyTorch training loop: network, assignment of boxes to cells, losses, update.

Modules have the names of kdjax's, so that its weights fit. `detector.py` starts it as a process of its own:

  python torch_detector.py FILE COUNTS BINS THREADS LEARNING_RATE WEIGHT_DECAY
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.speed import worker

STRIDE, RADIUS, GROUPS = 8, 1.5, 8


class Residual(nn.Module):
    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.around = into != width or stride != 1
        if self.around:
            self.downsample_0 = nn.Conv2d(into, width, 1, stride, bias=False)
            self.downsample_1 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + (self.downsample_1(self.downsample_0(x)) if self.around else x))


class Detect(nn.Module):
    def __init__(self, width: int, classes: int, bins: int) -> None:
        super().__init__()
        groups = max(count for count in range(1, GROUPS + 1) if width % count == 0)
        for number in (1, 2):
            self.add_module(f'conv{number}', nn.Conv2d(width, width, 3, 1, 1, bias=False))
            self.add_module(f'norm{number}', nn.GroupNorm(groups, width, eps=1e-6))
        self.classes = nn.Conv2d(width, classes, 3, 1, 1)
        self.edges = nn.Conv2d(width, 4 * bins, 3, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.relu(self.norm1(self.conv1(x)))
        x = functional.relu(self.norm2(self.conv2(x)))
        return self.classes(x), self.edges(x)


class Detector(nn.Module):
    def __init__(self, widths: Sequence[int], counts: Sequence[int], neck: int, classes: int, bins: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.names, into, self.bins = [], widths[0], bins
        for stage, (width, count) in enumerate(zip(widths, counts, strict=True), start=1):
            for place in range(count):
                self.names.append(f'layer{stage}_{place}')
                self.add_module(self.names[-1], Residual(into, width, 2 if stage > 1 and place == 0 else 1))
                into = width
        self.neck_lateral1 = nn.Conv2d(into, neck, 1)
        self.neck_out1 = nn.Conv2d(neck, neck, 3, 1, 1)
        self.detect = Detect(neck, classes, bins)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of classes (B, M, K) and of edges (B, M, 4, bins)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        for name in self.names:
            x = getattr(self, name)(x)
        classes, edges = self.detect(self.neck_out1(self.neck_lateral1(x)))
        return classes.flatten(2).transpose(1, 2), edges.flatten(2).transpose(1, 2).unflatten(2, (4, self.bins))


def assigned(boxes: Tensor, labels: Tensor, height: int, width: int, bins: int) -> tuple[Tensor, Tensor]:
    """Centre sampling: the class of every cell (B, M), -1 of the background, and the distances (B, M, 4) in strides."""
    y, x = torch.meshgrid(*(torch.arange(-(-size // STRIDE)) * STRIDE + STRIDE / 2 for size in (height, width)),
                          indexing='ij')  # fmt: skip
    centre = torch.stack([x.flatten(), y.flatten()], dim=1)[:, None]
    pixels = boxes * boxes.new_tensor([width, height, width, height])
    area = (pixels[..., 2] - pixels[..., 0]) * (pixels[..., 3] - pixels[..., 1])
    real = ((labels >= 0) & (area > 0))[:, None]
    gaps = torch.cat([centre - pixels[:, None, :, :2], pixels[:, None, :, 2:] - centre], dim=-1)
    apart = (centre - (pixels[..., :2] + pixels[..., 2:])[:, None] / 2).abs()
    fits = real & (gaps.min(-1).values > 0) & (apart <= RADIUS * STRIDE).all(-1)
    nearest = functional.one_hot(apart.square().sum(-1).argmin(1), len(centre)).transpose(1, 2).bool()
    fits |= nearest & real & ~fits.any(1, keepdim=True)
    chosen = torch.where(fits, area[:, None], torch.inf).argmin(2)
    own = gaps.gather(2, chosen[..., None, None].expand(*chosen.shape, 1, 4))[:, :, 0] / STRIDE
    return torch.where(fits.any(2), labels.gather(1, chosen), -1), own.clamp(0, bins - 1)


def loss(logits: Tensor, edges: Tensor, classes: Tensor, distances: Tensor) -> Tensor:
    """Quality focal + 0.25 distribution focal + 2 GIoU loss, over the cells that have an object."""
    image, cell = torch.nonzero(classes >= 0, as_tuple=True)
    edges, distances, kind = edges[image, cell], distances[image, cell], classes[image, cell]
    bins = torch.arange(edges.shape[-1], dtype=edges.dtype)
    found = (edges.softmax(-1) * bins).sum(-1)
    inner = torch.minimum(found, distances)
    outer = torch.maximum(found, distances)
    shared = (inner[:, 0] + inner[:, 2]) * (inner[:, 1] + inner[:, 3])
    own, true = ((x[:, 0] + x[:, 2]) * (x[:, 1] + x[:, 3]) for x in (found, distances))
    union = own + true - shared
    around = (outer[:, 0] + outer[:, 2]) * (outer[:, 1] + outer[:, 3])
    iou = shared / union.clamp(min=1e-7)
    giou = iou - (around - union) / around.clamp(min=1e-7)
    wanted = torch.zeros_like(logits)
    wanted[image, cell, kind] = iou.detach()
    scores = logits.sigmoid()
    sure = scores.detach()[image, cell].max(-1).values
    bce = functional.binary_cross_entropy_with_logits(logits, wanted, reduction='none')
    quality = ((wanted - scores).abs().square() * bce).sum()
    left = distances.floor().clamp(max=edges.shape[-1] - 2).long()
    share = distances - left
    flat, below = edges.flatten(0, 1), left.flatten()
    ends = [functional.cross_entropy(flat, below + more, reduction='none').view_as(distances) for more in (0, 1)]
    distribution = (sure * (ends[0] * (1 - share) + ends[1] * share).mean(-1)).sum()
    return (quality + 0.25 * distribution + 2 * (sure * (1 - giou)).sum()) / max(len(image), 1)


class Loop:
    """A network that starts with kdjax's `params`, and what it learns."""

    def __init__(
        self,
        params: Mapping[str, Any],
        batch: Mapping[str, np.ndarray],
        counts: Sequence[int],
        bins: int,
        rates: Mapping[str, float],
    ) -> None:
        widths = [params['conv1']['kernel'].shape[-1]]
        widths += [params[f'layer{stage}_0']['conv1']['kernel'].shape[-1] for stage in range(2, len(counts) + 1)]
        neck, classes = params['detect']['classes']['kernel'].shape[2:]
        self.net, self.bins = Detector(widths, counts, neck, classes, bins).train(), bins
        _load(self.net, params)
        self.images = torch.from_numpy(np.moveaxis(batch['inputs'], -1, 1).copy())
        self.boxes, self.labels = torch.from_numpy(batch['boxes']), torch.from_numpy(batch['labels']).long()
        self.optimiser = torch.optim.AdamW(self.net.parameters(), **rates)

    def round(self, steps: int) -> list[float]:
        """So many steps; their losses."""
        losses = []
        for _ in range(steps):
            cells, distances = assigned(self.boxes, self.labels, *self.images.shape[2:], self.bins)
            value = loss(*self.net(self.images), cells, distances)
            self.optimiser.zero_grad()
            value.backward()
            self.optimiser.step()
            losses.append(value.item())
        return losses


def _load(net: nn.Module, params: Mapping[str, Any]) -> None:
    """Puts kdjax's weights in the place of those of modules of the same names."""
    for name, module in net.named_modules():
        node: Any = params
        for part in name.split('.') if name else ():
            node = node[part]
        for own, theirs in (('weight', 'kernel'), ('weight', 'scale'), ('bias', 'bias')):
            leaf = node.get(theirs)
            if hasattr(leaf, 'shape'):
                array = np.asarray(leaf)
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
                getattr(module, own).data = torch.from_numpy(array.copy())


def main(path: str, counts: str, bins: str, threads: str, rate: str, decay: str) -> None:
    """Serves rounds, as `worker` has it."""
    torch.set_num_threads(int(threads))
    with np.load(path) as file:
        arrays = worker.nested(dict(file))
    rates = {'lr': float(rate), 'weight_decay': float(decay)}
    depths = [int(count) for count in counts.split(',')]
    worker.serve(lambda: Loop(arrays['params'], arrays['batch'], depths, int(bins), rates), sys.stdin, sys.stdout)


if __name__ == '__main__':
    main(*sys.argv[1:])
