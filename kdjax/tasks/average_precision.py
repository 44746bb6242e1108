"""Average precision of boxes as COCO has it, by pycocotools, and what of it adds up over images."""

import contextlib
import functools
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from kdjax import trees
from kdjax.dataset import Split
from kdjax.errors import UsageError

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of IoU
RECALLS = np.linspace(0, 1, 101)
AREAS = ('all', 'small', 'medium', 'large')  # COCO's: 32 and 96 pixels squared are the borders
BINS = 100  # of scores in [0, 1]
MOST = 100  # boxes of an image that count, the best


class Cut(NamedTuple):
    """What of an evaluation a metric is of."""

    thresholds: slice = slice(None)  # of IoU
    area: int = 0  # of AREAS
    classes: slice = slice(None)


def check() -> None:
    """Raises UsageError where pycocotools is not installed."""
    if find_spec('pycocotools') is None:
        raise UsageError(
            "average precision needs pycocotools, of the extra 'detection': pip install 'kdjax[detection]'"
        )


class _Asked(NamedTuple):
    """An evaluation, known by a hash of all that it reads."""

    found: Mapping[str, np.ndarray]
    split: Split
    classes: Sequence[str]
    key: str

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and self.key == other.key


def evaluated(found: Mapping[str, np.ndarray], split: Split, classes: Sequence[str]) -> Any:
    """pycocotools' evaluation, after `evaluate` and `accumulate`, in pixels of the originals.

    The last few are remembered: metrics and statistics are of one evaluation, which takes a second.

    Args:
      found: 'boxes' (N, D, 4) in [0, 1], 'scores' (N, D), 'classes' (N, D), -1 where there is no box.
      split: its 'boxes' and 'labels', and 'size' (N, 2), width and height of the originals.
      classes: their names.

    Raises:
      UsageError: pycocotools is not installed.
    """
    check()
    read = {'found': dict(found), 'labels': split.labels, 'boxes': split.column('boxes'), 'size': split.column('size')}
    return _evaluated(_Asked(found, split, classes, f'{trees.fingerprint(read)} {tuple(classes)}'))


@functools.lru_cache(maxsize=16)
def _evaluated(asked: _Asked) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found, split, classes, _ = asked
    with contextlib.redirect_stdout(io.StringIO()):  # which it writes to
        truth = COCO()
        truth.dataset = {
            'images': [{'id': number} for number in range(1, split.size + 1)],
            'categories': [{'id': number, 'name': name} for number, name in enumerate(classes, start=1)],
            'annotations': _annotations(split),
        }
        truth.createIndex()
        rows = _rows(found, split)
        answers = truth.loadRes(rows) if len(rows) else _nothing(COCO, truth)
        evaluation = COCOeval(truth, answers, 'bbox')
        evaluation.params.iouThrs, evaluation.params.recThrs = THRESHOLDS, RECALLS
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _nothing(kind: Any, truth: Any) -> Any:
    """Answers of which there is none."""
    answers = kind()
    answers.dataset = {**truth.dataset, 'annotations': []}
    answers.createIndex()
    return answers


def _pixels(boxes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """x, y, width and height of boxes (N, D, 4)."""
    pixels = np.asarray(boxes, np.float64) * np.tile(size, 2)[:, None]
    return np.concatenate([pixels[..., :2], pixels[..., 2:] - pixels[..., :2]], axis=-1)


def _annotations(split: Split) -> list[dict[str, Any]]:
    labels = np.asarray(split.labels)
    boxes = _pixels(np.asarray(split.column('boxes')), np.asarray(split.column('size')))
    real = (labels >= 0) & (boxes[..., 2:].min(axis=-1) > 0)
    return [
        {'id': number, 'image_id': int(image) + 1, 'category_id': int(labels[image, place]) + 1, 'iscrowd': 0,
         'bbox': boxes[image, place].tolist(), 'area': float(boxes[image, place, 2:].prod())}
        for number, (image, place) in enumerate(np.argwhere(real), start=1)
    ]  # fmt: skip


def _rows(found: Mapping[str, np.ndarray], split: Split) -> np.ndarray:
    """Image, box, score and category of each answer, (R, 7)."""
    boxes = _pixels(found['boxes'], np.asarray(split.column('size')))
    classes = np.asarray(found['classes'])
    images = np.broadcast_to(np.arange(1, len(classes) + 1)[:, None], classes.shape)
    columns = (images[..., None], boxes, np.asarray(found['scores'])[..., None], classes[..., None] + 1)
    return np.concatenate([np.asarray(column, np.float64) for column in columns], axis=-1)[classes >= 0]


def average(evaluation: Any, cut: Cut) -> float:
    """The mean precision of what is cut out, over recalls and whatever has objects; nan where nothing has."""
    thresholds, area, classes = cut
    precision = evaluation.eval['precision'][thresholds, :, classes, area, 0]
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float('nan')


def counts(evaluation: Any, cut: Cut) -> np.ndarray:
    """What each image adds to an average precision, (N, K (2 T BINS + 1)) float32.

    Of each class how many objects there are and, for each threshold, how many right and how many wrong boxes by their
    score, in BINS equal bins.
    """
    thresholds, area, classes = cut
    params = evaluation.params
    categories = range(len(params.catIds))[classes]
    chosen = np.arange(len(THRESHOLDS))[thresholds]
    images = len(params.imgIds)
    result = np.zeros((images, len(categories), 2 * len(chosen) * BINS + 1), np.float32)
    for row, category in enumerate(categories):
        start = (category * len(params.areaRng) + area) * images
        for image, found in enumerate(evaluation.evalImgs[start : start + images]):
            if found is None:
                continue
            place = np.clip((np.asarray(found['dtScores']) * BINS).astype(int), 0, BINS - 1)
            for number, threshold in enumerate(chosen):
                counted = ~np.asarray(found['dtIgnore'][threshold], bool)
                right = np.asarray(found['dtMatches'][threshold]) > 0
                for side, of_side in enumerate((right, ~right)):
                    begin = (2 * number + side) * BINS
                    own = np.bincount(place[counted & of_side], minlength=BINS)
                    result[image, row, begin : begin + BINS] = own
            result[image, row, -1] = np.sum(~np.asarray(found['gtIgnore'], bool))
    return result.reshape(images, -1)


def of_counts(sums: np.ndarray, classes: int) -> np.ndarray:
    """The average precision of sums of `counts` (..., S): boxes whose scores are in one bin come together. (...)"""
    parts = np.asarray(sums, np.float64).reshape(*sums.shape[:-1], classes, -1)
    objects = parts[..., -1]
    right, wrong = np.moveaxis(parts[..., :-1].reshape(*objects.shape, -1, 2, BINS)[..., ::-1].cumsum(axis=-1), -2, 0)
    there = objects[..., None, None] > 0
    recall = right / np.where(there, objects[..., None, None], 1)
    precision = right / np.maximum(right + wrong, 1)
    best = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]  # at this recall or more
    total = np.zeros(right.shape[:-1])
    for wanted in RECALLS:
        reached = recall >= wanted - 1e-12
        first = np.argmax(reached, axis=-1)[..., None]
        total += np.where(reached.any(axis=-1), np.take_along_axis(best, first, axis=-1)[..., 0], 0)
    of_classes = np.where(objects > 0, (total / len(RECALLS)).mean(axis=-1), 0)
    known = (objects > 0).sum(axis=-1)
    return np.where(known > 0, of_classes.sum(axis=-1) / np.maximum(known, 1), np.nan)
