"""Techniques of transformers over words, each as its paper has it, for a teacher of four layers and a student of two.

Weights, temperatures and the order of fits are those of `configs/presets`; two layers of the teacher are mapped to one
of the student, as the papers do it. What has several fits has as many updates in all as what has one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import base, preset
from configs.presets import annealing, distilbert, fsp, logits, minilm, minilmv2, pkd_bert, textbrewer, tinybert
from kdjax.errors import unknown
from kdjax.techniques.tokens import layer_map

WIDTH, TEACHER_DEPTH, DEPTH, HEADS = 64, 4, 2, 4  # as many heads on both sides: terms of attention compare head by head
NET = {'heads': HEADS, 'inner': 128, 'pooling': 'token', 'dropout': 0.3}  # with a class token, as BERT
STUDENTS = {'narrow': {**NET, 'width': WIDTH // 2, 'depth': DEPTH}, 'wide': {**NET, 'width': WIDTH, 'depth': DEPTH}}
STEPS, SHORT = 300, 40  # of all fits of a method together
HIDDEN, ATTENTION = (layer_map('skip', DEPTH, TEACHER_DEPTH, name) for name in ('hidden', 'attention'))


class Technique(NamedTuple):
    """A technique on words."""

    preset: preset.Preset
    student: str = 'narrow'  # of STUDENTS: 'wide' is as wide as the teacher, where the paper's is
    start: Mapping[str, str] = {}  # as student.start


def _last(tap: str) -> str:
    """A tap of the last layers of both."""
    return f'{tap}{DEPTH}:{tap}{TEACHER_DEPTH}'


def _on_words(known: preset.Preset, **fields: Mapping[str, Any]) -> preset.Preset:
    """A preset with other fields of its terms, by term."""
    return known._replace(terms={name: {**spec, **fields.get(name, {})} for name, spec in known.terms.items()})


# Every other layer, from the first one on, the embeddings and the class token.
EVERY_OTHER = {
    'states/words': 'states/words',
    'states/class_token': 'states/class_token',
    **{f'states/encoder/layer{k + 1}': f'states/encoder/layer{k * TEACHER_DEPTH // DEPTH + 1}' for k in range(DEPTH)},
}
TOKEN_PRODUCTS = {'kind': 'nst.TokenSelectivity', 'layers': (_last('hidden'), _last('hidden')), 'form': 'textbrewer'}
TECHNIQUES: Mapping[str, Technique] = {
    'tinybert': Technique(
        _on_words(tinybert.PRESET, attention={'layers': ATTENTION}, hidden={'layers': HIDDEN})
    ),
    'minilm': Technique(
        _on_words(
            minilm.PRESET,
            attention={'layer': _last('attention')},
            values={'layer': _last('value'), 'heads': HEADS},
        )
    ),
    'minilmv2': Technique(
        # As in the paper more relation heads than heads of attention.
        _on_words(
            minilmv2.PRESET,
            relations={**{part: _last(part) for part in ('query', 'key', 'value')}, 'heads': 2 * HEADS},
        )
    ),
    'pkd': Technique(
        _on_words(pkd_bert.PRESET, patient={'layers': HIDDEN[:-1], 'projection': False}), student='wide'
    ),
    'distilbert': Technique(
        _on_words(distilbert.PRESET, cosine={'layers': (_last('hidden'),), 'projection': False}),
        student='wide',
        start=EVERY_OTHER,
    ),
    'annealing': Technique(annealing.PRESET),
    'logits': Technique(logits.PRESET),  # what Tang et al. (2019) take
    'textbrewer': Technique(
        _on_words(textbrewer.PRESET, attention={'layers': ATTENTION}, hidden={'layers': HIDDEN})
    ),
    # TextBrewer's maximum mean discrepancy beside its soft targets, with equal weights as in its examples.
    'nst': Technique(
        preset.Preset({'soft': textbrewer.PRESET.terms['soft'], 'nst': TOKEN_PRODUCTS}, ({'soft': 1.0, 'nst': 1.0},))
    ),
    'fsp': Technique(_on_words(fsp.PRESET, fsp={'layers': ('embedding', *HIDDEN), 'form': 'mean'})),
}  # fmt: skip


def teach(config: ConfigDict, names: Sequence[str], quick: bool = False) -> None:
    """Makes of a config of sentences one with a transformer that teaches, and with these techniques as methods.

    The student is that of the first of them.

    Raises:
      UsageError: there is no technique of a name.
    """
    for name in names:
        if name not in TECHNIQUES:
            raise unknown('technique', name, TECHNIQUES)
    first = TECHNIQUES[names[0]]
    with config.ignore_type():
        config.teacher.update({'net': 'transformer.encoder', 'mode': 'online', 'inputs': 'inputs', 'folds': 0})
        config.teacher.args = ConfigDict({**NET, 'width': WIDTH, 'depth': TEACHER_DEPTH})
        config.student.update({'net': 'transformer.encoder', 'start': ConfigDict(dict(first.start))})
        config.student.args = ConfigDict(STUDENTS[first.student])
        config.fits = ConfigDict({'baseline': base.fit(hard=1.0), 'combined': base.fit(hard=0.3, soft=0.7)})
        config.methods = ConfigDict({'hard labels': ('baseline',), 'soft and hard': ('combined',)})
    for name in names:
        preset.add(config, name, TECHNIQUES[name].preset)
    _lengths(config, SHORT if quick else STEPS)
    config.teacher.fit.update({'steps': 480, 'batch_size': 32, 'learning_rate': 1e-3, 'weight_decay': 1e-2})


def _lengths(config: ConfigDict, steps: int) -> None:
    """Gives every method the same number of updates, and what anneals the length of its fit."""
    for fits in config.methods.values():
        for name in fits:
            fit = config.fits[name]
            fit.update({'steps': steps // len(fits), 'batch_size': 16, 'learning_rate': 2e-3, 'weight_decay': 1e-2})
            for term in fit.weights:
                if 'steps' in config.terms[term]:
                    config.terms[term].steps = fit.steps
