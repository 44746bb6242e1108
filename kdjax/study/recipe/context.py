"""What stages share beside their inputs: data sets, what earlier stages left, the console, how all is executed."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import trees
from kdjax.data.augment import identity
from kdjax.dataset import Dataset, Split, bucket_of, is_column, widths
from kdjax.jit_cache import compiled
from kdjax.resolve import resolve
from kdjax.study.recipe import build, changes, contents
from kdjax.study.recipe.inputs import (
    GivenTeacher,
    Inputs,
    OneTeacher,
    Teacher,
    TeacherTeam,
    TeachingNetwork,
    TrainedStudents,
    TrainedTeacher,
    plain,
    teacher_of,
)
from kdjax.study.recipe.recipe import DataSource, Execution, NetSpec
from kdjax.tasks.base import Task
from kdjax.tasks.evaluation import Evaluate, Examine, answers, evaluator, examiner
from kdjax.train import anatomy, cache, given, layout, loop, parallel, teachers
from kdjax.train.checkpoint import load_variables
from kdjax.train.ledger import Logger
from kdjax.train.screen import Screen
from kdjax.types import Net, Tree

NO_CELL = {'table': np.zeros(1, np.float32)}  # the variables of what has none, with the leading axis of cells


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
        self._contents: dict[str, str] = {}

    def __call__(self, data: DataSource) -> Dataset:
        """The data set of a source."""
        name = _name(data.source, data.args)
        if name not in self._loaded:
            self._loaded[name] = build.dataset(data)
        return self._loaded[name]

    def content(self, source: str, arguments: Mapping[str, Any]) -> str:
        """What the addresses of all that reads a source know of its data.

        A source of the user's own may read anything, so its data are loaded and hashed, but for one that has a function
        `content` as an attribute: called with its arguments, it says what stands for them (a version, a hash).
        """
        if not contents.own(source):
            name = _name(source, arguments)
            if name not in self._contents:
                self._contents[name] = contents.of_files(source, arguments)
            return self._contents[name]
        said = getattr(resolve('kdjax.data', source, 'data set'), 'content', None)
        return str(said(**arguments)) if said else self.checksum(DataSource(source, arguments, {}))

    def checksum(self, data: DataSource) -> str:
        """Its hash."""
        name = _name(data.source, data.args)
        if name not in self._checksums:
            self._checksums[name] = self(data).checksum()
        return self._checksums[name]


def _name(source: str, arguments: Mapping[str, Any]) -> str:
    return trees.digest(plain([source, arguments]))


@dataclasses.dataclass
class Context:
    """What every stage may use."""

    execution: Execution
    screen: Screen
    stop: loop.StopSignals
    done: dict[str, Artifact] = dataclasses.field(default_factory=dict)
    # Stages that were begun by other code or libraries than those that run, and what differed.
    earlier: dict[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    datasets: Datasets = dataclasses.field(default_factory=Datasets)
    judge: Teacher | None = None  # of a sweep, whose answers those of students are held against

    def training(self, cells: int, batch: int) -> 'Context':
        """This, with the runner that trains a grid of so many cells and micro-batches of so many examples.

        Examples that stay together (`feeding.together`) count as one.
        """
        # Over cells by layout: the grid is split by that alone.
        runner = self.execution.runner
        if runner == parallel.AUTO and self.execution.layout == layout.CELLS:
            runner = 'single'
        chosen = parallel.chosen(runner, parallel.all_devices(), cells, batch)
        return dataclasses.replace(self, execution=dataclasses.replace(self.execution, runner=chosen))

    @property
    def axis(self) -> str | None:
        """Name of the device axis that batch statistics are synchronised over."""
        return parallel.axis_of(self.execution.runner)

    def task(self, inputs: Inputs) -> Task:
        """What the data are used for."""
        return build.task(inputs.task)

    def informed_task(self, inputs: Inputs) -> Task:
        """The same, as it measures predictions on the data of `inputs`."""
        return self.task(inputs).informed(self.datasets(inputs.data))

    def net(self, spec: NetSpec, inputs: Inputs, precision: str = '') -> Net:
        """A network for the data of `inputs`, in their precision or another."""
        told = build.told(spec, self.task(inputs), self.datasets(inputs.data), inputs.column)
        return build.net(spec, told, precision or inputs.precision, self.axis)

    def fitted_net(self, inputs: TrainedTeacher | TrainedStudents) -> Net:
        """The network that a fit leaves, whose variables are those that it saves."""
        return build.fitted_net(self.changed_net(inputs), inputs.fit)

    def changed_net(self, inputs: OneTeacher | TrainedStudents, precision: str = '') -> Net:
        """A network of `inputs` as what its fits so far have made of it."""
        spec = changes.network(inputs.network, inputs)
        return changes.wrapped(self.net(spec, inputs, precision), inputs, self.axis)

    def incoming_net(self, inputs: TrainedTeacher | TrainedStudents) -> Net:
        """The network of a fit as it comes in: as the fit before left it, or new, as after a fit upstream."""
        before = getattr(inputs, 'before', None)
        if before is None or before.fit.upstream != inputs.fit.upstream:
            return self.net(inputs.network, inputs)
        return self.changed_net(before)

    def alone(self) -> 'Context':
        """This, on one device."""
        return dataclasses.replace(self, execution=dataclasses.replace(self.execution, runner='single'))

    def dense_net(self, inputs: TrainedStudents | TrainedTeacher) -> Net:
        """The network of a fit without its rounding."""
        return changes.factored_net(self.net(changes.network(inputs.network, inputs), inputs), inputs)

    def teacher_net(self, teacher: TeachingNetwork, precision: str = '') -> Net:
        """A network that teaches, an ensemble where it has several members; as it was trained, or in a precision."""
        if isinstance(teacher, TeacherTeam):
            return build.ensemble(tuple(self.teacher_net(one, precision) for one in teacher.team))
        one = self.changed_net(teacher, precision)
        return build.ensemble((one,) * teacher.members) if teacher.members > 1 else one

    def teaching_net(self, inputs: TrainedTeacher | TrainedStudents, net: Net) -> Net | None:
        """The network that teaches a fit, which trains `net`, as it is; None where nobody does, or a table."""
        fit = inputs.fit
        if fit.own_average:
            return net
        if fit.own_start:
            return self.incoming_net(inputs)
        if fit.own_dense:
            return self.dense_net(inputs)
        who = None if inputs.source is None else teacher_of(inputs.source)
        if who is None or isinstance(who, GivenTeacher) or not fit.asks:
            return None
        return self.teacher_net(who, inputs.teaching)

    def given_metrics(self, teacher: GivenTeacher, split: str) -> dict[str, float | None]:
        """Metrics on a split of a teacher that is a table."""
        examples, options = self._given(teacher, split)
        measure = evaluator(self.task(teacher), None, examples, **options)
        return {name: number(values[0]) for name, values in measure(NO_CELL).items()}

    def given_logits(self, teacher: GivenTeacher, split: str) -> np.ndarray:
        """Its logits (N, ..., K) on a split, or what its task keeps of them."""
        examples, options = self._given(teacher, split)
        if self.task(teacher).answers_in_full:
            return options['given'][given.LOGITS]
        return answers(self.task(teacher), None, examples, **options)(NO_CELL)[0]

    def _given(self, teacher: GivenTeacher, split: str) -> tuple[Split, dict[str, Any]]:
        """The examples of a split, and how a table that answers them is measured."""
        dataset = self.datasets(teacher.data)
        found = given.of_split(teacher.path, split, dataset.splits[split].size)
        logits = given.logits_of(found, build.classes(self.task(teacher), dataset))
        mask = {given.MASK: found[given.MASK].astype(np.float32)} if given.MASK in found else {}
        return dataset.splits[split], {**self._evaluation(teacher), 'given': {given.LOGITS: logits, **mask}}

    def teacher_variables(self, teacher: Teacher) -> Tree:
        """The variables of a network that teaches, from what its stage left; a table has none."""
        if isinstance(teacher, GivenTeacher):
            return {}
        return load_variables(self.done[teacher.name].folder / 'variables')

    def evaluator(
        self, net: Net, inputs: Inputs, split: str, teacher_logits: np.ndarray | None = None,
        teacher: Teacher | None = None,
    ) -> Evaluate:  # fmt: skip
        """Metrics of a network on a split of the data of `inputs`; of what it writes too, where a teacher judges it."""
        examples, task = self.datasets(inputs.data).splits[split], self.informed_task(inputs)
        measure = evaluator(task, net, examples, teacher_logits, **self._evaluation(inputs))
        judge = self._judge(net, inputs, split, teacher)
        return measure if judge is None else lambda cells: {**measure(cells), **judge(cells)}

    def examiner(
        self, net: Net, inputs: Inputs, split: str, teacher_logits: np.ndarray | None, teacher: Teacher | None
    ) -> Examine:
        """The same, and what the network predicts there, where its task has statistics of it."""
        examples, task = self.datasets(inputs.data).splits[split], self.informed_task(inputs)
        examine = examiner(task, net, examples, teacher_logits, **self._evaluation(inputs))
        judge = self._judge(net, inputs, split, teacher)

        def both(cells: Tree) -> tuple[Mapping[str, np.ndarray], Tree]:
            metrics, predictions = examine(cells)
            return {**metrics, **(judge(cells) if judge else {})}, predictions

        return both

    def _judge(self, net: Net, inputs: Inputs, split: str, teacher: Teacher | None) -> Evaluate | None:
        """What a teacher that is a network says of what another one writes, as metrics; None where it is not asked."""
        if teacher is None or isinstance(teacher, GivenTeacher):
            return None
        examples, task = self.datasets(inputs.data).splits[split], self.informed_task(inputs)
        judge = task.own_texts(net, self.teacher_net(teacher), examples)
        if judge is None:
            return None
        variables = self.teacher_variables(teacher)
        return lambda cells: judge(cells, variables)

    def _evaluation(self, inputs: Inputs) -> dict[str, Any]:
        return {
            'inputs': inputs.column,
            'padded': self.datasets(inputs.data).padded,
            'buckets': inputs.buckets.widths,
            'preprocess': build.preprocess(inputs.data),
            'stream': self.execution.stream,
        }

    def logits(self, net: Net, variables: Tree, inputs: Inputs, split: str) -> np.ndarray:
        """A network's logits (N, ..., K) on a split, or what its task keeps of them."""
        task, examples = self.task(inputs), self.datasets(inputs.data).splits[split]
        if not task.answers_in_full:
            one = jax.tree.map(lambda leaf: leaf[None], variables)
            return answers(task, net, examples, **self._evaluation(inputs))(one)[0]
        columns, shown = self._read(inputs, split), build.preprocess(inputs.data)
        tables = cache.compute(teachers.frozen(net), variables, columns, identity(), 0, 1, preprocess=shown)
        return tables[teachers.PREFIX + 'logits'][:, 0]

    def _read(self, inputs: Inputs, split: str) -> dict[str, Tree]:
        """The column that a network reads."""
        return {'inputs': self.datasets(inputs.data).splits[split].column(inputs.column)}

    def looked_at(self, folder: Path, fitted: loop.Fitted) -> dict[str, Any]:
        """What is kept of looks at gradients: they, and the terms whose gradient was 0 in all, which then is said."""
        found = [name for name in anatomy.silent(fitted.anatomy) if name not in fitted.unreached]
        if found:
            self.screen.note(f'{folder.name.partition("-")[0]}: no gradient of {", ".join(found)} reached the student')
        return {'anatomy': fitted.anatomy, 'silent': [*fitted.unreached, *found]}

    def warn(self, folder: Path, ledger: Logger, terms: Sequence[str]) -> None:
        """Says of terms, if there are any, before anything is trained, that nothing can be learned by them."""
        if not terms:
            return
        ledger.write('silent', terms=list(terms))
        self.screen.note(
            f'warning: {folder.name.partition("-")[0]}: the gradient of {", ".join(terms)} is 0 whatever the student '
            f'says, on each of the first batches: what masks, boxes or labels does it read, and what does it stop?'
        )

    def typical_length(self, inputs: Inputs) -> int | None:
        """How many tokens the example has that costs are measured on; None where examples have no lengths."""
        dataset = self.datasets(inputs.data)
        if inputs.column not in dataset.padded:
            return None
        split = dataset.splits['test']
        return int(split.column('length')[_typical(split, inputs.buckets.widths)[0]])

    def example(self, inputs: Inputs) -> Tree:
        """One example as networks see it: of padded ones that of the middle length, as wide as its bucket."""
        dataset = self.datasets(inputs.data)
        split = dataset.splits['test']
        place, width = _typical(split, inputs.buckets.widths) if inputs.column in dataset.padded else (0, None)
        stored = jax.tree.map(lambda column: _cut(column[place], width), self._read(inputs, 'test')['inputs'],
                              is_leaf=is_column)  # fmt: skip
        return jax.device_get(compiled(build.preprocess(inputs.data))(stored))


def _cut(example: np.ndarray, width: int | None) -> np.ndarray:
    return example if width is None else example[:width]


def _typical(split: Split, buckets: tuple[int, ...]) -> tuple[int, int]:
    """The position of an example of the middle length, and the width that it is cut to."""
    lengths = np.asarray(split.column('length'))
    place = int(np.argsort(lengths, kind='stable')[len(lengths) // 2])
    if not buckets:
        return place, int(lengths[place])
    known = widths(buckets, int(lengths.max()))
    return place, known[int(bucket_of(lengths[place : place + 1], known)[0])]


def number(value: Any) -> float | None:
    """A number as JSON has it: None for one that is missing or not finite."""
    return None if value is None or not np.isfinite(value) else float(value)
