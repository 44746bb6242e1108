"""Whether an accelerator computes what a CPU computes: networks forward and back, and a step of every layout of a grid.

Command: python experiments/accelerator/devices.py [--out results/devices.json] [--tiny]

Everything starts from the same numbers on both. Differences are the largest one of an array relative to its largest
number, of the outputs and of all gradients, in float32 with the products that the device is exact in, and in bfloat16.
On a machine without an accelerator the CPU is held against itself.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments.speed import cases, kdjax_loop
from kdjax.resolve import construct
from kdjax.train import ledger
from kdjax.types import Tree

BATCH, CLASSES = 16, 10
BOUNDS = {'float32': 1e-3, 'bfloat16': 0.2}
IMAGES: dict[str, tuple[Mapping[str, Any], tuple[int, ...]]] = {  # network -> arguments, shape of an example
    'resnet_cifar.resnet': ({'depth': 20}, (32, 32, 3)),
    'wide_resnet.wrn': ({'depth': 16, 'widen': 2}, (32, 32, 3)),
    'mobilenetv2.mobilenetv2': ({'width': 0.5}, (32, 32, 3)),
    'shufflenet.shufflenetv2': ({'size': 1.0}, (32, 32, 3)),
    'vgg.vgg': ({'depth': 8}, (32, 32, 3)),
    'vit.vit': ({}, (32, 32, 3)),
    'mlp.mlp': ({'widths': (256, 256)}, (28, 28)),
}
STEP = 'resnet56-resnet20:kd:4'  # of experiments/speed


def difference(found: Tree, wanted: Tree) -> float:
    """The largest one of all arrays, each relative to its largest number."""

    def one(a: Any, b: Any) -> float:
        a, b = (np.asarray(value, np.float64) for value in (a, b))
        return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6))

    return max(jax.tree.leaves(jax.tree.map(one, found, wanted)))


def passed(name: str, precision: str) -> Callable[[Any], Any]:
    """A function of a device: outputs and gradients of a network on fixed inputs there."""
    arguments, shape = IMAGES[name]
    net = construct('kdjax.nets', name, {**arguments, 'classes': CLASSES, 'precision': precision}, 'network')
    random = np.random.default_rng(0)
    inputs = random.normal(size=(BATCH, *shape)).astype(np.float32)
    labels = random.integers(CLASSES, size=BATCH)
    with jax.default_device(jax.devices('cpu')[0]):
        begun = jax.device_get(jax.jit(net.init)(jax.random.key(1), inputs))

    def loss(params: Tree) -> tuple[jax.Array, jax.Array]:
        # As in evaluation: what is dropped, or cut by a batch of 16, would hide what is computed.
        logits = net.apply({**begun, 'params': params}, inputs, train=False, key=None)[0].logits
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits.astype(jnp.float32)), labels[:, None], axis=1)
        return -chosen.mean(), logits

    def run(device: Any) -> Any:
        with jax.default_device(device), jax.default_matmul_precision('highest'):
            (_, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(begun['params'])
            return jax.device_get((logits, grads))

    return run


def stepped(variant: str, steps: int) -> Callable[[Any], Any]:
    """A function of a device: the losses of some steps of four students there, laid out in this way."""
    case = next(case for case in (*cases.cases(), *cases.accelerated()) if case.name == STEP)

    def run(device: Any) -> Any:
        with jax.default_device(device), jax.default_matmul_precision('highest'):
            return np.asarray(kdjax_loop.build(case, variant).round(steps))

    return run


def compared(what: str, precision: str, found: Any, wanted: Any) -> dict[str, Any]:
    """One row of the results, which is also printed."""
    apart = difference(found, wanted)
    row = {'what': what, 'precision': precision, 'difference': apart, 'bound': BOUNDS[precision],
           'holds': bool(apart <= BOUNDS[precision])}  # fmt: skip
    print(f'{what:28} {precision:10} {apart:.1e}  {"holds" if row["holds"] else "DOES NOT HOLD"}', flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--out', type=Path, default=HERE / 'results' / 'devices.json')
    parser.add_argument('--tiny', action='store_true', help='one network and no step')
    given = parser.parse_args()
    device, cpu = jax.devices()[0], jax.devices('cpu')[0]
    rows = []
    for name in ('mlp.mlp',) if given.tiny else IMAGES:
        wanted = passed(name, 'float32')(cpu)
        rows += [compared(name, precision, passed(name, precision)(device), wanted) for precision in BOUNDS]
    if not given.tiny:
        wanted = stepped('map', 3)(cpu)
        rows += [compared(f'a step, {name}', 'float32', stepped(name, 3)(device), wanted) for name in cases.LAYOUTS]
        rows.append(compared('a step', 'bfloat16', stepped('bfloat16 vmap', 3)(device), wanted))
    result = {'device': device.device_kind, 'versions': ledger.versions(), 'machine': ledger.machine(), 'rows': rows}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    ledger.replace(given.out, json.dumps(ledger.plain(result), indent=1) + '\n')
    sys.exit(0 if all(row['holds'] for row in rows) else 1)


if __name__ == '__main__':
    main()
