"""Language models: divergences at every token, sparse teachers, rankings, other vocabularies; see golden_map."""

import dataclasses

import jax.numpy as jnp
from golden import peer_of, seen, total

from kdjax.techniques.distillm import SkewKL, SkewReverseKL
from kdjax.techniques.f_distill import JensenShannon, SymmetricKL, TotalVariation
from kdjax.techniques.gkd import GeneralizedJSD
from kdjax.techniques.gold import MatchedTokens
from kdjax.techniques.minillm import ReverseKL
from kdjax.techniques.ranking import GapRanking, LogisticRanking, MarginRanking
from kdjax.techniques.sparse import SparseTargets
from kdjax.techniques.uld import UniversalLogits
from kdjax.techniques.word_level import WordLevel
from kdjax.types import Outputs

IGNORED = -100  # the label of a token that the peers leave out
GOLD_FLOOR = 1e-8  # of probabilities, before the logarithm


def tokens(x):
    """What terms see of a record of tokens; labels, where there are any, say which are real."""
    inputs = seen(x)
    mask = x['mask'] if 'mask' in x else x['labels'] != IGNORED if 'labels' in x else None
    mask = jnp.ones(x['student_logits'].shape[:-1]) if mask is None else mask
    return inputs._replace(batch={**inputs.batch, 'mask': mask.astype(float)})


def token_kl(record, x):
    given, peer = record['hyperparams'], peer_of(record).removesuffix(' (dense signal)')
    rest = 1 - given.get('lam', 0.9)  # DistiLLM's default
    temperature = given.get('T', 1.0)
    terms = {
        'LMOps/get_distil_loss': WordLevel(temperature=temperature),
        'distillm/forward_kl': WordLevel(temperature=temperature),
        'distillm/reverse_kl': ReverseKL(temperature=temperature),
        'distillm/symmetric_kl': SymmetricKL(temperature=temperature, share=rest, form='distillm'),
        'distillm/js_distance': JensenShannon(temperature=temperature, share=rest),
        'distillm/tv_distance': TotalVariation(temperature=temperature),
        'DistillKit/KLDLoss': WordLevel(temperature=temperature, form='kl'),
        'DistillKit/JSDLoss': JensenShannon(temperature=temperature),
        'DistillKit/TVDLoss': TotalVariation(temperature=temperature),
    }
    return total({'tokens': terms[peer]}, tokens(x))


class Given(GeneralizedJSD):
    """Of probabilities as they are, as TRL's GOLD has them."""

    def log_probabilities(self, logits, temperature):
        return jnp.log(jnp.maximum(logits, GOLD_FLOOR))


def gkd_jsd(record, x):
    given, size = record['hyperparams'], x.get('student_logits', x.get('student_probs')).shape
    kind = Given if given.get('logits_are_probs') else GeneralizedJSD
    if kind is Given:
        x = {'student_logits': x['student_probs'], 'teacher_logits': x['teacher_probs']}
    inputs = tokens(x) if len(size) == 3 else seen(x)
    count, real = jnp.sum(inputs.batch['mask']), 'labels' in x
    divisor = {'sum': 1, 'mean': count * size[-1], 'batchmean': count if real else size[0]}
    divisor = given.get('num_items_in_batch') or divisor[given.get('reduction', 'batchmean')]
    term = kind(beta=given['beta'], temperature=given.get('temperature', 1.0), form='trl')
    answer = total({'jsd': term}, inputs)
    # The peer's values of tokens that it ignores are those of any other token.
    whole = inputs._replace(batch={**inputs.batch, 'mask': jnp.ones_like(inputs.batch['mask'])})
    return answer._replace(loss=answer.loss * count / divisor, outputs=total({'jsd': term}, whole).outputs)


def skew_kl(record, x):
    given, peer = record['hyperparams'], peer_of(record)
    skew = given.get('lam', 0.1)  # DistiLLM's default
    kinds = {
        'distillm/skewed_forward_kl': SkewKL(skew=skew, form='distillm'),
        'distillm/skewed_reverse_kl': SkewReverseKL(skew=skew),
    }
    return total({'skew': kinds[peer]}, tokens(x))


def sparse(x):
    """What terms see where the teacher gives only its most probable classes: log-probabilities, or their logits."""
    inputs = tokens(x)
    top = x['teacher_logprobs'] if 'teacher_logprobs' in x else x['teacher_topk_logits']
    return inputs._replace(teacher=Outputs(None, {'top_ids': x['teacher_ids'], 'top_log_probs': top}))


def topk(record, x):
    """The peer's chunks bound its memory and change no value."""
    given, peer = record['hyperparams'], peer_of(record)
    term = SparseTargets(
        divergence={'DistillKit/KLDLoss': 'kl', 'DistillKit/JSDLoss': 'jsd', 'DistillKit/TVDLoss': 'tvd'}[peer],
        temperature=given['T'],
        generation_temperature=given['generation_T'],
        form={'zero': 'zero', 'symmetric_uniform': 'bucket'}[given['missing']],
    )
    return total({'sparse': term}, sparse(x))


def topk_ranking(record, x):
    margin, form = record['hyperparams'].get('margin'), 'distillkit'
    if 'LogisticRankingLoss' in peer_of(record):
        term = LogisticRanking(form=form)
    else:
        term = GapRanking(form=form) if margin is None else MarginRanking(margin=margin, form=form)
    return total({'ranking': term}, sparse(x))


class GivenMatched(MatchedTokens):
    """Of probabilities as they are."""

    def probabilities(self, logits, temperature):
        return logits


class GivenUnmatched(UniversalLogits):
    """Of probabilities as they are."""

    def probabilities(self, logits, temperature):
        return logits


def uld(record, x):
    given, sides = record['hyperparams'], ('student', 'teacher')
    ids = (x[f'{side}_matched_ids'].tolist() if f'{side}_matched_ids' in x else [] for side in sides)
    matched = tuple(zip(*ids, strict=True))
    left = [x[f'{side}_probs'].shape[-1] - len(matched) for side in sides]
    share = len(matched) / x['teacher_probs'].shape[-1]
    weights = given.get('weights') or (share, 1 - share)
    inputs = seen({'student_logits': x['student_probs'], 'teacher_logits': x['teacher_probs']})
    terms = {}
    if matched:
        terms['matched'] = GivenMatched(matched=matched, beta=given['beta'], weight=weights[0])
    if all(left):
        terms['unmatched'] = GivenUnmatched(matched=matched, weight=weights[1])
    parts = {name: total({name: dataclasses.replace(term, weight=1.0)}, inputs).loss for name, term in terms.items()}
    return total(terms, inputs)._replace(outputs={'matched': jnp.zeros(()), 'unmatched': jnp.zeros(()), **parts})


MAPPINGS = {
    'token_kl': token_kl,
    'gkd_jsd': gkd_jsd,
    'skew_kl': skew_kl,
    'topk_kl': topk,
    'topk_jsd': topk,
    'topk_tvd': topk,
    'topk_ranking': topk_ranking,
    'uld': uld,
}
