"""What stages share: the config, the data, what earlier stages left, and how all of these are called."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from kdjax import trees
from kdjax.data.augment import identity
from kdjax.data.base import Dataset
from kdjax.jit_cache import compiled
from kdjax.study.recipe import build
from kdjax.tasks.classification import Evaluate, evaluator
from kdjax.train import cache, loop, teachers
from kdjax.train.checkpoint import load_variables
from kdjax.train.screen import Screen
from kdjax.types import Net, Tree

ARTIFACT = 'artifact.json'  # written last: a stage that has one is done
METRICS = ('accuracy', 'nll', 'ece', 'agreement', 'kl')


@dataclasses.dataclass(frozen=True)
class Artifact:
    """What a finished stage left: a folder, and what its artifact.json says."""

    folder: Path
    result: Mapping[str, Any]
    seconds: float


@dataclasses.dataclass
class Context:
    """What every stage may use."""

    config: ConfigDict
    screen: Screen
    stop: loop.StopSignals
    done: dict[str, Artifact] = dataclasses.field(default_factory=dict)
    datasets: 'Datasets' = dataclasses.field(default_factory=lambda: Datasets())

    @property
    def dataset(self) -> Dataset:
        """The data set, loaded when first needed: a finished run never needs it."""
        return self.datasets(self.config)

    @property
    def data_checksum(self) -> str:
        """Of the data set."""
        return self.datasets.checksum(self.config)

    def net(self, spec: ConfigDict) -> Net:
        """A network for this data set."""
        return build.net(spec, len(self.dataset.classes), self.config.run)

    def teaching_net(self, name: str) -> Net:
        """A network while it teaches, in the precision that it has for that."""
        spec = build.teachers(self.config)[name]
        return build.teaching_net(self.config, spec, len(self.dataset.classes), spec.precision)

    def teacher_net(self, name: str = 'teacher') -> Net:
        """A network that teaches, as it was trained and is measured."""
        return build.teaching_net(self.config, build.teachers(self.config)[name], len(self.dataset.classes))

    def evaluator(self, net: Net, split: str, teacher_logits: np.ndarray | None = None) -> Evaluate:
        """Metrics of a network on a split of this data set."""
        inputs, labels = self.dataset.splits[split]
        seen, stream = build.preprocess(self.config), self.config.data.stream
        return evaluator(net, inputs, labels, teacher_logits, preprocess=seen, stream=stream)

    def logits(self, net: Net, variables: Tree, split: str) -> np.ndarray:
        """A network's logits (N, K) on a split."""
        inputs, seen = self.dataset.splits[split].inputs, build.preprocess(self.config)
        found = cache.compute(teachers.frozen(net), variables, inputs, identity(), 0, 1, preprocess=seen)
        return found[teachers.PREFIX + 'logits'][:, 0]

    def example(self) -> np.ndarray:
        """One example as networks see it."""
        return np.asarray(compiled(build.preprocess(self.config))(self.dataset.splits['test'].inputs[0]))


class Datasets:
    """The data sets of configs, each loaded and hashed once."""

    def __init__(self) -> None:
        self._loaded: dict[str, Dataset] = {}
        self._checksums: dict[str, str] = {}

    def __call__(self, config: ConfigDict) -> Dataset:
        """The data set that a config names."""
        name = _source(config)
        if name not in self._loaded:
            self._loaded[name] = build.dataset(config)
        return self._loaded[name]

    def checksum(self, config: ConfigDict) -> str:
        """Hash of the data set that a config names."""
        name = _source(config)
        if name not in self._checksums:
            self._checksums[name] = self(config).checksum()
        return self._checksums[name]


def _source(config: ConfigDict) -> str:
    return trees.digest(plain_config([config.data.source, config.data.args]))


def stage_name(chain: Sequence[str]) -> str:
    """Name of the stage that ends a chain of fits."""
    return '+'.join(chain)


def plain_config(value: Any) -> Any:
    """Part of a config as plain, hashable JSON."""
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(name): plain_config(inner) for name, inner in value.items()}
    return [plain_config(inner) for inner in value] if isinstance(value, tuple | list) else value


def cache_stage(teacher: str) -> str:
    """Name of the stage that computes the outputs of a teacher."""
    return 'cache' if teacher == 'teacher' else f'cache_{teacher}'


def teacher_variables(context: Context, name: str = 'teacher') -> Tree:
    return load_variables(context.done[name].folder / 'variables')


def number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
