"""The networks in plain PyTorch, with the arithmetic, taps and names of layers of those in kdjax/nets.

`forward` gives logits and what terms may read, by tap. Layers have the names of the published implementations, which
`kdjax.nets.torch_weights` reads.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.speed import cases


class Outputs(NamedTuple):
    """What a network says of a batch."""

    logits: Tensor  # (B, K)
    features: dict[str, Tensor]  # by tap, maps (B, C, H, W) or vectors (B, D)


def _conv(into: int, width: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(into, width, size, stride, padding=size // 2, bias=False)


class _Block(nn.Module):
    """Two convolutions and the way around them, added before the last ReLU."""

    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(into, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1 or into != width:
            self.downsample = nn.Sequential(_conv(into, width, 1, stride), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ResNet(nn.Module):
    """ResNet of depth 6n + 2 for small images."""

    def __init__(self, shape: Sequence[int], classes: int, depth: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(shape[2], widths[0], 3), nn.BatchNorm2d(widths[0])
        for stage, (into, width) in enumerate(itertools.pairwise(widths), start=1):
            first = _Block(into, width, 1 if stage == 1 else 2)
            rest = [_Block(width, width, 1) for _ in range((depth - 2) // 6 - 1)]
            self.add_module(f'layer{stage}', nn.Sequential(first, *rest))
        self.fc = nn.Linear(widths[-1], classes)
        _start(self)

    def forward(self, x: Tensor) -> Outputs:
        features = {'stem': F.relu(self.bn1(self.conv1(x)), inplace=True)}
        features['stage1'] = self.layer1(features['stem'])
        features['stage2'] = self.layer2(features['stage1'])
        features['stage3'] = self.layer3(features['stage2'])
        features['penult'] = features['stage3'].mean(dim=(2, 3))
        return Outputs(self.fc(features['penult']), features)


class _WideBlock(nn.Module):
    """Normalisation and ReLU before each of two convolutions."""

    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(into), _conv(into, width, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), _conv(width, width, 3)
        self.convShortcut = None if into == width else _conv(into, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x), inplace=True)
        around = x if self.convShortcut is None else self.convShortcut(y)
        return around + self.conv2(F.relu(self.bn2(self.conv1(y)), inplace=True))


class _WideStage(nn.Module):
    def __init__(self, into: int, width: int, stride: int, count: int) -> None:
        super().__init__()
        rest = [_WideBlock(width, width, 1) for _ in range(count - 1)]
        self.layer = nn.Sequential(_WideBlock(into, width, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """WRN-depth-widen of depth 6n + 4."""

    def __init__(self, shape: Sequence[int], classes: int, depth: int, widen: int) -> None:
        super().__init__()
        widths, count = (16, 16 * widen, 32 * widen, 64 * widen), (depth - 4) // 6
        self.conv1 = _conv(shape[2], widths[0], 3)
        for stage, (into, width) in enumerate(itertools.pairwise(widths), start=1):
            self.add_module(f'block{stage}', _WideStage(into, width, 1 if stage == 1 else 2, count))
        self.bn1, self.fc = nn.BatchNorm2d(widths[-1]), nn.Linear(widths[-1], classes)
        _start(self)

    def forward(self, x: Tensor) -> Outputs:
        features = {'stem': self.conv1(x)}
        features['stage1'] = self.block1(features['stem'])
        features['stage2'] = self.block2(features['stage1'])
        features['stage3'] = self.block3(features['stage2'])
        features['penult'] = F.relu(self.bn1(features['stage3']), inplace=True).mean(dim=(2, 3))
        return Outputs(self.fc(features['penult']), features)


class MLP(nn.Module):
    """Dense layers with ReLU over the flattened image."""

    def __init__(self, shape: Sequence[int], classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.depth = len(widths)
        for number, (into, width) in enumerate(itertools.pairwise((math.prod(shape), *widths)), start=1):
            self.add_module(f'dense{number}', nn.Linear(into, width))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Outputs:
        features, x = {}, x.flatten(1)
        for number in range(1, self.depth + 1):
            x = features[f'hidden{number}'] = F.relu(self.get_submodule(f'dense{number}')(x))
        return Outputs(self.head(x), features)


NETS = {'resnet_cifar.resnet': ResNet, 'wide_resnet.wrn': WideResNet, 'mlp.mlp': MLP}


def net(network: cases.Network, case: cases.Case, seed: int) -> nn.Module:
    """A network for the images of a case, with weights drawn by `seed`."""
    torch.manual_seed(seed)
    return NETS[network.net](case.shape, case.classes, **network.args)


def teacher(case: cases.Case) -> nn.Module:
    """The teacher, in evaluation mode, with the statistics of one batch: untrained, but its maps do not grow."""
    found = net(case.teacher, case, cases.SEED)
    norms = [module for module in found.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        found(images(case)[: case.batch])
    for norm in norms:
        norm.momentum = 0.1
    return found.eval().requires_grad_(False)


def student(case: cases.Case, number: int) -> nn.Module:
    """A student of the grid, in training mode."""
    return net(case.student, case, cases.SEED + 1 + number)


def images(case: cases.Case) -> Tensor:
    """The pool: (N, C, H, W), contiguous, or as it is where images have no channels."""
    pool = torch.from_numpy(cases.pool(case).images)
    return pool.permute(0, 3, 1, 2).contiguous() if pool.ndim == 4 else pool


def save(path: str | Path, case: cases.Case) -> None:
    """Writes teacher and first student of a case as .safetensors, names beginning with 'teacher.' and 'student.'."""
    from safetensors.torch import save_file

    states = {'teacher': teacher(case).state_dict(), 'student': student(case, 0).state_dict()}
    save_file({f'{side}.{name}': value for side, state in states.items() for name, value in state.items()}, path)


def load(path: str | Path, side: str, into: nn.Module) -> nn.Module:
    """The network with the weights of one side, 'teacher' or 'student', from what `save` wrote."""
    from safetensors.torch import load_file

    prefix = f'{side}.'
    own = {name.removeprefix(prefix): value for name, value in load_file(path).items() if name.startswith(prefix)}
    into.load_state_dict(own)
    return into


def _start(module: nn.Module) -> None:
    """Convolutions start as He et al., 2015, eq. 14; the rest as PyTorch has it."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode='fan_out', nonlinearity='relu')
