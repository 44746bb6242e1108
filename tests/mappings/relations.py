"""Relations between examples, contrast, rankings, experts: see golden_map."""

import jax
import jax.numpy as jnp
from golden import KEY, counted, layer, peer_of, seen, stages, total

from kdjax.techniques.cc import BilinearCongruence, CorrelationCongruence, NeighbourCongruence
from kdjax.techniques.crd import ContrastiveRepresentation
from kdjax.techniques.darkrank import HardRank
from kdjax.techniques.de_rrd import DistillationExperts, RelaxedRanking
from kdjax.techniques.irg import InstanceEdges, InstanceTransformation
from kdjax.techniques.logits import LogitMatching
from kdjax.techniques.pkt import LabelTransfer, ProbabilisticTransfer
from kdjax.techniques.rd import HybridRanking, PositionRanking
from kdjax.techniques.rkd import AngleRelations, DistanceRelations


def rkd(record, x):
    given, kind = record['hyperparams'], peer_of(record).split('/')[1].lower()
    fields = {'layer': 'emb', 'unit_length': given.get('with_l2_norm', False)}
    terms = {}
    if 'angle' not in kind:
        form = 'squared' if given.get('squared') else 'paper'
        terms['distance'] = DistanceRelations(form=form, weight=rkd_weight(given, kind, 'w_dist'), **fields)
    if 'dist' not in kind:
        terms['angle'] = AngleRelations(weight=rkd_weight(given, kind, 'w_angle'), **fields)
    return total(terms, seen(x))


def rkd_weight(given, kind, name):
    """The author's two classes, unlike everybody else's, leave the weights to the caller."""
    return 1.0 if kind in ('rkddistance', 'rkdangle') else given.get('loss_weight', given.get(name))


def pkt(record, x):
    kind = LabelTransfer if 'labels' in x else ProbabilisticTransfer
    return total({'pkt': kind(layer='emb', added=record['hyperparams']['eps'])}, seen(x))


def cc(record, x):
    given, peer = record['hyperparams'], peer_of(record)
    if peer == 'RepDistiller/Correlation':
        return total({'cc': NeighbourCongruence(layer='emb', width=0)}, seen(x))
    form = 'torchdistill' if peer.startswith('torchdistill/') else 'paper'
    # Without a reduction, torchdistill's norm is not divided by n^2.
    fields = {'layer': 'emb', 'form': form, 'weight': counted(given, x['student_emb'].shape[0] ** 2)}
    if given.get('kernel') == 'bilinear':
        return total({'cc': BilinearCongruence(**fields)}, seen(x))
    order = given['P' if 'P' in given else 'max_p']
    return total({'cc': CorrelationCongruence(gamma=given['gamma'], order=order, **fields)}, seen(x))


def crd(record, x):
    """Two steps: the banks of the second are those that the first left, the normalisers those that it set."""
    given = record['hyperparams']
    fields = {'layer': 'emb', 'examples': given['n_data'], 'negatives': given['nce_k'], 'width': given['feat_dim']}
    params = {side: layer(x, f'embed_{side[0]}.linear') for side in ('student', 'teacher')}
    memory = {'student_bank': x['memory_v1'], 'teacher_bank': x['memory_v2'],
              'labels': jnp.full(given['n_data'], -1)}  # fmt: skip
    losses, outputs = [], {}
    for step in ('1', '2'):
        drawn = x[f'contrast_idx{step}'][:, 1:]
        term = negatives_of(drawn)(temperature=given['nce_t'], momentum=given['nce_m'], **fields)
        inputs = seen({f'{side}_emb': x[f'{side}_emb{step}'] for side in ('student', 'teacher')})
        batch = {**inputs.batch, 'id': x[f'idx{step}'], 'labels': jnp.zeros(drawn.shape[0], int)}
        inputs = inputs._replace(batch=batch)
        if step == '1':
            memory |= jax.lax.stop_gradient(term.normalisers(params, memory, inputs, KEY))
            outputs |= {'Z_v1': jnp.exp(memory['student_log_z']), 'Z_v2': jnp.exp(memory['teacher_log_z'])}
        answer = total({'crd': term}, inputs, {'crd': params}, {'crd': memory})
        memory = answer.memory['crd']
        losses.append(answer.loss)
        outputs |= {f'loss{step}': answer.loss, f'memory_v1_after{step}': memory['student_bank'],
                    f'memory_v2_after{step}': memory['teacher_bank']}  # fmt: skip
    return answer._replace(loss=sum(losses), outputs=outputs)


def negatives_of(drawn):
    """The technique, contrasting with the rows that a peer drew."""

    class Given(ContrastiveRepresentation):
        def contrast_ids(self, *_):
            return drawn

    return Given


def irg(record, x):
    given = record['hyperparams']
    terms = {
        'vertices': LogitMatching(form='mean', weight=given['w_vert']),
        'edges': InstanceEdges(layers=(*stages(x), 'emb'), weight=given['w_edge']),
        'transformation': InstanceTransformation(layers=stages(x), weight=given['w_tran']),
    }
    return total(terms, seen(x))


def ranking(record, x):
    """The peer adds the task's own loss. Our items are the teacher's first, then those drawn."""
    given, first, drawn = record['hyperparams'], x['student_cand'].shape[1], x.get('student_dynamic_samples')
    scores = x['student_cand'] if drawn is None else jnp.concatenate([x['student_cand'], drawn], axis=1)
    teacher = jnp.broadcast_to(-jnp.arange(scores.shape[1]), scores.shape).astype(scores.dtype)
    fields = {'first': first, 'skip_label': False, 'weight': given['alpha'], 'decay': given.get('lambda_', 1.0)}
    if drawn is None:
        term = weighted(PositionRanking, x.get('weight'))(**fields)
    else:
        term = weighted(HybridRanking, x.get('weight'))(
            samples=drawn.shape[1], items=given['num_items'], slope=given['mu'], **fields
        )
    answer = total({'ranking': term}, seen({'student_logits': scores, 'teacher_logits': teacher}))
    own = jnp.sum(jax.nn.softplus(-x['student_pos']), axis=1) + jnp.sum(jax.nn.softplus(x['student_neg']), axis=1)
    weight = term.item_weights(x['student_cand'], drawn, scores.shape[1], term.knobs())
    weight = weight[:1] if drawn is None else weight
    return answer._replace(loss=answer.loss + own.mean(), outputs={'regular_loss': own.mean(), 'weight': weight})


def darkrank(record, x):
    given = record['hyperparams']
    ranked = {'length': given['permute_len'], 'unit_length': False}
    return total({'rank': HardRank(layer='emb', alpha=given['alpha'], beta=given['beta'], **ranked)}, seen(x))


def rrd(record, x):
    """The record has the scores of the items that were drawn; here they are all items, in the teacher's order."""
    (size, interesting), uninteresting = x['student_interesting'].shape, x['student_uninteresting'].shape[1]
    scores = jnp.concatenate([x['student_interesting'], x['student_uninteresting']], axis=1)

    class Drawn(RelaxedRanking):
        def drawn_ranks(self, items, keys):
            ranks = jnp.broadcast_to(jnp.arange(items), (size, items))
            return ranks[:, :interesting], ranks[:, interesting:]

    drawn = {'interesting': interesting, 'pool': interesting, 'uninteresting': uninteresting, 'skip_label': False}
    teacher = -jnp.arange(scores.shape[1]) + jnp.zeros_like(scores)
    inputs = seen({'student_logits': scores, 'teacher_logits': teacher})
    return total({'rrd': Drawn(weight=float(size), **drawn)}, inputs)


def weighted(kind, weight):
    """The technique; with a record's own sample of items, which are the last, and its weights where it has any."""

    class Given(kind):
        def drawn_items(self, items, *_):
            return jnp.arange(self.first, items)[None] + jnp.zeros((1, 1), int)

        def item_weights(self, scores, *rest):
            return super().item_weights(scores, *rest) if weight is None else jnp.broadcast_to(weight, scores.shape)

    return Given


def experts(record, x):
    """Entities are users or items; the peer sums over the batch."""
    given = record['hyperparams']
    kind, batch = ('user' if given['is_user'] else 'item'), x['batch']
    inputs = seen({f'{side}_emb': x[f'param/{kind}_emb{end}.weight'][batch]
                 for side, end in (('student', ''), ('teacher', '_teacher'))})  # fmt: skip
    count = given['num_experts']
    params = {'experts': {}, 'gate': layer(x, f'{kind}_selection_net.0')}
    for first, number in ((True, '0'), (False, '2')):
        layers = [layer(x, f'{kind}_experts.{expert}.mlp.{number}') for expert in range(count)]
        params['experts'][f'Dense_{1 - first}'] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)

    class Given(DistillationExperts):
        def noise(self, keys):
            return x['gumbel']

    width = params['experts']['Dense_0']['kernel'].shape[-1]
    term = Given(layer='emb', experts=count, width=width, temperature=given['T'], weight=float(batch.shape[0]))
    return total({'experts': term}, inputs, {'experts': params})


MAPPINGS = {
    'rkd': rkd,
    'pkt': pkt,
    'cc': cc,
    'crd': crd,
    'irg': irg,
    'ranking_distillation': ranking,
    'darkrank': darkrank,
    'rrd': rrd,
    'distillation_experts': experts,
}
