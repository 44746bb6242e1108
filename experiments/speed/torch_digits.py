"""The runs of digits.py as a plain PyTorch program: a teacher, its soft labels once, then one student after the other.

Command: python experiments/speed/torch_digits.py FILE [--runs 20] [--only K]

FILE keeps the teacher's logits: they are made where it does not exist. --only trains run K alone, as a process of its
own would. Prints the test accuracy of every run. Networks, steps, batches, rates and shift are those of digits.py.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments.speed.cases import RUNS

TRAIN, VALIDATION, TRANSFER = 1000, 297, 250
TEACHER, STUDENT = (256, 256), (16,)  # widths
# What a fit is; a test holds these to digits.py, which would bring JAX along.
TAUGHT = {'steps': 3000, 'batch': 64, 'rate': 3e-3, 'decay': 1e-2}
LEARNS = {'steps': 1000, 'batch': 32, 'rate': 1e-2, 'decay': 0.0}
HARD, SOFT = 0.1, 0.9  # weights


def data() -> tuple[Tensor, ...]:
    """Training images and labels, test images and labels."""
    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.target))
    images = torch.from_numpy((raw.images[order] / 16).astype(np.float32))
    labels = torch.from_numpy(raw.target[order]).long()
    test = TRAIN + VALIDATION
    return images[:TRAIN], labels[:TRAIN], images[test:], labels[test:]


def mlp(*widths: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for into, width in zip((64, *widths), widths, strict=False):
        layers += [nn.Linear(into, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def shifted(images: Tensor) -> Tensor:
    """Each image moved by up to a pixel, by itself."""
    padded = F.pad(images, (1, 1, 1, 1))
    down, right = torch.randint(3, (2, len(images), 1, 1))
    rows, columns = torch.arange(8)[:, None] + down, torch.arange(8) + right
    return padded[torch.arange(len(images))[:, None, None], rows, columns]


def fit(
    net: nn.Module,
    images: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    change: Callable[[Tensor], Tensor] = lambda images: images,
    *,
    steps: int,
    batch: int,
    rate: float,
    decay: float,
) -> nn.Module:
    """AdamW with a rate that falls to 0 as a half cosine, over shuffled epochs."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(len(images))])
        chosen, order = order[:batch], order[batch:]
        optimiser.zero_grad()
        loss(net(change(images[chosen])), chosen).backward()
        optimiser.step()
        schedule.step()
    return net


def soft_labels(path: Path, images: Tensor, labels: Tensor) -> Tensor:
    """The teacher's logits on the training images, of a teacher that is trained where there are none yet."""
    if not path.exists():
        torch.manual_seed(0)

        def hard(logits: Tensor, chosen: Tensor) -> Tensor:
            return F.cross_entropy(logits, labels[chosen])

        teacher = fit(mlp(*TEACHER), images, hard, shifted, **TAUGHT)
        with torch.no_grad():
            torch.save(teacher(images), path)
    return torch.load(path)


def student(images: Tensor, labels: Tensor, soft: Tensor, temperature: float, seed: int) -> nn.Module:
    """One run: hard labels and soft targets on its own transfer set."""
    torch.manual_seed(seed)
    own = torch.randperm(TRAIN)[:TRANSFER]
    images, labels, soft = images[own], labels[own], soft[own]

    def loss(logits: Tensor, chosen: Tensor) -> Tensor:
        hard = F.cross_entropy(logits, labels[chosen])
        taught = F.kl_div(
            F.log_softmax(logits / temperature, 1), F.softmax(soft[chosen] / temperature, 1), reduction='batchmean'
        )
        return HARD * hard + SOFT * temperature**2 * taught

    return fit(mlp(*STUDENT), images, loss, **LEARNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('file', type=Path)
    parser.add_argument('--runs', type=int, default=20)
    parser.add_argument('--only', type=int)
    given = parser.parse_args()
    temperatures, seeds = RUNS[given.runs]
    images, labels, test_images, test_labels = data()
    soft = soft_labels(given.file, images, labels)
    runs = [(temperature, seed) for temperature in temperatures for seed in range(seeds)]
    for temperature, seed in runs if given.only is None else [runs[given.only]]:
        net = student(images, labels, soft, temperature, seed)
        with torch.no_grad():
            accuracy = (net(test_images).argmax(1) == test_labels).float().mean()
        print(f'temperature {temperature}, seed {seed}: {100 * accuracy:.1f} %', flush=True)


if __name__ == '__main__':
    main()
