"""What a technique's paper sets: its terms, their weights, and the fits in their order; and the job that shows it.

The job: handwritten digits, a student of 2 thousand parameters, 250 examples, a few hundred steps. It shows that a
technique works, not what it is worth: the weights are those of the papers' far larger tasks. Techniques that read what
only a detector has are shown by that of configs/bccd.py, blood cells.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import base, bccd
from kdjax.errors import unknown

HARD = {'kind': 'cross_entropy.CrossEntropy'}
SOFT = {'kind': 'hinton.SoftTargets', 'temperature': 4.0}
# Teacher and student of the job, by kind.
NETS = {
    'cnn': ({'net': 'cnn.cnn', 'args': {'widths': (16, 32, 64)}}, {'net': 'cnn.cnn', 'args': {'widths': (4, 8, 16)}}),
    'resnet': tuple({'net': 'resnet_cifar.resnet', 'args': {'depth': depth}} for depth in (14, 8)),
    'vit': ({'net': 'vit.vit', 'args': {'width': 64}}, {'net': 'vit.vit', 'args': {'width': 16}}),
}
DETECTOR = 'detector'  # those of configs/bccd.py
SHARED = (HARD, *bccd.OF_TASK.values())  # terms of the job itself, which presets do not have each for itself
STEPS = 400  # of every fit on digits


class TermName(str):
    """A term of the same preset, as the value of another term's field."""


class Preset(NamedTuple):
    """A technique as its paper uses it. Each fit of the chain starts from the student of the one before."""

    terms: Mapping[str, Mapping[str, Any]]  # name -> 'kind', its knobs (tuples) and its fields
    chain: tuple[Mapping[str, float], ...]  # per fit, in order: term name -> weight
    # Networks of the job that shows it: 'cnn' (maps), 'resnet' (maps of one shape) or 'vit' (tokens and attention), on
    # digits, or 'detector'
    nets: str = 'cnn'
    fit: Mapping[str, Any] = {}  # what differs from a usual fit, in all of them: 'teacher', 'peers', 'optim'
    blockwise: Mapping[str, str] = {}  # where the student is cut in the first fit, and joined after it
    answer: str = ''  # term that answers in the student's place after the last fit, '' for none
    assistants: Mapping[str, Mapping[str, Any]] = {}  # name -> 'weights' of its fit, and what differs from the teacher


def config(preset: Preset, arg: str = '') -> ConfigDict:
    """The job with one technique beside the labels alone, locked. Arguments: quick (2 seeds, few steps)."""
    return job({'paper': preset}, preset.nets, arg).lock()


def job(presets: Mapping[str, Preset], nets: str, arg: str = '') -> ConfigDict:
    """The job with several techniques, one method each, unlocked. Arguments: as of `config`."""
    quick = base.arguments(arg, quick=False)['quick']
    if nets not in (*NETS, DETECTOR):
        raise unknown('networks', nets, (*NETS, DETECTOR), ' of a preset')
    found = _cells(quick) if nets == DETECTOR else _digits(nets, quick)
    found.title = 'Techniques with the weights of their papers'
    like = found.fits[found.methods[found.baseline][0]]
    for name, preset in presets.items():
        add(found, name, preset, quick, like)
    found.accept.method = next(iter(presets), found.baseline)
    return found


def _cells(quick: bool) -> ConfigDict:
    """Blood cells, with the student alone."""
    found = bccd.get_config(f'methods={bccd.FITS[bccd.ALONE]}{",quick" if quick else ""}').copy_and_resolve_references()
    found.unlock()
    return found


def _digits(nets: str, quick: bool) -> ConfigDict:
    """Digits, with the hard labels alone."""
    found = base.config()
    found.seeds = 2 if quick else 10
    found.data.transfer_sizes = (250,)
    with found.ignore_type():
        found.teacher.update(NETS[nets][0])
        found.teacher.args = ConfigDict(NETS[nets][0]['args'])
        found.student = ConfigDict(NETS[nets][1])
        found.terms = ConfigDict({'hard': HARD})
        found.fits = ConfigDict({'baseline': _fit({'hard': 1.0}, {}, quick)})
        found.methods = ConfigDict({'hard labels': ('baseline',)})
        found.teacher.fit = _fit({'hard': 1.0}, {}, quick)
    found.run.layout = 'map'  # many programs, each short: compiling them is what takes the time
    found.run.chunk, found.run.validate_every, found.run.save_every = 100, 100, STEPS
    return found


def add(config: ConfigDict, name: str, preset: Preset, quick: bool = False, like: ConfigDict | None = None) -> None:
    """Adds a technique as a method called `name`, with terms and fits of its own; these are as on digits, or `like`."""
    own = {term: term if spec in SHARED else f'{name}_{term}' for term, spec in preset.terms.items()}
    fits = [f'{name}_{number}' for number in range(1, len(preset.chain) + 1)]
    with config.ignore_type(), config.unlocked():
        for term, spec in preset.terms.items():
            config.terms[own[term]] = ConfigDict(_named(spec, own))
        for fit, weights in zip(fits, preset.chain, strict=True):
            config.fits[fit] = _fit({own[term]: weight for term, weight in weights.items()}, preset.fit, quick, like)
        config.fits[fits[0]].blockwise = ConfigDict(dict(preset.blockwise))
        config.fits[fits[-1]].answer = own.get(preset.answer, '')
        config.methods[name] = tuple(fits)
        for assistant, changes in preset.assistants.items():
            spec = config.teacher.copy_and_resolve_references()
            spec.fit = _fit({own[term]: weight for term, weight in changes['weights'].items()}, {}, quick)
            fit = changes.get('fit', {})
            spec.fit.update(fit)
            spec.update({field: value for field, value in changes.items() if field not in ('weights', 'fit')})
            config.assistants[assistant] = spec


def _fit(
    weights: Mapping[str, float], changes: Mapping[str, Any], quick: bool, like: ConfigDict | None = None
) -> ConfigDict:
    fit = base.fit() if like is None else like.copy_and_resolve_references()
    fit.weights = ConfigDict(dict(weights))
    if like is None:
        fit.steps, fit.batch_size = 20 if quick else STEPS, 64
        fit.learning_rate = fit.terms_learning_rate = 3e-3
    with fit.ignore_type():
        fit.update(changes)
    return fit


def _named(spec: Mapping[str, Any], own: Mapping[str, str]) -> dict[str, Any]:
    """The spec of a term, in which the names of other terms of its preset are those that they have here."""
    return {field: own[value] if isinstance(value, TermName) else value for field, value in spec.items()}
