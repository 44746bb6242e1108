"""Techniques that classification of images cannot feed: the pipeline gives each of them what it reads.

Each run has one fit with many terms, of two steps: every term has a finite value there, and teaches something.
"""

import json
import math

import pytest
import rotation
from sentences import TAGS

from configs import base
from kdjax.study.recipe import build, execute, plan
from kdjax.study.recipe.context import Context
from kdjax.study.recipe.resolve import resolve
from kdjax.study.sweep.rows import applied
from kdjax.train.screen import Screen
from kdjax.train.stop import StopSignals

TOKENS = {
    'tinybert.AttentionScores': {'layers': ('attention1:attention2',)},
    'tinybert.HiddenStates': {'layers': ('embedding', 'hidden1:hidden2')},
    'minilm.AttentionDistributions': {'layer': 'attention1:attention2'},
    'minilm.ValueRelations': {'layer': 'value1:value2', 'heads': 2},
    'minilmv2.SelfAttentionRelations': {
        **{part: f'{part}1:{part}2' for part in ('query', 'key', 'value')}, 'heads': 4,
    },
    'distilbert.HiddenDirections': {'layers': ('hidden1:hidden2',), 'projection': True},
    'textbrewer.AttentionMatch': {'layers': ('attention1:attention2',), 'form': 'mse'},
    'nst.TokenSelectivity': {'layers': ('hidden1:hidden2', 'hidden1:hidden2')},
    'fsp.Flow': {'layers': ('embedding', 'hidden1:hidden2'), 'widened': True, 'form': 'mean'},
}  # fmt: skip
# Of a class token alone.
SENTENCES = {**TOKENS, 'pkd_bert.PatientTeacher': {'layers': ('hidden1:hidden2',), 'projection': True}}
# uld and gold are fed token by token, and by a teacher of other classes; that of other tokens is a language model's.
LANGUAGE = {
    'gkd.GeneralizedJSD': {'beta': 0.1},
    'minillm.ReverseKL': {},
    'distillm.SkewKL': {},
    'distillm.SkewReverseKL': {},
    'f_distill.TotalVariation': {},
    'f_distill.JensenShannon': {},
    'f_distill.SymmetricKL': {},
    'word_level.WordLevel': {},
    'uld.UniversalLogits': {},
    'gold.MatchedTokens': {},
}
OTHER_CLASSES = {'uld.UniversalLogits': {}, 'gold.MatchedTokens': {'matched': ((0, 0), (1, 1))}}
KEPT = {
    'sparse.SparseTargets': {},
    'ranking.LogisticRanking': {},
    'ranking.MarginRanking': {},
    'ranking.GapRanking': {},
}
BOXES = {'fgd.FocalGlobal': {'layer': 'stage1'}}
DETECTED = {
    'localization.Localization': {'per': 'anchor', 'confidence': 'logits'},
    'gfl.DistributionFocal': {},
    'giou.GeneralizedIoU': {},
}

SHORT = {
    'seeds': 1, 'data.transfer_sizes': (24,), 'baseline': 'fed', 'accept.method': 'fed', 'teacher.fit.steps': 2,
    'teacher.fit.batch_size': 8, 'run.chunk': 2, 'run.validate_every': 2,
}  # fmt: skip
SMALL = {'heads': 2, 'inner': 8, 'width': 4}
OF_SENTENCES = {
    'data.source': 'sentences:sentences', 'student.net': 'transformer.encoder', 'teacher.net': 'transformer.encoder',
    'student.args': {**SMALL, 'depth': 1, 'pooling': 'token'},
    'teacher.args': {**SMALL, 'width': 8, 'depth': 2, 'pooling': 'token'}, 'teacher.mode': 'online',
}  # fmt: skip
OF_TOKENS = {
    'task': {'kind': 'tagging.Tagging', 'tags': TAGS}, 'data.source': 'sentences:tagged',
    'student.net': 'transformer.tagger', 'student.args': {**SMALL, 'depth': 1}, 'teacher.net': 'transformer.tagger',
    'teacher.args': {**SMALL, 'width': 8, 'depth': 2},
}  # fmt: skip
# name of a run -> its terms, and what its config changes
RUNS = {
    'sentences': (SENTENCES, OF_SENTENCES),
    'tagged': (TOKENS | LANGUAGE, {**OF_TOKENS, 'teacher.mode': 'online'}),
    'kept': (KEPT, {**OF_TOKENS, 'teacher.keep': 2}),
    'other classes': (OTHER_CLASSES, {**OF_SENTENCES, 'teacher.args': {**SMALL, 'depth': 1, 'classes': 3}}),
    'boxes': (
        BOXES,
        {
            'data.source': 'blobs:boxed', 'student.net': 'cnn.cnn', 'teacher.net': 'cnn.cnn',
            'student.args': {'widths': (4,)}, 'teacher.args': {'widths': (8,)}, 'teacher.mode': 'online',
        },
    ),
    'detected': (
        DETECTED,
        {
            'task': {'kind': 'detection.Detection', 'classes': ('upright', 'lying'), 'strides': (4,), 'bins': 4},
            'data.source': 'blobs:detected', 'terms.hard': {'kind': 'gfl.QualityFocal'},
            'student.net': 'gfl.detector', 'teacher.net': 'gfl.detector', 'teacher.mode': 'online',
            'student.args': {'strides': (4,), 'widths': (3, 4), 'counts': (0, 1), 'neck': 4, 'bins': 4},
            'teacher.args': {'strides': (4,), 'widths': (4, 6), 'counts': (0, 1), 'neck': 6, 'bins': 4},
        },
    ),
}  # fmt: skip


@pytest.fixture(scope='module')
def values(tmp_path_factory):
    """From the name of a run to the values of its terms in both steps, by kind."""
    known = {}

    def of(name):
        if name not in known:
            known[name] = ran(*RUNS[name], tmp_path_factory.mktemp('fed'))
        return known[name]

    return of


def named(terms):
    return {kind: kind.partition('.')[2] for kind in terms}


def resolved(terms, changes):
    names = named(terms)
    config = base.config()
    with config.unlocked(), config.ignore_type():
        config.terms.update({names[kind]: {'kind': kind, **fields} for kind, fields in terms.items()})
        config.fits.fed = base.fit(hard=1.0, **dict.fromkeys(names.values(), 1.0))
        config.methods = {'fed': ('fed',)}
    config.fits.fed.update({'steps': 2, 'batch_size': 8})
    return resolve(applied(config.lock(), {**SHORT, **changes}))


def ran(terms, changes, workdir):
    recipe = resolved(terms, changes)
    plan.check_shapes(recipe, build.dataset(recipe.data))
    context = Context(recipe.execution, Screen(quiet=True), StopSignals())
    todo = [stage for name, stage in plan.stages_of(recipe).items() if name != 'evaluate']
    execute.execute(todo, context, workdir)
    lines = [json.loads(line) for line in (context.done['fed'].folder / 'ledger.jsonl').read_text().splitlines()]
    steps = [line for line in lines if line['kind'] == 'train']
    assert len(steps) == 2
    return {kind: [step[f'term/{name}'][0] for step in steps] for kind, name in named(terms).items()}


# A run is made once, by the worker that has all of its tests.
FED = [pytest.param(run, kind, marks=[pytest.mark.xdist_group(f'fed {run}'), turn])
       for (run, (terms, _)), turn in zip(RUNS.items(), rotation.turns(['run'] * len(RUNS), ways=2), strict=True)
       for kind in terms]  # fmt: skip


@pytest.mark.parametrize(('run', 'kind'), FED)
def test_the_pipeline_feeds_it(run, kind, values):
    found = values(run)[kind]
    assert all(value is not None and math.isfinite(value) and value > 0 for value in found), found
