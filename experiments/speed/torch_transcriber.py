"""The step of a transcriber as a plain PyTorch training loop: CTC, and a BiLSTM frame by frame. See torch_speech.py.

python torch_transcriber.py FILE THREADS
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn

from experiments.speed import torch_speech

CTC, FRAMES, CLIP = 0.5, 5.0, 5.0


class ConvBiLSTM(nn.Module):
    def __init__(self, classes: int, mels: int, width: int, size: int, strides: Sequence[int], units: int) -> None:
        super().__init__()
        self.strides = strides
        for place, stride in enumerate(strides, start=1):
            self.add_module(f'conv{place}', nn.Conv1d(mels, width, size, stride, (size - 1) // 2))
            self.add_module(f'norm{place}', nn.LayerNorm(width, eps=1e-6))
            mels = width
        self.lstm = nn.LSTM(width, units, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * units, classes)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, K), and which frames are real."""
        for place, stride in enumerate(self.strides, start=1):
            mask = mask[:, ::stride]
            x = torch_speech.over_time(getattr(self, f'conv{place}'), x)
            x = functional.relu(getattr(self, f'norm{place}')(x)) * mask[..., None]
        packed = rnn.pack_padded_sequence(x, mask.sum(1).long(), batch_first=True, enforce_sorted=False)
        x, _ = rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.head(x), mask


def loss(student: tuple[Tensor, Tensor], teacher: Tensor, columns: Mapping[str, Tensor]) -> Tensor:
    """CTC of a label, and the mean over real frames of the divergence from what the teacher says of them."""
    logits, mask = student
    log_student, lengths = logits.log_softmax(2), columns['label_length']
    spelled = functional.ctc_loss(
        log_student.transpose(0, 1), columns['labels'], mask.sum(1).long(), lengths, blank=logits.shape[2] - 1,
        reduction='none', zero_infinity=True,
    )  # fmt: skip
    apart = functional.kl_div(log_student, teacher.log_softmax(2), reduction='none', log_target=True).sum(2)
    frames = (apart * mask).sum(1) / mask.sum(1)
    return CTC * (spelled / lengths).mean() + FRAMES * frames.mean()


def build(arrays: Mapping[str, Any]) -> torch_speech.Loop:
    """The loop of both networks."""
    told = arrays['told']
    return torch_speech.Loop(
        arrays, lambda: torch_speech.Depthwise(**told['student'], pool=False), lambda: ConvBiLSTM(**told['teacher']),
        loss, CLIP,
    )  # fmt: skip


if __name__ == '__main__':
    torch_speech.serve(build, *sys.argv[1:])
