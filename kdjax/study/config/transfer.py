"""What is wrong with who learns from which data set, and with who starts as whom. Without JAX."""

import itertools
from collections.abc import Mapping

from ml_collections import ConfigDict

from kdjax.errors import UsageError
from kdjax.study.config.schema import EXAMPLES

UPSTREAM = EXAMPLES[-1]


def check(config: ConfigDict, teachers: Mapping[str, ConfigDict]) -> None:
    """Raises UsageError for the first thing that is wrong with fits upstream and with networks that start as others.

    Args:
      config: every field of which has its type, and names what there is.
      teachers: the networks that teach, by name.
    """
    used = {name: config.fits[name] for fits in config.methods.values() for name in fits if name in config.fits}
    for name, fit in {**used, **{name: spec.fit for name, spec in teachers.items()}}.items():
        _check_fit(config, name, fit)
    everyone = [*used.values(), config.teacher.fit, *(spec.fit for spec in config.assistants.values())]
    if config.upstream.source and not any(map(_upstream, everyone)):
        raise UsageError(f'upstream.source={config.upstream.source!r} is a data set that no fit learns from: give one '
                         "examples='upstream', or leave it out")  # fmt: skip
    if _upstream(config.teacher.fit):
        raise UsageError("teacher.fit teaches the task of `data`, so its examples cannot be 'upstream': give that fit "
                         'to an assistant, and name it in teacher.pretrained')  # fmt: skip
    for method, names in config.methods.items():
        _check_order(config, method, [name for name in names if name in config.fits])
    for name, spec in teachers.items():
        _check_parent(f'{name}.pretrained', spec.pretrained, name, teachers)
        if spec.pretrained in teachers and not _upstream(teachers[spec.pretrained].fit) and _upstream(spec.fit):
            raise UsageError(f'{name}.pretrained: {spec.pretrained!r} learns from `data`, and {name!r} upstream, which '
                             'comes first')  # fmt: skip
    _check_parent('student.pretrained', config.student.get('pretrained', ''), '', teachers)


def _upstream(fit: ConfigDict) -> bool:
    return fit.examples == UPSTREAM


def _check_fit(config: ConfigDict, name: str, fit: ConfigDict) -> None:
    if _upstream(fit) and not config.upstream.source:
        raise UsageError(f"fit {name!r} has examples='upstream', and there is no such data set: set upstream.source")
    if _upstream(fit) and fit.change:
        raise UsageError(f'fit {name!r} is upstream and has change {fit.change.kind!r}: change the student in a fit on '
                         '`data`')  # fmt: skip
    if not fit.trains:
        return
    for field, value in (('optim.ema', fit.optim.get('ema')), ('optim.pruning', fit.optim.get('pruning')),
                         ('change', fit.change), ('peers', fit.peers > 1 and fit.peers),
                         ('optim.name', fit.optim.get('name') == 'dot' and 'dot')):  # fmt: skip
        if value:
            said = value.to_dict() if isinstance(value, ConfigDict) else value
            raise UsageError(f'fit {name!r} trains {tuple(fit.trains)} alone, and {field} is of whole networks: leave '
                             f'trains=(), or {field} out, got {said!r}')  # fmt: skip


def _check_order(config: ConfigDict, method: str, names: list[str]) -> None:
    """Fits upstream come first, and the last is on the data of the task."""
    for earlier, later in itertools.pairwise(names):
        if _upstream(config.fits[later]) and not _upstream(config.fits[earlier]):
            raise UsageError(f'fit {later!r} of method {method!r} is upstream and comes after {earlier!r}, which is on '
                             '`data`: put it first')  # fmt: skip
        teacher = config.fits[later].teacher
        if _upstream(config.fits[earlier]) and not _upstream(config.fits[later]) and teacher in ('before', 'dense'):
            raise UsageError(f'fit {later!r} has the teacher {teacher!r}, which is the student upstream, of another '
                             'task; name a network that teaches')  # fmt: skip
    if names and _upstream(config.fits[names[-1]]):
        raise UsageError(f'method {method!r} ends with fit {names[-1]!r}, which is upstream; end it with one on `data`')


def _check_parent(field: str, name: str, own: str, teachers: Mapping[str, ConfigDict]) -> None:
    """A network that others start as is one network, and another."""
    if name not in teachers:
        return
    if name == own:
        raise UsageError(f'{field} is {name!r} itself; name another network')
    several = len(teachers[name].team) or teachers[name].members
    if teachers[name].outputs or several > 1:
        what = 'a table of answers' if teachers[name].outputs else f'{several} networks'
        raise UsageError(f'{field}: {name!r} is {what}, and one network is what others can start as')
