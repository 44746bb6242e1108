"""The files of a student, made, asked and compared: their answers to the whole test split, in their own runtimes."""

import hashlib
import importlib.metadata
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.dataset import Dataset, Split, chosen, is_column
from kdjax.errors import UsageError, said
from kdjax.export import formats, ranges
from kdjax.export.bundle import Student, preprocessing
from kdjax.export.formats import FORMATS
from kdjax.export.program import Calibration, Program, named, program
from kdjax.jit_cache import bound, compiled
from kdjax.tasks import evaluation
from kdjax.types import Net, Outputs, Tree

EXAMPLES = 256  # of the training split, that ranges are taken of
BATCH = 1024  # examples of a forward pass, as in evaluation
SAME = 1e-5  # of the largest logit: how far answers of a float32 file may be from those of the student
ALIKE = 0.99  # of decisions, of a file of whole numbers
SPREAD = 0.01  # of the range of a value that is predicted: the same to that


class Agreement(NamedTuple):
    """How far a file answers as the student in JAX."""

    error: float  # largest difference of a logit
    largest: float  # logit
    top1: float  # share of examples, or tokens, of which the decision is the same

    def equal(self, steps: bool) -> bool:
        """Whether that is what a file must reach: of one whose numbers have steps, where it rounds, decisions count."""
        return self.top1 >= ALIKE if steps else self.error <= SAME * max(1.0, self.largest)


class Answered(NamedTuple):
    """A split as the network reads it, and what the student answers in JAX."""

    split: Split
    seen: Mapping[str, np.ndarray]  # (N, ...) by name, as wide as the files
    tree: Tree  # the same
    outputs: Outputs  # logits (N, ...) and their masks
    decided: Tree
    real: np.ndarray | None  # (N, L) tokens that there are, of a task per token


def export(student: Student, folder: Path, names: Sequence[str], dataset: Dataset, license: str = '') -> Student:
    """Writes a student with files of further formats, each held against it on the test split.

    Args:
      student: any.
      folder: where to.
      names: of FORMATS.
      dataset: that it was trained on; its training split tells ranges, its test split judges.
      license: of the weights, as of `Student.save`.

    Returns:
      The student, whose `about['files']` says of every file its name, size, checksum, agreement with the student, its
      own metrics on the test split, and whether it is equal: what float32 must be, and int8 is marked as.

    Raises:
      UsageError: a format that the network cannot have, a library that is not there, a float32 file that answers
        otherwise; the student without files is written before.
    """
    student.save(folder, license)
    told: dict[str, Any] = {}
    answered, whole = _answered(student, dataset), program(student, _seen(student, dataset, 'test', np.arange(1)))
    for name in names:
        calibration, made = None, whole
        if FORMATS[name].int8:
            calibration, made = _calibration(student, dataset, whole)
        path = formats.write(name, made, folder, calibration)
        try:
            logits = formats.session(name, path)(answered.seen)
        except UsageError:
            raise
        except Exception as error:  # of any kind, by the runtime
            path.unlink()
            raise UsageError(f'{FORMATS[name].title}: the file does not run: {said(error)}') from error
        agreement = _compared(student, answered, logits)
        equal = agreement.equal(FORMATS[name].int8 or ranges.rounded(student))
        if not equal and not FORMATS[name].int8:
            path.unlink()
            raise UsageError(f'{FORMATS[name].title} answers otherwise: {agreement.error:.3g} apart, of logits up to '
                             f'{agreement.largest:.3g}, and {agreement.top1:.2%} of decisions alike')  # fmt: skip
        content = path.read_bytes()
        told[name] = {
            'file': path.name,
            'sha256': hashlib.sha256(content).hexdigest(),
            'bytes': len(content),
            'deflated': len(zlib.compress(content, 9)),
            'made_by': _versions(name),
            'agreement': agreement._asdict(),
            'equal': equal,
            'test': _metrics(student, answered.split, dataset, logits),
        }
    after = Student(student.net, student.variables, student.task, {**student.about, 'files': told})
    after.save(folder, license)
    return after


def measurable(
    student: Student, folder: Path, name: str, dataset: Dataset, split: str
) -> tuple[Path, Mapping[str, np.ndarray], dict[str, float]]:
    """Writes one file alone, and asks it about a split.

    Args:
      student, folder, dataset: as of `export`.
      name: of FORMATS.
      split: of the data set.

    Returns:
      The file; {name: (N, ...)}, the split as the network reads it; and the file's own metrics on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = dataset.splits[split]
    inputs = _seen(student, dataset, split, np.arange(own.size))
    whole = program(student, inputs)
    calibration, made = _calibration(student, dataset, whole) if FORMATS[name].int8 else (None, whole)
    path = formats.write(name, made, folder, calibration)
    seen = named(inputs)
    return path, seen, _metrics(student, own, dataset, formats.session(name, path)(seen))


def _calibration(student: Student, dataset: Dataset, whole: Program) -> tuple[Calibration, Program]:
    """What tells ranges, and the program that a file of whole numbers is made of."""
    size = dataset.splits['train'].size
    places = np.unique(np.linspace(0, size - 1, min(EXAMPLES, size)).astype(int))
    examples = named(_seen(student, dataset, 'train', places))
    if not ranges.rounded(student):
        return Calibration(examples), whole
    plain = whole._replace(student=ranges.with_whole_inputs(student))
    return Calibration(examples, ranges.learned(student, whole.example)), plain


def _seen(student: Student, dataset: Dataset, split: str, places: Any) -> Tree:
    """Examples as the network reads them, as wide as those of any split."""
    name = student.about.get('column', 'inputs')
    column = dataset.splits[split].column(name)
    rows = jax.tree.map(lambda leaf: np.asarray(chosen(leaf, places)), column, is_leaf=is_column)
    if name in dataset.padded and hasattr(rows, 'shape'):
        width = max(each.column(name).shape[1] for each in dataset.splits.values())
        rows = np.pad(rows, [(0, 0), (0, width - rows.shape[1]), *[(0, 0)] * (rows.ndim - 2)])
    run = compiled(bound(_preprocessed, preprocess=preprocessing(student.about)))
    count = len(jax.tree.leaves(rows)[0])
    parts = [jax.device_get(run(jax.tree.map(lambda leaf, start=start: leaf[start : start + BATCH], rows)))
             for start in range(0, count, BATCH)]  # fmt: skip
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _preprocessed(inputs: Tree, *, preprocess: Any) -> Tree:
    return jax.tree.map(jnp.asarray, preprocess(inputs))


def _answered(student: Student, dataset: Dataset) -> Answered:
    split = dataset.splits['test']
    seen = _seen(student, dataset, 'test', np.arange(split.size))
    run = compiled(bound(_outputs, net=student.net))
    parts = [jax.device_get(run(student.variables, jax.tree.map(lambda leaf, at=at: leaf[at : at + BATCH], seen)))
             for at in range(0, split.size, BATCH)]  # fmt: skip
    outputs = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    prepared = student.task.prepare({'inputs': seen, 'mask': jnp.ones(split.size)})
    real = np.asarray(prepared['token_mask']) > 0 if student.task.per_token else None
    return Answered(split, named(seen), seen, outputs, _decided(student, seen, outputs), real)


def _outputs(variables: Tree, inputs: Tree, *, net: Net) -> Outputs:
    outputs = net.apply(variables, inputs, train=False, key=None)[0]
    masks = {'logits': outputs.masks['logits']} if 'logits' in outputs.masks else {}
    return Outputs(outputs.logits, {}, masks)


def _decided(student: Student, seen: Tree, outputs: Outputs) -> Tree:
    """What the task makes of answers, on the host."""
    mask = jnp.ones(len(outputs.logits), jnp.float32)
    prepared = student.task.prepare({'inputs': seen, 'mask': mask})
    return jax.device_get(student.task.decide(jax.tree.map(jnp.asarray, outputs), prepared))


def _compared(student: Student, answered: Answered, logits: np.ndarray) -> Agreement:
    """A file against the student."""
    own = answered.outputs.logits
    if logits.shape != own.shape or not np.isfinite(logits).all():
        raise UsageError(f'a file answers {logits.shape}, the student {own.shape}, or not with finite numbers')
    masks = answered.outputs.masks.get('logits', ())
    real = np.asarray(masks[0]) > 0 if masks else answered.real
    rows = (logits, own) if real is None else (logits[real], own[real])
    decided = _decided(student, answered.tree, answered.outputs._replace(logits=jnp.asarray(logits)))
    pairs = zip(jax.tree.leaves(decided), jax.tree.leaves(answered.decided), strict=True)
    same = np.stack([_same(one, other, answered.real) for one, other in pairs]).all(axis=0)
    return Agreement(float(np.max(np.abs(rows[0] - rows[1]))), float(np.max(np.abs(rows[1]))), float(np.mean(same)))


def _same(one: np.ndarray, other: np.ndarray, real: np.ndarray | None) -> np.ndarray:
    """Whether decisions are the same, of every example, or every real token."""
    if np.issubdtype(one.dtype, np.floating):
        equal = np.abs(one - other) <= SPREAD * np.ptp(other)
    else:
        equal = one == other
    return equal[real] if real is not None else equal.reshape(len(equal), -1).all(axis=1)


def _metrics(student: Student, split: Split, dataset: Dataset, logits: np.ndarray) -> dict[str, float]:
    """The metrics of a file, by its answers to a split."""
    given = {'logits': _narrow(logits, split, student)}
    measure = evaluation.evaluator(
        student.task, student.net, split, inputs=student.about.get('column', 'inputs'), padded=dataset.padded,
        preprocess=preprocessing(student.about), given=given,
    )  # fmt: skip
    cells = jax.tree.map(lambda leaf: np.asarray(leaf)[None], student.variables)
    return {name: float(value[0]) for name, value in measure(cells).items()}


def _narrow(logits: np.ndarray, split: Split, student: Student) -> np.ndarray:
    """Answers as wide as the split is stored."""
    if not student.task.per_token:
        return logits
    return logits[:, : split.column(student.about.get('column', 'inputs')).shape[1]]


def _versions(name: str) -> dict[str, str]:
    """Versions of what made a file."""
    libraries = {'litert': ('litert-converter', 'ai-edge-quantizer', 'ai-edge-litert'),
                 'onnx': ('jax2onnx', 'onnx', 'onnxruntime')}.get(FORMATS[name].module, ())  # fmt: skip
    return {each: importlib.metadata.version(each) for each in ('jax', *libraries)}
