"""A teacher that is a table: what a network of any framework answered to every example, in a file.

The file is an .npz. Of every split, 'train', 'validation' and 'test', it has:

- 'train/ids' (N,) integers: the examples, by their position in the split, each once and in any order;
- 'train/logits' (N, ..., K) floats; or of the k most probable classes 'train/top_ids' (N, ..., k) integers and
  'train/top_log_probs' (N, ..., k) floats, the best first;
- 'train/mask' (N, T), 1 for real frames: where logits (N, T, K) have padding of their own, as those of CTC;
- 'train/<tap>' (N, ...) floats, of training examples alone: features, by the name under which terms read them.

Where examples share answers, as a user's interactions do, it has 'questions/<name>' (R, ...) integers in the place of
'train/...': of recommendation 'questions/ranked_items', for every user the first items in order. And it has 'checksum',
that of the data set, without which nobody would see that the answers are to other data. `save` writes such files.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.base import checked
from kdjax.dataset import SPLITS, Dataset
from kdjax.errors import UsageError, unknown
from kdjax.tasks.base import Question
from kdjax.train import cache
from kdjax.train.cache import SPARSE
from kdjax.train.teachers import PREFIX
from kdjax.types import Outputs

CHECKSUM, IDS, LOGITS, MASK, QUESTIONS = 'checksum', 'ids', 'logits', 'mask', 'questions'
NO_TAPS = (LOGITS, MASK, *SPARSE)
SUM = 1e-3  # what the probabilities of some classes may have above 1, as of numbers of 16 bits
NOWHERE = 1e-12  # the probability that all other classes share at least

Answers = dict[str, np.ndarray]


def save(path: str | Path, dataset: Dataset, answers: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Writes what a network answered to a data set as a file that `teacher.outputs` may name.

    Args:
      path: of the file, '.npz'.
      dataset: that was asked about, as its source returns it.
      answers: of each split, or of 'questions', the arrays by name, see above; without 'ids' in the order of examples.

    Raises:
      UsageError: what `check` would refuse.
    """
    arrays = {f'{part}/{name}': np.asarray(array) for part, named in answers.items() for name, array in named.items()}
    for split in {*answers} & {*SPLITS}:
        count = len(next(iter(answers[split].values())))
        arrays.setdefault(f'{split}/{IDS}', np.arange(count, dtype=np.int32))
    written = {CHECKSUM: np.asarray(checked(dataset).checksum()), **arrays}
    np.savez_compressed(path, **written)  # type: ignore[arg-type]  # its second argument is a switch


def check(path: str, dataset: Dataset, classes: int, questions: Mapping[str, Question]) -> None:
    """Holds a file against the data set of a run.

    Args:
      path: of the file.
      dataset: of the run.
      classes: K, that logits must have.
      questions: that the task asks in the place of every training example.

    Raises:
      UsageError: the file cannot be read, is of other data, or lacks an answer; an answer is of another shape, is not
        finite, or is no probability.
    """
    found = _stored(path, CHECKSUM)[CHECKSUM]
    if str(found) != (wanted := dataset.checksum()):
        raise UsageError(f'{path}: its answers are to other data, of the checksum {str(found)[:20]!r}; the data of '
                         f'this run have {wanted!r}')  # fmt: skip
    for name, split in dataset.splits.items():
        if name == 'train' and questions:
            continue
        _check_answers(f'{path}: {name}', of_split(path, name, split.size), classes)
    for name, question in questions.items():
        _check_question(path, name, of_question(path, name), question.split.size)


def of_split(path: str, split: str, size: int) -> Answers:
    """The answers to the examples of a split, in their order, by name.

    Raises:
      UsageError: there are none, not one for every example, or two kinds.
    """
    answers = {name.removeprefix(f'{split}/'): array for name, array in _stored(path, f'{split}/').items()}
    if LOGITS not in answers and not {*SPARSE} <= {*answers}:
        raise UsageError(f'{path} has neither {split}/{LOGITS} nor {split}/{SPARSE[0]} and {split}/{SPARSE[1]}: a '
                         f'teacher is asked about {", ".join(SPLITS)}, so that its own score is known')  # fmt: skip
    if LOGITS in answers and (twice := sorted({*SPARSE} & {*answers})):
        raise UsageError(f'{path} has {split}/{LOGITS} and {split}/{twice[0]}: answers are given once; leave one out')
    ids = answers.pop(IDS, np.arange(0))
    for name, array in answers.items():
        if array.ndim < 1 or len(array) != len(ids):
            raise UsageError(f'{path}: {split}/{IDS} {ids.shape} and {split}/{name} {array.shape} must have a row for '
                             'each answer')  # fmt: skip
    if not np.issubdtype(ids.dtype, np.integer) or ids.ndim != 1 or not np.array_equal(np.sort(ids), np.arange(size)):
        raise UsageError(f'{path}: {split}/{IDS} must be the positions 0 to {size - 1} of its examples, each once, got '
                         f'{_told(ids)}')  # fmt: skip
    order = np.argsort(ids)
    return {name: array[order] for name, array in answers.items()}


def of_question(path: str, name: str) -> np.ndarray:
    """The answers (R, ...) to a question of a task.

    Raises:
      UsageError: there are none.
    """
    return _stored(path, f'{QUESTIONS}/{name}')[f'{QUESTIONS}/{name}']


def tables(
    path: str, dataset: Dataset, questions: Mapping[str, Question], taps: tuple[str, ...], keep: int
) -> dict[str, np.ndarray]:
    """What a cache has of a file that `check` has passed, by name, of training examples (N, ...) or questions (R, ...).

    Args:
      path, dataset, questions: as of `check`.
      taps: features that terms read.
      keep: classes that are kept, the most probable; 0 for all that the file has.

    Raises:
      UsageError: it has no such feature, or fewer classes than are kept.
    """
    if questions:
        return {PREFIX + name: of_question(path, name).astype(np.int32) for name in questions}
    answers = of_split(path, 'train', dataset.splits['train'].size)
    if LOGITS in answers:
        features = {name: jnp.asarray(array) for name, array in answers.items() if name not in NO_TAPS}
        return jax.device_get(cache.tables(Outputs(jnp.asarray(answers[LOGITS], jnp.float32), features), taps, keep))
    if keep > (kept := answers[SPARSE[0]].shape[-1]):
        raise UsageError(f'{path} has {kept} classes of each answer, of which keep={keep} cannot be kept')
    for tap in taps:
        if tap not in answers:
            raise unknown('tap', tap, {*answers} - {*NO_TAPS}, f' of the training answers in {path}')
    return {PREFIX + name: answers[name][..., : keep or kept] if name in SPARSE else answers[name]
            for name in (*SPARSE, *(tap for tap in taps if tap not in SPARSE))}  # fmt: skip


def logits_of(answers: Answers, classes: int) -> np.ndarray:
    """Logits (N, ..., K) float32; where some classes are known, their log-probabilities, and what is left shared out
    among the others."""
    if LOGITS in answers:
        return answers[LOGITS].astype(np.float32)
    ids, top = answers[SPARSE[0]], answers[SPARSE[1]].astype(np.float32)
    others = classes - ids.shape[-1]
    rest = np.maximum(1 - np.exp(top).sum(axis=-1, keepdims=True), NOWHERE) / max(others, 1)
    found = np.broadcast_to(np.log(rest), (*ids.shape[:-1], classes)).copy()
    np.put_along_axis(found, ids, top, axis=-1)
    return found


def _check_answers(where: str, answers: Answers, classes: int) -> None:
    for name, array in answers.items():
        if array.dtype.kind not in 'fiub' or not np.all(np.isfinite(_as_read(array))):
            raise UsageError(f'{where}/{name} must be numbers that are finite in float32, got {array.dtype} '
                             f'{array.shape}')  # fmt: skip
    frames = answers[LOGITS if LOGITS in answers else SPARSE[0]].shape[:2]
    if MASK in answers and answers[MASK].shape != frames:
        raise UsageError(f'{where}/{MASK} must be of the frames of its answers, {frames}, got {answers[MASK].shape}')
    if LOGITS in answers:
        if answers[LOGITS].ndim < 2 or answers[LOGITS].shape[-1] != classes:
            raise UsageError(f'{where}/{LOGITS} must have the {classes} classes of the task as its last axis, got '
                             f'{answers[LOGITS].shape}')  # fmt: skip
        return
    ids, top = (answers[name] for name in SPARSE)
    if ids.shape != top.shape or ids.ndim < 2 or not ids.shape[-1] or not np.issubdtype(ids.dtype, np.integer):
        raise UsageError(f'{where}: {SPARSE[0]} must be integers and {SPARSE[1]} of their shape, (N, ..., k > 0), got '
                         f'{ids.dtype} {ids.shape} and {top.shape}')  # fmt: skip
    if ids.min() < 0 or ids.max() >= classes or np.any(np.diff(np.sort(ids, axis=-1), axis=-1) == 0):
        raise UsageError(f'{where}/{SPARSE[0]} must be different classes in 0 to {classes - 1}, got {_told(ids)}')
    if np.any(np.diff(top, axis=-1) > 0) or np.exp(top.astype(np.float64)).sum(axis=-1).max() > 1 + SUM:
        raise UsageError(f'{where}/{SPARSE[1]} must be log-probabilities, the best first, that sum to 1 at most')


def _as_read(array: np.ndarray) -> np.ndarray:
    """Numbers as a student is told them: those of float64 may be too large for that."""
    with np.errstate(over='ignore'):
        return array.astype(np.float32) if array.dtype.kind == 'f' else array


def _check_question(path: str, name: str, answer: np.ndarray, size: int) -> None:
    if answer.ndim < 2 or len(answer) != size or not np.issubdtype(answer.dtype, np.integer):
        raise UsageError(f'{path}: {QUESTIONS}/{name} must be integers ({size}, ...), a row for each question, got '
                         f'{answer.dtype} {answer.shape}')  # fmt: skip


def _stored(path: str, start: str) -> Answers:
    """The arrays of a file whose names start so; where that is no folder of names, there is one.

    Raises:
      UsageError: it is no such file, or has not the one.
    """
    try:
        loaded = np.load(path)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise UsageError(f'{path} is one array, and must be an .npz of several by name')
        with loaded as file:
            found = {name: file[name] for name in file if name.startswith(start)}
            if not start.endswith('/') and start not in found:
                raise unknown('array', start, file, f' of {path}')
            return found
    except UsageError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f'{path} is no .npz of arrays of numbers: {str(error)[:80]}') from error


def _told(ids: np.ndarray) -> str:
    return f'{ids.dtype} {ids.shape}' + (f', {ids.min()} to {ids.max()}' if ids.size and ids.dtype.kind in 'iu' else '')
