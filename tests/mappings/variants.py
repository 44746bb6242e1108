"""Records of soft labels with learned, weighted or dynamic parts, and of peers and self-supervision."""

import jax.numpy as jnp
from golden import Answer, batch_norm, layer, seen, total

from kdjax.techniques.ctkd import CurriculumTemperature
from kdjax.techniques.dynamic_temperature import DynamicTemperature
from kdjax.techniques.mutual import MutualLearning
from kdjax.techniques.ofa import OneForAll
from kdjax.techniques.skd import StreamlinedDirection, StreamlinedInstance
from kdjax.techniques.srrl import SoftmaxRegression
from kdjax.techniques.sskd import SelfSupervised
from kdjax.techniques.uskd import SelfTargets
from kdjax.techniques.wsld import WeightedSoftLabels


def ctkd(record, x):
    given = record['hyperparams']
    if 'epochs' in x:
        return ctkd_curriculum(given, x['epochs'])
    strength = -given['lambda_']  # the peer's sign is in lambda
    term = CurriculumTemperature(lowest=given['t_start'], span=given['t_end'], start=strength, end=strength)
    params = {'theta': x['param/global_T'][0]}
    answer = total({'ctkd': term}, seen(x), {'ctkd': params})
    temperature = term.temperature(params, seen(x), term.knobs(), strength)
    return answer._replace(outputs={**answer.outputs, 'temperature': temperature[None]})


def ctkd_curriculum(given, epochs):
    """lambda per epoch; the peer's line stops one epoch before its end."""
    length = given['num_loops']

    def at(shape, epoch):
        terms = CurriculumTemperature(start=given['max_value'], end=given['min_value'], steps=length, shape=shape)
        return terms.strength(epoch)

    cosine = at('cosine', epochs)
    return Answer(jnp.sum(cosine), {'cosine': cosine, 'linear': at('linear', jnp.minimum(epochs, length - 1))}, {})


def ofa(record, x):
    given = record['hyperparams']
    return total({'ofa': OneForAll(gamma=given['eps'], temperature=given['T'])}, seen(x))


def dynamic_temperature(record, x):
    given = record['hyperparams']
    beta, *gamma = given['args']
    term = DynamicTemperature(
        form=given['scheduler'], temperature=given['T'], beta=beta, gamma=(gamma or [1.0])[0], lowest=0.0
    )
    answer = total({'soft': term}, seen(x))
    return answer._replace(outputs={**answer.outputs, 'temperature': term.temperatures(seen(x), term.knobs())})


def dml(record, x):
    inputs = seen(x)
    peers = jnp.stack([inputs.student.logits, inputs.teacher.logits], axis=1)
    student = inputs.student._replace(features={'peers': peers})
    return total({'mutual': MutualLearning(form='first')}, inputs._replace(student=student))


def srrl(record, x):
    given = record['hyperparams']
    term = SoftmaxRegression(layer='feat', alpha=given['alpha'], beta=given['beta'])
    connector = {
        'Dense_0': {'kernel': layer(x, 'Connectors.0')['kernel'][0, 0]},
        'BatchNorm_0': batch_norm(x, 'Connectors.1'),
    }
    classifier = {'kernel': x['teacher_fc.weight'].T, 'bias': x['teacher_fc.bias']}
    inputs, params = seen(x), {'connector': connector, 'classifier': classifier}
    answer = total({'srrl': term}, inputs, {'srrl': params})
    return answer._replace(outputs={'logit_st': term.logits(params, term.representations(params, inputs)[0])})


def wsld(record, x):
    given = record['hyperparams']
    return total({'wsld': WeightedSoftLabels(temperature=given['T'], weight=given['alpha'])}, seen(x))


def uskd(record, x):
    given = record['hyperparams']
    term = SelfTargets(layer='feat_mid', alpha=given['alpha'], beta=given['beta'], mu=given['mu'], form='cls_KD')
    return total({'uskd': term}, seen(x), {'uskd': layer(x, 'fc')})


def skd(record, x):
    given = record['hyperparams']
    code = given.get('mode') == 'code'
    if record['peer']['object'] == 'SKDInstanceLoss':
        form = 'scaled' if code else 'paper'
        return total({'skd': StreamlinedInstance(temperature=given['T'], unsure_only=code, form=form)}, seen(x))
    form = 'code' if code else 'paper'
    return total({'skd': StreamlinedDirection(tikhonov=given['tikhonov'], form=form)}, seen(x))


def sskd(record, x):
    """The peer's batch has the four views of an example one after another."""
    given = record['hyperparams']
    hard, soft, similarity, rotated = given['loss_weights']
    term = SelfSupervised(
        hard=hard,
        soft=soft,
        similarity=similarity,
        rotated=rotated,
        temperature=given['kl_temp'],
        similarity_temperature=given['ss_temp'],
        rotated_temperature=given['tf_temp'],
        similarity_share=given['ss_ratio'],
        rotated_share=given['tf_ratio'],
    )
    views = {name: leaf if name == 'labels' else leaf.reshape(-1, 4, leaf.shape[1]) for name, leaf in x.items()}
    names = {'logits': 'rotated', 'ss': 'rotated_penult'}
    renamed = {f'{side}_{new}': views[f'{side}_{old}'] for side in ('student', 'teacher') for old, new in names.items()}
    return total({'sskd': term}, seen({**renamed, 'labels': x['labels']}))


MAPPINGS = {
    'ctkd': ctkd,
    'ofa': ofa,
    'dynamic_temperature': dynamic_temperature,
    'dml': dml,
    'srrl': srrl,
    'skd': skd,
    'sskd': sskd,
    'wsld': wsld,
    'uskd': uskd,
}
