"""Recommenders: see golden_map. The peers sum over a batch, so its size is our weight."""

import jax.numpy as jnp
from golden import Answer, seen, total

from kdjax.techniques.bpr import PairwiseRanking
from kdjax.techniques.de_rrd import CandidateRanking


def bpr(record, x):
    users, items = x['param/user_emb.weight'], x['param/item_emb.weight']
    user, positive, negative = users[x['users']], items[x['positives']], items[x['negatives']]
    scores = {name: jnp.sum(user * item, axis=1, keepdims=True)
              for name, item in (('pos_score', positive), ('neg_score', negative))}  # fmt: skip
    inputs = seen({'student_positive': scores['pos_score'], 'student_negative': scores['neg_score']})
    answer = total({'bpr': PairwiseRanking(weight=float(len(user)))}, inputs)
    return Answer(answer.loss, {**answer.outputs, **scores}, answer.memory)


def relaxed_ranking(record, x):
    return total({'rrd': CandidateRanking(weight=float(x['student_interesting'].shape[0]))}, seen(x))


MAPPINGS = {'bpr': bpr, 'relaxed_ranking': relaxed_ranking}
