"""The step of a keyword network as a plain PyTorch training loop, its teacher a TC-ResNet. See torch_speech.py.

python torch_keywords.py FILE THREADS
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from torch import Tensor, nn
from torch.nn import functional

from experiments.speed import torch_speech

HARD, SOFT, TEMPERATURE = 0.1, 0.9, 4.0


class Block(nn.Module):
    def __init__(self, into: int, width: int, size: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(into, width, size, stride, (size - 1) // 2, bias=False)
        self.conv2 = nn.Conv1d(width, width, size, 1, (size - 1) // 2, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm1d(width), nn.BatchNorm1d(width)
        self.around = stride > 1 or into != width
        if self.around:
            self.conv_around = nn.Conv1d(into, width, 1, stride, bias=False)
            self.norm_around = nn.BatchNorm1d(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x))) * mask
        y = self.norm2(self.conv2(y))
        around = functional.relu(self.norm_around(self.conv_around(x))) if self.around else x
        return functional.relu(y + around) * mask


class TCResNet(nn.Module):
    def __init__(self, classes: int, mels: int, widths: Sequence[int], strides: Sequence[int], size: int) -> None:
        super().__init__()
        self.first, self.strides = nn.Conv1d(mels, widths[0], 3, 1, 1, bias=False), strides
        for place, stride in enumerate(strides, start=1):
            self.add_module(f'layer{place}', Block(widths[place - 1], widths[place], size, stride))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K), and which frames are real."""
        mask = mask[:, None]
        x = self.first(x.transpose(1, 2)) * mask
        for place, stride in enumerate(self.strides, start=1):
            mask = mask[..., ::stride]
            x = getattr(self, f'layer{place}')(x, mask)
        return self.head(x.sum(2) / mask.sum(2)), mask[:, 0]


def loss(student: tuple[Tensor, Tensor], teacher: Tensor, columns: Mapping[str, Tensor]) -> Tensor:
    """The label's surprise, and T^2 KL of softened probabilities."""
    logits = student[0]
    log_student, log_teacher = ((x / TEMPERATURE).log_softmax(1) for x in (logits, teacher))
    soft = functional.kl_div(log_student, log_teacher, reduction='batchmean', log_target=True)
    return HARD * functional.cross_entropy(logits, columns['labels']) + SOFT * TEMPERATURE**2 * soft


def build(arrays: Mapping[str, Any]) -> torch_speech.Loop:
    """The loop of both networks."""
    told = arrays['told']
    return torch_speech.Loop(
        arrays, lambda: torch_speech.Depthwise(**told['student'], pool=True), lambda: TCResNet(**told['teacher']), loss
    )


if __name__ == '__main__':
    torch_speech.serve(build, *sys.argv[1:])
