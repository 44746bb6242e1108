"""What plain PyTorch loops of speech share: features, augmentation, layers over time, and the loop itself.

Modules have the names of kdjax's, so that its weights fit; frames are (B, T, C), padding on the right.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.speed import worker

SHIFT, LEVEL, WIDEST, SHARE, BAND = 800, 0.1, 1120, 0.3, 8  # of augmentations, as configs/fsdd.py has them


class Seen(NamedTuple):
    """What networks see of a batch of clips, and what is known of it."""

    frames: Tensor  # (B, T, M)
    mask: Tensor  # (B, T), 1 for real frames
    columns: Mapping[str, Tensor]  # by name, (B, ...)
    answers: Tensor | None  # what the teacher says, where it is looked up


class LogMel(nn.Module):
    """log(mel power spectrum + floor) about its mean over real frames."""

    def __init__(self, bank: np.ndarray, window: int, hop: int, fft: int) -> None:
        super().__init__()
        self.bank, self.window, self.hop, self.fft = torch.from_numpy(bank), window, hop, fft
        self.hann = torch.hann_window(window)

    def forward(self, audio: Tensor, samples: Tensor, hidden: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        pieces = audio.float().unfold(1, self.window, self.hop) / 2**15
        spectrum = torch.fft.rfft(pieces * self.hann, n=self.fft)
        frames = torch.log((spectrum.real.square() + spectrum.imag.square()) @ self.bank.T + 1e-6)
        starts = self.hop * torch.arange(frames.shape[1])
        real = (samples - self.window).clamp(min=0)[:, None] >= starts
        mask = real.float()
        frames = frames - (frames * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        shown = real[..., None]
        if hidden is not None:
            times, bands = hidden
            shown = shown & ~within(starts, times)[..., None] & ~within(torch.arange(frames.shape[2]), bands)[:, None]
        return frames * shown, mask


def within(places: Tensor, spans: Tensor) -> Tensor:
    """Which places (P,) lie in a span (B, 2) of a start and a width. (B, P)"""
    return (places >= spans[:, :1]) & (places < spans.sum(1, keepdim=True))


def augmented(audio: Tensor, samples: Tensor, mels: int) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Clips moved and in noise, how many samples are real, and the spans of time and of bands that are hidden."""
    count, size = audio.shape
    by = torch.maximum(torch.randint(-SHIFT, SHIFT + 1, (count,)), -(samples // 2))
    place = torch.arange(size) - by[:, None]
    moved = audio.gather(1, place.clamp(0, size - 1)).float() * ((place >= 0) & (place < size))
    samples = (samples + by).clamp(max=size)
    loudness = (moved.square().sum(1) / samples).sqrt() * LEVEL * torch.rand(count)
    noisy = (moved + torch.randn(count, size) * loudness[:, None]).round().clamp(-(2**15), 2**15 - 1)
    sounds = torch.where(torch.arange(size) < samples[:, None], noisy, moved)
    longest = (SHARE * samples).long().clamp(max=WIDEST)
    return sounds, samples, (spans(longest, samples), spans(torch.full((count,), BAND), torch.full((count,), mels)))


def spans(widest: Tensor, length: Tensor) -> Tensor:
    """A start and a width within `length` for each. (B, 2)"""
    width = (torch.rand(len(widest)) * (widest + 1)).long()
    return torch.stack([(torch.rand(len(widest)) * (length - width + 1)).long(), width], dim=1)


def over_time(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer of channels first, of frames (B, T, C)."""
    return layer(x.transpose(1, 2)).transpose(1, 2)


class Separable(nn.Module):
    def __init__(self, into: int, width: int, size: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv1d(into, into, size, stride, (size - 1) // 2, groups=into)
        self.pointwise = nn.Linear(into, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = functional.relu(self.norm(self.pointwise(over_time(self.depthwise, x))))
        return (x + y if x.shape == y.shape else y) * mask[..., None]


class Depthwise(nn.Module):
    """A student of separable convolutions: logits of a clip (B, K), or of every frame (B, T, K)."""

    def __init__(self, classes: int, mels: int, first: int, widths: Sequence[int], strides: Sequence[int], size: int,
                 pool: bool) -> None:  # fmt: skip
        super().__init__()
        self.first, self.norm, self.pool = nn.Conv1d(mels, first, 3, 1, 1), nn.LayerNorm(first, eps=1e-6), pool
        self.strides = strides
        for place, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
            self.add_module(f'layer{place}', Separable(first, width, size, stride))
            first = width
        self.head = nn.Linear(first, classes)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and which frames of them are real."""
        x = functional.relu(self.norm(over_time(self.first, x))) * mask[..., None]
        for place, stride in enumerate(self.strides, start=1):
            mask = mask[:, ::stride]
            x = getattr(self, f'layer{place}')(x, mask)
        return self.head(x.sum(1) / mask.sum(1, keepdim=True) if self.pool else x), mask


Loss = Callable[[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | Tensor, Mapping[str, Tensor]], Tensor]


class Learner:
    """A student, its optimiser, and in which order it sees the clips."""

    def __init__(self, net: nn.Module, order: Tensor, rates: Mapping[str, float]) -> None:
        self.net, self.order, self.done = net.train(), order, 0
        self.optimiser = torch.optim.AdamW(net.parameters(), **rates)

    def ids(self) -> tuple[Tensor, int]:
        """The next batch (B,), and its epoch."""
        epoch, place = divmod(self.done, len(self.order))
        if self.done and not place:
            self.order = torch.randperm(self.order.numel()).view_as(self.order)
        self.done += 1
        return self.order[place], epoch


class Loop:
    """Students that train one after the other, as separate runs would.

    Args:
      arrays: as tasks.py writes them.
      student, teacher: a new network of each; the teacher is asked where its answers are not in `arrays`.
      loss: of outputs of both, and of the columns of a batch.
      clip: largest norm of the gradient; 0 for no clipping.
    """

    def __init__(self, arrays: Mapping[str, Any], student: Callable[[], nn.Module], teacher: Callable[[], nn.Module],
                 loss: Loss, clip: float = 0.0) -> None:  # fmt: skip
        told = arrays['told']
        self.loss, self.clip, self.views = loss, clip, told['views']
        self.audio, self.samples = (torch.from_numpy(arrays['clips'][name]) for name in ('audio', 'samples'))
        self.columns = {name: torch.from_numpy(column).long() for name, column in arrays['columns'].items()}
        self.mel = LogMel(arrays['bank'], **told['mel'])
        self.answers = torch.from_numpy(arrays['answers']) if 'answers' in arrays else None
        self.teacher = None if self.answers is not None else loaded(teacher(), arrays['teacher']).eval()
        order = torch.from_numpy(arrays['order']).long()
        self.learners = [Learner(loaded(student(), arrays['params']), own, told['rates']) for own in order]

    def round(self, steps: int) -> list[float]:
        """So many steps of every student; the losses, means over students."""
        curves = [[self._step(learner) for _ in range(steps)] for learner in self.learners]
        return [sum(losses) / len(losses) for losses in zip(*curves, strict=True)]

    def _step(self, learner: Learner) -> float:
        seen = self._seen(*learner.ids())
        taught = seen.answers
        if self.teacher is not None:
            with torch.no_grad():
                taught = self.teacher(seen.frames, seen.mask)[0]
        value = self.loss(learner.net(seen.frames, seen.mask), taught, seen.columns)
        learner.optimiser.zero_grad()
        value.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(learner.net.parameters(), self.clip)
        learner.optimiser.step()
        return value.item()

    def _seen(self, ids: Tensor, epoch: int) -> Seen:
        """Clips as they are in every so many-th epoch, the first among them, and otherwise as others."""
        audio, samples, hidden = self.audio[ids], self.samples[ids].long(), None
        if epoch % self.views:
            audio, samples, hidden = augmented(audio, samples, len(self.mel.bank))
        answers = None if self.answers is None else self.answers[ids, epoch % self.views]
        columns = {name: column[ids] for name, column in self.columns.items()}
        return Seen(*self.mel(audio, samples, hidden), columns, answers)


def loaded(net: nn.Module, params: Mapping[str, Any]) -> nn.Module:
    """The network with kdjax's weights in the place of those of modules of the same names."""
    for name, module in net.named_modules():
        node: Any = params
        for part in name.split('.') if name else ():
            node = node[part]
        if isinstance(module, nn.LSTM):
            _load_lstm(module, node)
        elif isinstance(module, nn.Conv1d | nn.Linear | nn.LayerNorm | nn.BatchNorm1d):
            _load(module, node.get('taps', node))
    return net


def _load(module: Any, node: Mapping[str, np.ndarray]) -> None:
    weight = node.get('kernel', node.get('scale'))
    if isinstance(module, nn.Conv1d):
        into, size = module.in_channels // module.groups, module.kernel_size[0]
        weight = weight.reshape(size, into, -1).transpose(2, 1, 0)
    elif isinstance(module, nn.Linear):
        weight = weight.T
    for own, array in (('weight', weight), ('bias', node.get('bias'))):
        if array is not None:
            getattr(module, own).data = torch.tensor(array)  # a copy: students must not share it


def _load_lstm(module: nn.LSTM, node: Mapping[str, np.ndarray]) -> None:
    """kdjax has one bias where PyTorch adds two up."""
    for place, end in enumerate(('', '_reverse')):
        parts = {'weight_ih': node['kernel'][place].T, 'weight_hh': node['recurrent'][place].T,
                 'bias_ih': node['bias'][place], 'bias_hh': np.zeros_like(node['bias'][place])}  # fmt: skip
        for own, array in parts.items():
            getattr(module, f'{own}_l0{end}').data = torch.tensor(array)


def serve(build: Callable[[Mapping[str, Any]], Any], path: str, threads: str) -> None:
    """Serves rounds of a loop that is built of the arrays in a file, as `worker` has it."""
    torch.set_num_threads(int(threads))
    with np.load(path) as file:
        arrays = worker.nested(dict(file))
    arrays['told'] = json.loads(str(arrays['told']))
    worker.serve(lambda: build(arrays), sys.stdin, sys.stdout)
