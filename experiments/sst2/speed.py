"""A step of soft labels on sentences: ours beside a plain PyTorch loop of the same step, one student and eight.

Both train a transformer encoder of two layers (post-norm, dropout 0.1) on 32 sentences of 40 words with the teacher's
logits at hand: 0.3 cross-entropy + 0.7 T^2 KL, AdamW. The loop is as users write it. Rounds of both take turns, so that
drift of the machine meets both; what is shown are medians of the milliseconds of a step.

Command: python experiments/sst2/speed.py   (extra bench: PyTorch)
Cost:    about a minute on 2 CPU cores
"""

import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments import pages
from kdjax.cpu import allocator
from kdjax.nets import bag, transformer
from kdjax.techniques.cross_entropy import CrossEntropy
from kdjax.techniques.hinton import SoftTargets
from kdjax.train import grid, layout, ledger, optim, teachers
from kdjax.train.objective import Objective
from kdjax.train.step import init_state, init_student, train_step
from kdjax.types import Net

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / 'results' / 'speed.json', HERE / 'README.md'
BEGIN, END = '<!-- speed: written by experiments/sst2/speed.py -->', '<!-- end of speed -->'
WORDS, BATCH, LENGTH, CLASSES, CELLS = 3000, 32, 40, 2, 8
WIDTH, DEPTH, HEADS, INNER = 64, 2, 4, 128
CHUNK, ROUNDS, TEMPERATURE = 20, 9, 2.0
RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.integers(8, LENGTH + 1, BATCH)
TOKENS = np.where(np.arange(LENGTH) < LENGTHS[:, None], RANDOM.integers(2, WORDS, (BATCH, LENGTH)), 0).astype(np.int32)
LABELS = RANDOM.integers(0, CLASSES, BATCH).astype(np.int32)
TEACHER = RANDOM.normal(size=(BATCH, CLASSES)).astype(np.float32)
NETS: dict[str, Callable[[], Net]] = {
    'transformer': lambda: transformer.encoder(
        classes=CLASSES, vocabulary=WORDS, width=WIDTH, depth=DEPTH, heads=HEADS, inner=INNER, norm='post'
    ),
    'bag': lambda: bag.bag(classes=CLASSES, vocabulary=WORDS, width=24, hidden=32, dropout=0.3),
}


def ours(net: Net, cells: int) -> Callable[[], None]:
    """A function that trains `cells` students for CHUNK steps; several are a grid in one program."""
    parts = {
        'net': net, 'teacher': teachers.cached(), 'tx': optim.build(name='adamw', schedule='constant', steps=10**6),
        'objective': Objective((('hard', CrossEntropy()), ('soft', SoftTargets(temperature=TEMPERATURE)))),
    }  # fmt: skip
    one = {'learning_rate': 1e-3, 'weight_decay': 1e-2}
    knobs = {
        'terms': {'hard': {'weight': 0.3, 'smoothing': 0.0}, 'soft': {'weight': 0.7, 'temperature': TEMPERATURE}},
        'optim': {'student': one, 'terms': one},
    }  # fmt: skip
    knobs['terms'] = {name: {**term.knobs(), **knobs['terms'][name]} for name, term in parts['objective'].terms}
    knobs = jax.tree.map(lambda value: jnp.full((cells,), value, jnp.float32), knobs)
    knobs['seed'] = jnp.arange(cells, dtype=jnp.uint32)
    batch = {
        'inputs': TOKENS, 'labels': LABELS, 'mask': np.ones(BATCH, np.float32), 'id': np.arange(BATCH, dtype=np.int32),
        'view': np.zeros(BATCH, np.int32), 'token_mask': (TOKENS > 0).astype(np.float32), 'teacher/logits': TEACHER,
    }  # fmt: skip
    students = jax.vmap(functools.partial(init_student, inputs=TOKENS[:1], net=net))(knobs['seed'])
    state = jax.vmap(lambda k, s: init_state(k, {}, batch, s, **parts))(knobs, students)
    batches = jax.device_put(jax.tree.map(lambda leaf: np.broadcast_to(leaf, (CHUNK, *leaf.shape)), batch))
    step = grid.gridded(functools.partial(train_step, **parts), 'vmap', own_batches=False, many=True)
    run, held = jax.jit(step, donate_argnums=0), [layout.copied(state)]

    def train() -> None:
        held[0], logs = run(held[0], {}, batches, knobs)
        jax.block_until_ready(logs)

    return train


def theirs(name: str) -> Callable[[], None]:
    """A function that trains one student for CHUNK steps with PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.drop = nn.Embedding(WORDS, 24), nn.Dropout(0.3)
            self.hidden, self.head = nn.Linear(48, 32), nn.Linear(32, CLASSES)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            real = (tokens > 0)[..., None]
            x = self.words(tokens)
            mean = (x * real).sum(1) / real.sum(1).clamp(min=1)
            most = x.masked_fill(~real, -1e9).max(1).values
            x = functional.relu(self.hidden(self.drop(torch.cat([mean, most], 1))))
            return self.head(self.drop(x))

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            layer = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, 0.1, 'gelu', batch_first=True)
            self.layers, self.head = nn.TransformerEncoder(layer, DEPTH), nn.Linear(WIDTH, CLASSES)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            real = (tokens > 0)[..., None]
            x = self.words(tokens) + self.places.weight[: tokens.shape[1]]
            x = self.layers(x, src_key_padding_mask=tokens == 0)
            return self.head((x * real).sum(1) / real.sum(1).clamp(min=1))

    net = Encoder() if name == 'transformer' else Bag()
    tokens, labels, said = torch.tensor(TOKENS).long(), torch.tensor(LABELS).long(), torch.tensor(TEACHER)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)

    def train() -> None:
        net.train()
        for _ in range(CHUNK):
            logits = net(tokens)
            soft = functional.kl_div(
                functional.log_softmax(logits / TEMPERATURE, 1), functional.softmax(said / TEMPERATURE, 1),
                reduction='batchmean',
            )  # fmt: skip
            loss = 0.3 * functional.cross_entropy(logits, labels) + 0.7 * TEMPERATURE**2 * soft
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return train


def measured(name: str) -> dict[str, float]:
    """Milliseconds of a step of one student: of ours alone, of ours in a grid of CELLS, and of the loop."""
    contenders = {'one': ours(NETS[name](), 1), 'grid': ours(NETS[name](), CELLS), 'loop': theirs(name)}
    seconds: dict[str, list[float]] = {what: [] for what in contenders}
    for turn in range(ROUNDS + 2):  # the first two compile and warm up
        for what, train in contenders.items():
            start = time.perf_counter()
            train()
            if turn > 1:
                seconds[what].append(time.perf_counter() - start)
    each = {what: 1e3 * statistics.median(of) / CHUNK for what, of in seconds.items()}
    each['grid'] /= CELLS
    return {**each, 'one against loop': each['loop'] / each['one'], 'grid against loop': each['loop'] / each['grid']}


def table(found: dict) -> str:
    """The Markdown of the page, from what speed.json holds."""
    heads = ('network', 'ours, one', 'ours, of eight', 'PyTorch loop', 'one against loop', 'of eight against loop')
    lines = [f'| {" | ".join(heads)} |', f'| --- |{" ---: |" * (len(heads) - 1)}']
    lines += [
        f'| {name} | {row["one"]:.3g} | {row["grid"]:.3g} | {row["loop"]:.3g} | {row["one against loop"]:.1f} | '
        f'{row["grid against loop"]:.1f} |'
        for name, row in found['milliseconds'].items()
    ]
    made = (
        f'{found["machine"]["processor"]}, {found["machine"]["cores"]} cores; JAX {found["versions"]["jax"]}, PyTorch '
    )
    return '\n'.join(lines) + f'\n\n{made}{found["versions"]["torch"]}.'


def main() -> None:
    """Measures every network, and writes the page with the numbers and what they were made by."""
    import torch

    made = {'versions': {**ledger.versions(), 'torch': torch.__version__}, 'machine': ledger.machine()}
    found = ledger.plain({'milliseconds': {name: measured(name) for name in NETS}, **made})
    RESULTS.write_text(json.dumps(found, indent=1) + '\n')
    PAGE.write_text(pages.filled(PAGE.read_text(), BEGIN, table(found), END))


if __name__ == '__main__':
    import os

    allocator.keep_buffers(os.environ)
    main()
