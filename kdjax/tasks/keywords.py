"""Keyword spotting: which of some words was spoken, classification of clips of audio."""

import dataclasses
from typing import Any

import numpy as np

from kdjax.dataset import Dataset
from kdjax.tasks.classification import Classification
from kdjax.tasks.speech import SpeechTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keywords(SpeechTask, Classification):
    """Each clip has one of the words: logits (B, K), labels (B,); inputs are `data.audio.clips`.

    What is measured is classification's, and what it costs is of speech.
    """

    score: str = 'accuracy'  # as of classification

    def shown(self, dataset: Dataset, example: int) -> dict[str, Any]:
        """The loudness of a validation clip over time, 100 values in [0, 1], which is drawn as numbers are."""
        inputs = dataset.splits['validation'].inputs
        real = np.abs(inputs['audio'][example][: inputs['samples'][example]].astype(np.float32))
        parts = [part.max(initial=0) for part in np.array_split(real, 100)]
        return {'image': np.asarray(parts, np.float32) / max(*parts, 1)}
