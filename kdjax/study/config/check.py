"""What a config alone can show to be wrong: types, ranges, names. Without JAX, so that the answer comes at once."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from kdjax.errors import Problems, UsageError, shown, unknown
from kdjax.export import WEIGHTS, formats
from kdjax.study.config import schema, transfer

RATES = ('learning_rate', 'weight_decay', 'terms_learning_rate', 'terms_weight_decay')
# Numbers of a fit beside the weights of its terms
KNOBS = (*RATES, 'sparsity', 'bits', 'input_bits', 'rank', 'on_policy', 'sampling_temperature')
SEEDS = 2**32  # random keys are made of 32 bits
MOST_CELLS = 100_000  # of a grid: sizes x candidates x seeds
FOLDER_NAME = re.compile(r'\w[\w .-]*')
LONGEST_NAME, LONGEST_CHAIN = 80, 200  # a stage is a folder, and chains join names


def check_fields(config: ConfigDict) -> None:
    """Checks every field by itself.

    Raises:
      UsageError: all that is wrong, one a line.
    """
    problems = Problems()
    for message in schema.check(config)[0]:
        problems.add(message)
    problems.report()


def check(config: ConfigDict) -> None:
    """Checks all that needs neither networks nor terms nor data: every field, and those that name others.

    Raises:
      UsageError: all that is wrong, one a line.
    """
    problems = Problems()
    messages, typed = schema.check(config)
    for message in messages:
        problems.add(message)
    if typed:
        wholes = (_check_start, _check_methods, _check_accept, _check_seeds, _check_views, _check_search, _check_names)
        for checked in wholes:
            with problems.collected():
                checked(config)
        for name, fit in _fits(config).items():
            with problems.collected(f'fit {name!r}'):
                _check_fit(config, fit)
        for name, spec in teachers(config).items():
            with problems.collected():
                _check_teacher(name, spec, teachers(config))
        with problems.collected():
            transfer.check(config, teachers(config))
    problems.report()


def teachers(config: ConfigDict) -> dict[str, ConfigDict]:
    """All networks that teach, by name: 'teacher' and the assistants."""
    return {'teacher': config.teacher, **{name: config.assistants[name] for name in sorted(config.assistants)}}


def _fits(config: ConfigDict) -> dict[str, ConfigDict]:
    return {**{name: spec.fit for name, spec in teachers(config).items()}, **dict(config.fits.items())}


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
        if len('+'.join(fits)) > LONGEST_CHAIN:
            raise UsageError(
                f'the fits of method {method!r} name a folder together: use {LONGEST_CHAIN} letters at most'
            )
        for later in fits[1:]:
            if config.fits[later].peers > 1:
                raise UsageError(f'fit {later!r} of method {method!r} has peers, so it must be the first of its method')


def _check_fit(config: ConfigDict, fit: ConfigDict) -> None:
    for name in fit.weights:
        if name not in config.terms:
            raise unknown('term', name, config.terms, ' in the weights of a fit')


def _check_teacher(name: str, spec: ConfigDict, known: Mapping[str, ConfigDict]) -> None:
    _check_weights(f'{name}.weights', spec.weights)
    if spec.pretrained not in known:
        _check_weights(f'{name}.pretrained', spec.pretrained)
    if spec.weights and spec.pretrained:
        raise UsageError(f'{name}.weights are not trained and {name}.pretrained are: set one of them, not both')
    if spec.folds and (spec.mode != 'cached' or spec.weights or spec.folds < 2):
        raise UsageError(
            f"{name}.folds are 2 or more networks that are trained and then cached: set mode='cached' and weights='', "
            f'got folds={spec.folds}, mode={spec.mode!r}, weights={shown(spec.weights)}'
        )
    if spec.folds and spec.members > 1:
        raise UsageError(f'{name}.folds and {name}.members cannot both be several, got {spec.folds} and {spec.members}')
    if spec.weights and spec.members > 1:
        raise UsageError(f'{name}.weights are of one network, and {name}.members is {spec.members}')
    if spec.fit.peers > 1:
        raise UsageError(f'peers of {name}.fit must be 1, got {spec.fit.peers}; for several teachers set members')
    if spec.fit.answer:
        raise UsageError(f"answer of {name}.fit is of students: set it to '', got {spec.fit.answer!r}")
    if spec.outputs:
        _check_outputs(name, spec)
    if spec.team:
        _check_team(name, spec, known)


def _check_outputs(name: str, spec: ConfigDict) -> None:
    """A teacher that is a table is asked nothing, and so is of no network."""
    if not Path(spec.outputs).is_file():
        raise UsageError(f'{name}.outputs: no file of what a network answered: {spec.outputs!r}')
    for field, none in (('weights', ''), ('pretrained', ''), ('members', 1), ('folds', 0), ('bound', 0.0)):
        if spec[field] != none:
            raise UsageError(f'{name}.outputs stand for a network, which has no {field}: set {name}.{field}={none!r}, '
                             f'got {spec[field]!r}')  # fmt: skip
    if spec.mode != 'cached':
        raise UsageError(f"{name}.outputs can only be looked up: set {name}.mode='cached', got {spec.mode!r}")


def _check_team(name: str, spec: ConfigDict, known: Mapping[str, ConfigDict]) -> None:
    """Networks that teach together are asked about the same task, and read the same."""
    for one in spec.team:
        if one not in known or one == name:
            raise unknown('network', one, [other for other in known if other != name], f' of {name}.team')
    if len(set(spec.team)) < max(2, len(spec.team)):
        raise UsageError(f'{name}.team must name two networks or more, each once, got {tuple(spec.team)}')
    for field, none in (('weights', ''), ('pretrained', ''), ('outputs', ''), ('members', 1), ('folds', 0)):
        if spec[field] != none:
            raise UsageError(f'{name}.team stands for a network, and has no {field} of its own: set {name}.{field}='
                             f'{none!r}, got {spec[field]!r}')  # fmt: skip
    for one in spec.team:
        if known[one].outputs:
            raise UsageError(f'{name}.team: {one!r} is a table of answers, and a team is of networks')
        if known[one].fit.examples == schema.EXAMPLES[-1]:
            raise UsageError(f'{name}.team: {one!r} learns upstream, of another task')
        for field in ('folds', 'keep', 'bound', 'precision'):
            if known[one][field]:
                raise UsageError(f'{name}.team: {one!r} teaches with the others, and {field} is of who teaches alone: '
                                 f'leave {one}.{field} out, got {known[one][field]!r}')  # fmt: skip
        for field in ('inputs', 'preprocess', 'data_args'):
            if known[one][field] != spec[field]:
                raise UsageError(f'{name}.team reads as one: {one}.{field} must be as {name}.{field}, '
                                 f'{shown(_said(spec[field]))}, got {shown(_said(known[one][field]))}')  # fmt: skip


def _said(value: Any) -> Any:
    return value.to_dict() if isinstance(value, ConfigDict) else value


def weights_file(path: str) -> Path:
    """The file of weights that a path means: of the folder of an exported student that inside."""
    return Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)


def _check_weights(field: str, path: str) -> None:
    if path and not weights_file(path).is_file():
        raise UsageError(f'{field}: no file of weights, and no folder of an exported student: {path!r}')


def _check_start(config: ConfigDict) -> None:
    """Where students start is one place."""
    path = config.student.get('pretrained', '')
    if path not in teachers(config):
        _check_weights('student.pretrained', path)
    if path and config.student.get('start'):
        raise UsageError(
            'student.start takes modules of the teacher, student.pretrained a whole student: set one of them'
        )
    if (config.teacher.outputs or config.teacher.team) and config.student.get('start'):
        said = 'outputs are of no network that is here' if config.teacher.outputs else 'team is of several networks'
        raise UsageError(f'student.start takes modules of the teacher, and teacher.{said}')


def _check_names(config: ConfigDict) -> None:
    """Fits and assistants name stages, which are folders of the workdir."""
    stages = {'teacher', 'average', 'before', 'dense', 'evaluate', 'report', 'examine', 'grid', 'rung',
              *map(cache_name, teachers(config)), *map(folds_name, teachers(config))}  # fmt: skip
    for kind, names, taken in (
        ('fit', config.fits, stages),
        ('assistant', config.assistants, {*stages, *config.fits}),
        ('term', config.terms, ()),
    ):
        for name in names:
            if name in taken:
                raise UsageError(f'{kind} {name!r} has the name of a stage; call it something else')
            if not 0 < len(name) <= LONGEST_NAME or not FOLDER_NAME.fullmatch(name):
                raise UsageError(
                    f'{kind} {shown(name)} names a folder: use up to {LONGEST_NAME} letters, digits, '
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
    if accept.file:
        formats.named(accept.file)
    elif accept.latency_ms or accept.max_ram_kilobytes:
        raise UsageError(
            f'accept.latency_ms and accept.max_ram_kilobytes are of a file: set accept.file to one of '
            f'{", ".join(formats.FORMATS)}, got {accept.latency_ms:g} and {accept.max_ram_kilobytes:g}'
        )
    sizes = config.data.transfer_sizes  # () is all training examples, whose number the data know
    if sizes and accept.transfer_size and accept.transfer_size not in sizes:
        raise UsageError(
            f'accept.transfer_size must be one of data.transfer_sizes {shown(config.data.transfer_sizes)} or 0, '
            f'got {accept.transfer_size}'
        )


def _check_seeds(config: ConfigDict) -> None:
    if config.seed + config.seeds > SEEDS:
        raise UsageError(f'seed + seeds must be at most {SEEDS}, got {config.seed} + {config.seeds}')


def _check_views(config: ConfigDict) -> None:
    if not config.data.consistent and config.data.views < 2:
        raise UsageError('data.consistent=False needs data.views >= 2: of one view there is no other')


def _check_search(config: ConfigDict) -> None:
    cells = len(config.data.transfer_sizes or (0,)) * config.seeds
    for field, values in config.search.candidates(config).items():
        if field.startswith(('teacher.', 'assistants.')):
            raise UsageError(
                f'config.search: {field!r} is of a network that teaches, which must have one value for each knob'
            )
        if not field.startswith(('terms.', 'fits.')):
            raise UsageError(
                f'config.search: {field!r} is no knob of a term or of a fit; what is structure is an axis of a sweep'
            )
        if cells * len(values) > MOST_CELLS:
            raise UsageError(
                f'config.search: {len(values)} candidates of {field!r} for {cells} sizes and seeds are more than '
                f'{MOST_CELLS} cells; give it fewer, or lower seeds'
            )
