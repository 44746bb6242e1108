"""What stages share beside their inputs: data sets, what earlier stages left, the console, how all is executed."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import trees
from kdjax.data.augment import identity
from kdjax.dataset import Dataset
from kdjax.jit_cache import compiled
from kdjax.study.recipe import build
from kdjax.study.recipe.inputs import Inputs, Teacher, plain
from kdjax.study.recipe.recipe import DataSource, Execution, NetSpec
from kdjax.tasks.classification import Evaluate, evaluator
from kdjax.train import cache, loop, parallel, teachers
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


class Datasets:
    """Data sets, each loaded and hashed once, when first needed: a finished run never needs one."""

    def __init__(self) -> None:
        self._loaded: dict[str, Dataset] = {}
        self._checksums: dict[str, str] = {}

    def __call__(self, data: DataSource) -> Dataset:
        """The data set of a source."""
        name = _name(data)
        if name not in self._loaded:
            self._loaded[name] = build.dataset(data)
        return self._loaded[name]

    def checksum(self, data: DataSource) -> str:
        """Its hash."""
        name = _name(data)
        if name not in self._checksums:
            self._checksums[name] = self(data).checksum()
        return self._checksums[name]


def _name(data: DataSource) -> str:
    return trees.digest(plain([data.source, data.args]))


@dataclasses.dataclass
class Context:
    """What every stage may use."""

    execution: Execution
    screen: Screen
    stop: loop.StopSignals
    done: dict[str, Artifact] = dataclasses.field(default_factory=dict)
    datasets: Datasets = dataclasses.field(default_factory=Datasets)

    @property
    def axis(self) -> str | None:
        """Name of the device axis that batch statistics are synchronised over."""
        return parallel.axis_of(self.execution.runner)

    def net(self, spec: NetSpec, inputs: Inputs, precision: str = '') -> Net:
        """A network for the data of `inputs`, in their precision or another."""
        classes = len(self.datasets(inputs.data).classes)
        return build.net(spec, classes, precision or inputs.precision, self.axis)

    def teacher_net(self, teacher: Teacher, precision: str = '') -> Net:
        """A network that teaches, an ensemble where it has several members; as it was trained, or in a precision."""
        one = self.net(teacher.network, teacher, precision)
        return build.ensemble((one,) * teacher.members) if teacher.members > 1 else one

    def teacher_variables(self, teacher: Teacher) -> Tree:
        """The variables of a network that teaches, from what its stage left."""
        return load_variables(self.done[teacher.name].folder / 'variables')

    def evaluator(self, net: Net, inputs: Inputs, split: str, teacher_logits: np.ndarray | None = None) -> Evaluate:
        """Metrics of a network on a split of the data of `inputs`."""
        examples, labels = self.datasets(inputs.data).splits[split]
        shown, stream = build.preprocess(inputs.data), self.execution.stream
        return evaluator(net, examples, labels, teacher_logits, preprocess=shown, stream=stream)

    def logits(self, net: Net, variables: Tree, inputs: Inputs, split: str) -> np.ndarray:
        """A network's logits (N, K) on a split."""
        examples, shown = self.datasets(inputs.data).splits[split].inputs, build.preprocess(inputs.data)
        tables = cache.compute(teachers.frozen(net), variables, examples, identity(), 0, 1, preprocess=shown)
        return tables[teachers.PREFIX + 'logits'][:, 0]

    def example(self, data: DataSource) -> np.ndarray:
        """One example as networks see it."""
        return np.asarray(compiled(build.preprocess(data))(self.datasets(data).splits['test'].inputs[0]))


def number(value: Any) -> float | None:
    """A number as JSON has it: None for one that is missing or not finite."""
    return None if value is None or not np.isfinite(value) else float(value)
