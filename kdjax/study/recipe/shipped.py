"""What a judged student is shipped as: a stage that writes its file and measures it where it runs."""

import dataclasses
from pathlib import Path
from typing import Any

from kdjax import trees
from kdjax.dataset import Dataset
from kdjax.errors import UsageError
from kdjax.export import bundle, files, measure
from kdjax.export.bundle import Student
from kdjax.study.recipe import acceptance, changes, plan, students
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.inputs import BY_KEY, Addressed, TrainedStudents
from kdjax.study.recipe.recipe import DataSource, Recipe
from kdjax.study.recipe.stages import CHECKPOINTS, validation_score
from kdjax.train.checkpoint import load_variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shipped(Addressed):
    """Whose file is measured."""

    data: DataSource = dataclasses.field(metadata=BY_KEY)
    students: TrainedStudents = dataclasses.field(metadata=BY_KEY)
    fits: str  # name of the stage that trained them
    format: str
    size: int  # of their transfer set


def stage(recipe: Recipe) -> plan.Stage:
    """The stage of the method that is judged; it needs its last fit. Milliseconds are of the machine that ran it."""
    accept = recipe.config.accept
    fits = '+'.join(recipe.methods[accept.method])
    last = plan.stages_of(recipe)[fits]
    inputs = Shipped(data=recipe.data, students=last.inputs, fits=fits, format=accept.file,
                     size=acceptance.judged_size(recipe))  # fmt: skip
    key = trees.digest([acceptance.FILE, accept.file, inputs.size, last.key, plan.VERSION])
    return plan.Stage(acceptance.FILE, inputs, (fits,), weigh, key)


def weigh(inputs: Shipped, context: Context, folder: Path, key: str) -> dict[str, Any]:
    """Writes the file of the student that is best in validation, and measures it."""
    context.screen.stage(acceptance.FILE)
    student, own = best(inputs, context)
    return weighed(student, own, folder, inputs.format, context.datasets(inputs.data))


def weighed(student: Student, own: float, folder: Path, name: str, dataset: Dataset) -> dict[str, Any]:
    """What `acceptance.criteria` reads of the file of a student, whose score in validation was its own."""
    path, seen, metrics = files.measurable(student, folder, name, dataset, 'validation')
    found = measure.measured(name, path, seen)
    return {
        'score': metrics[student.task.judged.name],
        'own': own,
        'kilobytes': found.bytes / 1000,
        'milliseconds': found.p50_ms,
        'ram_kilobytes': None if found.ram_bytes is None else found.ram_bytes / 1000,
        'measured': found._asdict(),
    }


def best(inputs: Shipped, context: Context) -> tuple[Student, float]:
    """The student with the best score in validation, and that score.

    Raises:
      UsageError: all diverged.
    """
    artifact, metric = context.done[inputs.fits], context.task(inputs.students).judged
    cell = students.best_cell(artifact.result, inputs.size, metric)
    if cell is None:
        raise UsageError(f'all students of {inputs.fits} diverged: there is no file to measure')
    one = artifact.result['cells'][cell]
    about = students.described(inputs.students, context)
    about |= {'changes': changes.described(inputs.students)} if changes.made(inputs.students) else {}
    about |= {'method': inputs.fits, 'seed': one['seed'], 'candidate': one['candidate'], 'transfer_size': inputs.size,
              'step': artifact.result['history'][-1]['step'], 'metrics': {}}  # fmt: skip
    variables = trees.take(load_variables(artifact.folder / CHECKPOINTS['last']), cell)
    score = validation_score(artifact.result)[cell]
    assert score is not None
    return bundle.build(about, {'params': {}, 'stats': {}, **variables}), score
