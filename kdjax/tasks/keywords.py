"""Keyword spotting: which of some words was spoken, classification of clips of audio."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from kdjax.dataset import Dataset
from kdjax.metrics import Metric
from kdjax.tasks.classification import Classification
from kdjax.tasks.speech import COSTS, check_clips, costs_by_second
from kdjax.types import Net, Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keywords(Classification):
    """Each clip has one of the words: logits (B, K), labels (B,); inputs are `data.audio.clips`.

    What is measured is classification's. Costs are by the second of audio: kB at int8, multiply-adds, milliseconds,
    and what the last layer before the mean over time reads of the frames about its own, and later than it.
    """

    def check(self, dataset: Dataset) -> None:
        check_clips(dataset, 'keywords')
        super().check(dataset)

    @property
    def cost_metrics(self) -> tuple[Metric, ...]:
        return COSTS

    def costs_in_use(
        self, net: Net, variables: Tree, example: Tree, flops: int, latency_ms: Mapping[str, float]
    ) -> dict[str, float]:
        return costs_by_second(net, variables, example, flops, latency_ms)

    def shown(self, dataset: Dataset, example: int) -> dict[str, Any]:
        """The loudness of a validation clip over time, 100 values in [0, 1], which is drawn as numbers are."""
        inputs = dataset.splits['validation'].inputs
        real = np.abs(inputs['audio'][example][: inputs['samples'][example]].astype(np.float32))
        parts = [part.max(initial=0) for part in np.array_split(real, 100)]
        return {'image': np.asarray(parts, np.float32) / max(*parts, 1)}
