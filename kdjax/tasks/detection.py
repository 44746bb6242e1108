"""Object detection: where things are in a picture, as boxes, and what each of them is.

A picture has boxes (M, 4), x0, y0, x1, y1 in [0, 1], and as many labels: a box without area is padding, and a picture
of which no label is known, all of them -1, is one that nobody looked at. Detectors answer for the cells of their maps,
one map after the other (`boxes.cells`): logits (B, M, K), and what they find as the tap 'boxes' (B, M, 4) in [0, 1].
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import boxes as geometry
from kdjax.dataset import Dataset, Split
from kdjax.errors import UsageError, unknown
from kdjax.metrics import Metric, mean
from kdjax.tasks import average_precision
from kdjax.tasks.average_precision import AREAS, Cut
from kdjax.tasks.base import Task
from kdjax.tasks.centres import centres
from kdjax.tasks.targets import objects, targets
from kdjax.types import Array, Batch, Net, Outputs, Tree

ASSIGNMENTS = ('centre', 'atss')
OVERALL = {
    'ap': (Metric('ap', 'average precision', '%', short='AP'), Cut()),
    'ap50': (Metric('ap50', 'average precision at IoU 0.5', '%', short='AP50'), Cut(slice(0, 1))),
    'ap75': (Metric('ap75', 'average precision at IoU 0.75', '%', short='AP75'), Cut(slice(5, 6))),
}
BY_AREA = {
    f'ap_{area}': (Metric(f'ap_{area}', f'average precision of {area} objects', '%', short=f'AP {area}'), Cut(area=k))
    for k, area in enumerate(AREAS) if k
}  # fmt: skip
OVERLAP = Metric('overlap', 'best IoU of an object with a box of its class', '%', short='IoU')
AGREEMENT = Metric('agreement', "the teacher's surer boxes that are found too", '%', short='agrees')
COSTS = (
    Metric('gmac', 'multiply-adds of a picture', 'G', 'lower', 3, 'GMAC'),
    Metric('ms_per_image', 'time of a picture', 'ms', 'lower', 2, 'ms'),
    Metric('ms_without_nms', 'time of a picture without suppression', 'ms', 'lower', 2, 'ms without NMS'),
)
SURE = 0.5  # score of a teacher's box that a student should find, and IoU with which it does
SHOWN = 0.3  # score of boxes that a report shows
ROUNDS = 20  # of a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection(Task):
    """Boxes of objects: labels (B, N), 'boxes' (B, N, 4) and, of the originals, 'size' (B, 2).

    Average precision is COCO's, by pycocotools, in pixels of the originals; beside it by class, at IoU 0.5, and by the
    size of objects. What each picture adds to the score are its right and wrong boxes in 100 bins of their score, from
    which paired tests draw.

    Attributes:
      classes: names of the classes of the data, here because metrics are known before the data are.
      strides: of the maps that every network answers for, pixels.
      bins: of the distributions over distances from a cell to the edges of its box: 0 to bins - 1 strides.
      assign: which cells should find an object: 'centre' or 'atss', see `targets`.
      radius: of 'centre', strides.
      anchor: side of a cell's anchor, strides: for 'atss' and the valuable region.
      valuable: how far the valuable region reaches, in (0, 1]; 0 for none: batch['anchor_valuable'].
      suppress: IoU from which on the worse of two boxes of a class is dropped.
      least: score that a box must have.
      considered: boxes of the highest scores that are looked at.
      kept: boxes of a picture at most.
    """

    classes: tuple[str, ...]
    score: str = 'ap50'
    strides: tuple[int, ...] = (8,)
    bins: int = 12
    assign: str = 'centre'
    radius: float = 1.5
    anchor: float = 4.0
    valuable: float = 0.0
    suppress: float = 0.6
    least: float = 0.02
    considered: int = 200
    kept: int = 100

    def __post_init__(self) -> None:
        for name in ('classes', 'strides'):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a config may have a list
        super().__post_init__()
        if self.assign not in ASSIGNMENTS:
            raise unknown('assign', self.assign, ASSIGNMENTS, ' of Detection')
        if not self.classes or not self.strides or min(self.strides) < 1 or list(self.strides) != sorted(self.strides):
            raise UsageError(f'Detection needs classes, and strides >= 1 in ascending order, got {self.classes} and '
                             f'{self.strides}')  # fmt: skip
        for name, least, most in (
            ('bins', 2, np.inf), ('kept', 1, average_precision.MOST), ('considered', self.kept, np.inf),
            ('radius', 0, np.inf), ('anchor', 1e-3, np.inf), ('valuable', 0, 1), ('suppress', 0, 1), ('least', 0, 1),
        ):  # fmt: skip
            if not least <= getattr(self, name) <= most:
                raise UsageError(f'{name} of Detection must be in {least:g} to {most:g}, got {getattr(self, name)}')

    @property
    def cuts(self) -> dict[str, tuple[Metric, Cut]]:
        """Metrics that are average precisions, and of what."""
        by_class = {
            f'ap50_{name}': (
                Metric(f'ap50_{name}', f'average precision of {name} at IoU 0.5', '%', short=f'AP50 {name}'),
                Cut(slice(0, 1), classes=slice(k, k + 1)),
            )
            for k, name in enumerate(self.classes)
        }
        return {**OVERALL, **by_class, **BY_AREA}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        first = [metric for metric, _ in self.cuts.values()]
        return (*first[: 3 + len(self.classes)], OVERLAP, AGREEMENT, *first[3 + len(self.classes) :])

    def check(self, dataset: Dataset) -> None:
        average_precision.check()  # rather than after training
        if dataset.classes != self.classes:
            raise UsageError(f'task.classes must be the classes of the data, {dataset.classes}, got {self.classes}')
        for name, split in dataset.splits.items():
            boxes, size = split.column('boxes'), split.column('size')
            labels, inputs = split.column('labels'), split.inputs
            if labels.ndim != 2 or boxes.shape != (*labels.shape, 4) or size.shape != (split.size, 2):
                raise UsageError(f"detection needs labels (N, M), 'boxes' (N, M, 4) and 'size' (N, 2), split {name!r} "
                                 f'has {labels.shape}, {boxes.shape} and {size.shape}')  # fmt: skip
            if not np.issubdtype(labels.dtype, np.integer) or not hasattr(inputs, 'ndim') or inputs.ndim != 4:
                raise UsageError(f'detection needs integer labels and pictures (N, H, W, C), split {name!r} has '
                                 f'{labels.dtype} and {getattr(inputs, "shape", "several columns")}')  # fmt: skip
            whole = np.asarray(boxes)
            if not np.isfinite(whole).all() or whole.min() < 0 or whole.max() > 1:
                raise UsageError(f'boxes of split {name!r} must be in [0, 1], got {whole.min():g} to {whole.max():g}')

    def net_arguments(self, dataset: Dataset) -> dict[str, Any]:
        return {'classes': len(self.classes), 'strides': self.strides}

    def net_offers(self, dataset: Dataset) -> dict[str, Any]:
        return {'bins': self.bins}

    # ---- what is asked

    def prepare(self, batch: Batch) -> Batch:
        """Targets of every cell: 'anchor_class' (B, M), -1 of the background, 'anchor_edges' (B, M, 4), distances in
        strides, 'anchor_mask' (B, M), 1 of those with an object, and 'anchor_valuable'. For networks that look for
        centres on a single map 'centre_heat' (B, M, K), 'centre_class' (B, M), 'centre_size' and 'centre_offset'
        (B, M, 2), see `centres`. Boxes of which no label is known, or that have no area, become 0."""
        if 'boxes' not in batch or 'labels' not in batch:
            return batch
        height, width = batch['inputs'].shape[1:3]
        boxes, labels = batch['boxes'], batch['labels']
        seen = objects(boxes, labels, height, width)
        cells = geometry.cells(height, width, self.strides)
        found = targets(seen, cells, self.bins, self.assign, self.radius, self.anchor, self.valuable)
        more = {'anchor_valuable': found.valuable} if self.valuable else {}
        if len(self.strides) == 1:  # what no term reads is not computed
            point = centres(seen, cells, len(self.classes))
            more |= {'centre_heat': point.heat, 'centre_class': point.classes, 'centre_size': point.sizes,
                     'centre_offset': point.offsets}  # fmt: skip
        return {
            **batch,
            **more,
            'boxes': jnp.where(seen.real[..., None], boxes, 0),
            'anchor_class': found.classes,
            'anchor_edges': found.edges,
            'anchor_mask': (found.classes >= 0).astype(boxes.dtype),
        }

    # ---- what is found

    def detections(self, outputs: Outputs) -> Array:
        """Boxes best first: x0, y0, x1, y1, score and class; -1 as class where there are no more. (B, kept, 6)

        A network with the tap 'peaks' (B, M, K) says itself where an object is, 1, and where not; of others' boxes
        those that overlap with a better one are dropped.
        """
        if 'boxes' not in outputs.features:
            raise UsageError(f"detection needs a network with the tap 'boxes', this one has: "
                             f'{", ".join(sorted(outputs.features))}')  # fmt: skip
        scores_BMK = jax.nn.sigmoid(outputs.logits.astype(jnp.float32))
        scores_BMK = jnp.where(scores_BMK >= self.least, scores_BMK, -jnp.inf)  # nan is none either
        peaks = outputs.features.get('peaks')
        if peaks is not None:
            scores_BMK = jnp.where(peaks > 0, scores_BMK, -jnp.inf)
        best = functools.partial(self._best, suppressed=peaks is None)
        return jax.vmap(best)(outputs.features['boxes'].astype(jnp.float32), scores_BMK)

    def _best(self, boxes_M4: Array, scores_MK: Array, suppressed: bool) -> Array:
        classes = scores_MK.shape[1]
        best, place = jax.lax.top_k(scores_MK.reshape(-1), min(self.considered, scores_MK.size))
        boxes, labels = boxes_M4[place // classes], place % classes
        count = min(self.kept, len(best))
        chosen, valid = jnp.arange(count), jnp.isfinite(best[:count])
        if suppressed:
            chosen, valid = geometry.nms(boxes, best, self.suppress, count, labels)
        rows = jnp.concatenate(
            [boxes[chosen], best[chosen][:, None], labels[chosen][:, None].astype(boxes.dtype)], axis=1
        )
        nothing = jnp.asarray([0, 0, 0, 0, 0, -1], boxes.dtype)
        rows = jnp.where(valid[:, None], rows, nothing)
        return jnp.concatenate([rows, jnp.tile(nothing, (self.kept - len(rows), 1))])

    def predict(self, outputs: Outputs, batch: Batch) -> Tree:
        """'boxes' (B, kept, 4) in [0, 1], 'scores' (B, kept) and 'classes' (B, kept), -1 where there is no box."""
        found = self.detections(outputs)
        return {'boxes': found[..., :4], 'scores': found[..., 4], 'classes': found[..., 5].astype(jnp.int32)}

    def answer(self, outputs: Outputs, batch: Batch) -> Array:
        return self.detections(outputs)

    def served(self, outputs: Outputs) -> Array:
        return self.detections(outputs)

    # ---- what is measured

    def sums(self, outputs: Outputs, batch: Batch, teacher_logits: Array | None = None) -> dict[str, Any]:
        """Meters of 'overlap', over objects, and against a teacher's boxes (B, kept, 6) of 'agreement'."""
        found = self.detections(outputs)
        known = (batch['labels'] >= 0) & (geometry.area(batch['boxes']) > 0) & (batch['mask'][:, None] > 0)
        overlap = _best(found, batch['boxes'], batch['labels'])
        meters = {'overlap': mean(overlap, known.astype(overlap.dtype))}
        if teacher_logits is None:
            return meters
        sure = (teacher_logits[..., 4] >= SURE) & (batch['mask'][:, None] > 0)
        met = _best(found, teacher_logits[..., :4], teacher_logits[..., 5]) >= SURE
        return {**meters, 'agreement': mean(met.astype(overlap.dtype), sure.astype(overlap.dtype))}

    def measure(self, predictions: Tree, split: Split) -> dict[str, float]:
        evaluation = average_precision.evaluated(predictions, split, self.classes)
        return {name: average_precision.average(evaluation, cut) for name, (_, cut) in self.cuts.items()}

    @property
    def has_statistics(self) -> bool:
        return self.score in self.cuts

    def statistics(self, predictions: Tree, split: Split) -> np.ndarray:
        """Counts of right and wrong boxes by their score, `average_precision.counts`."""
        evaluation = average_precision.evaluated(predictions, split, self.classes)
        return average_precision.counts(evaluation, self.cuts[self.score][1])

    def score_of(self, sums: np.ndarray) -> np.ndarray:
        classes = len(range(len(self.classes))[self.cuts[self.score][1].classes])
        return average_precision.of_counts(sums, classes)

    def balance(self, dataset: Dataset) -> dict[str, int]:
        """Objects in training."""
        labels = np.asarray(dataset.splits['train'].labels)
        counts = np.bincount(labels[labels >= 0], minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    # ---- what is shown, and what it costs

    def exhibit(self, dataset: Dataset, outputs: np.ndarray) -> Mapping[str, Any] | None:
        return _exhibited(dataset.splits['validation'], self.classes, {'teacher': outputs})

    def exhibit_together(self, dataset: Dataset, outputs: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        return _exhibited(dataset.splits['test'], self.classes, outputs)

    @property
    def cost_metrics(self) -> tuple[Metric, ...]:
        return COSTS

    def costs_in_use(
        self, net: Net, variables: Tree, example: Tree, flops: int, latency_ms: Mapping[str, float]
    ) -> dict[str, float]:
        """A multiply-add counts as two of the operations; those of suppression are among them."""
        return {
            'gmac': flops / 2e9,
            'ms_per_image': latency_ms['1'],
            'ms_without_nms': _milliseconds(net, variables, example),
        }


def _exhibited(split: Split, classes: Sequence[str], outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The picture with most classes, of those the one with the fewest objects; true boxes, and those found by each."""
    labels = np.asarray(split.labels)
    kinds = [len(np.unique(row[row >= 0])) for row in labels]
    example = min(range(len(labels)), key=lambda row: (-kinds[row], np.sum(labels[row] >= 0)))
    real = labels[example] >= 0
    sure = {name: of[example][of[example][:, 4] >= SHOWN] for name, of in outputs.items()}
    return {
        'kind': 'boxes',
        'image': np.asarray(split.inputs[example]).tolist(),
        'class_names': list(classes),
        'boxes': np.asarray(split.column('boxes'))[example][real].tolist(),
        'labels': labels[example][real].tolist(),
        'found': {
            name: {
                'boxes': found[:, :4].tolist(),
                'scores': found[:, 4].tolist(),
                'classes': found[:, 5].astype(int).tolist(),
            }
            for name, found in sure.items()
        },
    }


def _best(found: Array, boxes: Array, labels: Array) -> Array:
    """Of boxes (B, N, 4) the highest IoU with one of `found` (B, D, 6) that has the same label (B, N). (B, N)"""
    same = labels[:, :, None].astype(found.dtype) == found[:, None, :, 5]
    return jnp.max(jnp.where(same, geometry.pairwise_iou(boxes, found[..., :4]), 0), axis=2)


def _milliseconds(net: Net, variables: Tree, example: Tree) -> float:
    """Median time of the forward pass of one picture, host to host."""
    forward = jax.jit(lambda variables, inputs: _shown(net.apply(variables, inputs, train=False, key=None)[0]))
    given = jax.device_put((variables, np.asarray(example)[None]))
    jax.device_get(forward(*given))
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        jax.device_get(forward(*given))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3


def _shown(outputs: Outputs) -> tuple[Array, Array]:
    return outputs.logits, outputs.features['boxes']
