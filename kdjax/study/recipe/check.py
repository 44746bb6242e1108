"""What a config alone can show to be wrong: types, ranges, names. Without JAX, so that the answer comes at once."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from kdjax.errors import Problems, UsageError, unknown
from kdjax.export import WEIGHTS
from kdjax.study.recipe.search import Search, number

RATES = ('learning_rate', 'weight_decay', 'terms_learning_rate', 'terms_weight_decay')
KNOBS = (*RATES, 'sparsity', 'bits', 'input_bits')  # numbers of a fit beside the weights of its terms
MODES = ('cached', 'online')
EXAMPLES = ('transfer', 'all')
# More than anyone means: beyond them lists of cells and tables of outputs fill the memory before anything is said.
MOST_SEEDS, MOST_VIEWS, MOST_ATTEMPTS, MOST_EXAMPLES = 100_000, 10_000, 1_000, 2**31 - 1
FOLDER_NAME = re.compile(r'\w[\w .-]*')
LONGEST_NAME = 80  # a stage is a folder, and chains join names


def check(config: ConfigDict) -> None:
    """Checks all that needs neither networks nor terms nor data.

    Raises:
      UsageError: all that is wrong, one a line.
    """
    problems = Problems()
    for message in (*_whole_numbers(config), *_shares(config), *_steps_between(config), *_modes(config)):
        problems.add(message)
    for checked in (_check_start, _check_methods, _check_accept, _check_views, _check_search):
        with problems.collected():
            checked(config)
    for name, fit in _fits(config).items():
        with problems.collected(f'fit {name!r}: '):
            _check_fit(config, fit)
    for name, spec in teachers(config).items():
        with problems.collected():
            _check_teacher(name, spec)
    with problems.collected():
        _check_names(config)
    problems.report()


def teachers(config: ConfigDict) -> dict[str, ConfigDict]:
    """All networks that teach, by name: 'teacher' and the assistants."""
    return {'teacher': config.teacher, **{name: config.assistants[name] for name in sorted(config.assistants)}}


def _fits(config: ConfigDict) -> dict[str, ConfigDict]:
    return {**{name: spec.fit for name, spec in teachers(config).items()}, **dict(config.fits.items())}


def _whole_numbers(config: ConfigDict) -> Iterator[str]:
    for name, value in (
        ('seeds', config.seeds),
        *((f'run.{name}', config.run[name]) for name in ('chunk', 'validate_every', 'save_every', 'cells')),
        ('data.views', config.data.views),
        ('data.bucket_run', config.data.bucket_run),
        *((f'{name}.{what}', spec[what]) for name, spec in teachers(config).items() for what in ('views', 'members')),
        *((f'{what} of fit {name!r}', fit[what])
          for name, fit in _fits(config).items() for what in ('batch_size', 'accumulate', 'peers')),
        *((f'data.transfer_sizes entry {k}', size) for k, size in enumerate(config.data.transfer_sizes)),
    ):  # fmt: skip
        if not _whole(value) or value < 1:
            yield f'{name} must be an integer >= 1, got {value!r}'
    for name, value, most in (
        ('seed', config.seed, 2**32 - 1),  # random keys are made of 32 bits
        ('retry.attempts', config.retry.attempts, MOST_ATTEMPTS),
        *((f'steps of fit {name!r}', fit.steps, 2**31 - 1) for name, fit in _fits(config).items()),
    ):
        if not _whole(value) or not 0 <= value <= most:
            yield f'{name} must be an integer from 0 to {most}, got {value!r}'
    for name, value, most in (
        ('seeds', config.seeds, MOST_SEEDS),
        ('data.views', config.data.views, MOST_VIEWS),
        *((f'batch_size of fit {name!r}', fit.batch_size, MOST_EXAMPLES) for name, fit in _fits(config).items()),
    ):
        if _whole(value) and value > most:
            yield f'{name} must be at most {most}, got {value!r}'


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shares(config: ConfigDict) -> Iterator[str]:
    for name, value in (('data.label_noise', config.data.label_noise), ('accept.accuracy', config.accept.accuracy)):
        if not 0 <= value <= 1:
            yield f'{name} must be in [0, 1], got {value}'


def _steps_between(config: ConfigDict) -> Iterator[str]:
    for name, spec in teachers(config).items():
        for what in ('folds', 'keep', 'bound'):
            if not number(f'{name}.{what}', spec[what]) >= 0:
                yield f'{name}.{what} must be >= 0 (0: none), got {spec[what]!r}'
    for name in ('anatomy_every', 'profile'):
        if config.run[name] < 0:
            yield f'run.{name} must be >= 0 (0: never), got {config.run[name]}'


def _modes(config: ConfigDict) -> Iterator[str]:
    for name, spec in teachers(config).items():
        if spec.mode not in MODES:
            yield str(unknown(f'{name}.mode', spec.mode, MODES))


def _check_methods(config: ConfigDict) -> None:
    if config.baseline not in config.methods:
        raise unknown('method', config.baseline, config.methods, ' in baseline')
    for method in config.methods:
        fits = tuple(config.methods[method])
        if not fits:
            raise UsageError(f'method {method!r} has no fits; there are: {", ".join(config.fits)}')
        for fit in fits:
            if fit not in config.fits:
                raise unknown('fit', fit, config.fits, f' of method {method!r}')
        if len(set(fits)) < len(fits):
            raise UsageError(f'method {method!r} has a fit twice: {", ".join(fits)}; give the second a name of its own')
        for later in fits[1:]:
            if config.fits[later].peers > 1:
                raise UsageError(f'fit {later!r} of method {method!r} has peers, so it must be the first of its method')


def _check_fit(config: ConfigDict, fit: ConfigDict) -> None:
    if fit.examples not in EXAMPLES:
        raise unknown('examples', fit.examples, EXAMPLES, ' (of which examples a fit sees)')
    for name in KNOBS:
        if number(name, fit[name]) < 0:
            raise UsageError(f'{name} must be >= 0, got {fit[name]!r}')
    for name in fit.weights:
        number(f'weights.{name}', fit.weights[name])
        if name not in config.terms:
            raise unknown('term', name, config.terms, ' in the weights of a fit')


def _check_teacher(name: str, spec: ConfigDict) -> None:
    for field in ('weights', 'pretrained'):
        _check_weights(f'{name}.{field}', spec[field])
    if spec.weights and spec.pretrained:
        raise UsageError(f'{name}.weights are not trained and {name}.pretrained are: set one of them, not both')
    if spec.folds and (spec.mode != 'cached' or spec.weights or spec.folds < 2):
        raise UsageError(
            f"{name}.folds are 2 or more networks that are trained and then cached: set mode='cached' and weights='', "
            f'got folds={spec.folds}, mode={spec.mode!r}, weights={spec.weights!r}'
        )
    if spec.folds and spec.members > 1:
        raise UsageError(f'{name}.folds and {name}.members cannot both be several, got {spec.folds} and {spec.members}')
    if spec.weights and _whole(spec.members) and spec.members > 1:
        raise UsageError(f'{name}.weights are of one network, and {name}.members is {spec.members}')
    if _whole(spec.fit.peers) and spec.fit.peers > 1:
        raise UsageError(f'peers of {name}.fit must be 1, got {spec.fit.peers}; for several teachers set members')
    if spec.fit.answer:
        raise UsageError(f"answer of {name}.fit is of students: set it to '', got {spec.fit.answer!r}")


def weights_file(path: str) -> Path:
    """The file of weights that a path means: of the folder of an exported student that inside."""
    return Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)


def _check_weights(field: str, path: str) -> None:
    if path and not weights_file(path).is_file():
        raise UsageError(f'{field}: no file of weights, and no folder of an exported student: {path!r}')


def _check_start(config: ConfigDict) -> None:
    """Where students start is one place."""
    path = config.student.get('pretrained', '')
    _check_weights('student.pretrained', path)
    if path and config.student.get('start'):
        raise UsageError(
            'student.start takes modules of the teacher, student.pretrained a whole student: set one of them'
        )


def _check_names(config: ConfigDict) -> None:
    """Fits and assistants name stages, which are folders of the workdir."""
    stages = {'teacher', 'average', 'before', 'evaluate', 'report', 'examine',
              *map(cache_name, teachers(config)), *map(folds_name, teachers(config))}  # fmt: skip
    for kind, names, taken in (
        ('fit', config.fits, stages),
        ('assistant', config.assistants, {*stages, *config.fits}),
    ):
        for name in names:
            if name in taken:
                raise UsageError(f'{kind} {name!r} has the name of a stage; call it something else')
            if not 0 < len(name) <= LONGEST_NAME or not FOLDER_NAME.fullmatch(name):
                raise UsageError(
                    f'{kind} {name[:LONGEST_NAME]!r} names a folder: use up to {LONGEST_NAME} letters, digits, '
                    f"'_', '-', '.' and spaces, of which the first is a letter or digit"
                )


def cache_name(teacher: str) -> str:
    """Name of the stage that computes the outputs of a teacher."""
    return 'cache' if teacher == 'teacher' else f'cache_{teacher}'


def folds_name(teacher: str) -> str:
    """Name of the stage that trains a teacher for each fold of the training examples."""
    return 'folds' if teacher == 'teacher' else f'folds_{teacher}'


def _check_accept(config: ConfigDict) -> None:
    accept = config.accept
    if accept.score and accept.accuracy:
        raise UsageError(f'accept.accuracy is accept.score by another name; give one, got {accept.accuracy} and '
                         f'{accept.score}')  # fmt: skip
    if accept.method not in config.methods:
        raise unknown('method', accept.method, config.methods, ' in accept.method')
    sizes = config.data.transfer_sizes  # () is all training examples, whose number the data know
    if sizes and accept.transfer_size and accept.transfer_size not in sizes:
        raise UsageError(
            f'accept.transfer_size must be one of data.transfer_sizes {config.data.transfer_sizes} or 0, '
            f'got {accept.transfer_size}'
        )


def _check_views(config: ConfigDict) -> None:
    widths = tuple(config.data.buckets)
    if not all(map(_whole, widths)) or list(widths) != sorted(set(widths)) or (widths and widths[0] < 1):
        raise UsageError(f'data.buckets must be increasing widths >= 1, or none, got {widths}')
    if not isinstance(config.data.consistent, bool):
        raise UsageError(f'data.consistent must be True or False, got {config.data.consistent!r}')
    if not config.data.consistent and config.data.views < 2:
        raise UsageError('data.consistent=False needs data.views >= 2: of one view there is no other')


def _check_search(config: ConfigDict) -> None:
    if not isinstance(config.search, Search):
        given: Mapping[str, Any] = config.search
        raise UsageError(
            f'config.search must be a Search({{field: candidates}}) of kdjax.study.recipe.search, got {given}'
        )
    for field in config.search.candidates(config):
        if field.startswith(('teacher.', 'assistants.')):
            raise UsageError(
                f'config.search: {field!r} is of a network that teaches, which must have one value for each knob'
            )
        if not field.startswith(('terms.', 'fits.')):
            raise UsageError(
                f'config.search: {field!r} is no knob of a term or of a fit; what is structure is an axis of a sweep'
            )
