"""Students that start from layers of their teacher, whether these are a loop or not."""

import jax
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.train.inherit import alternate, inherited, spread


def layers(count, first, scanned, cells=0):
    """Variables of a stack whose layer k has the weights first + k."""
    lead = (cells,) if cells else ()
    each = [np.full((*lead, 2), first + place, np.float32) for place in range(count)]
    norm = {'norm': {'scale': np.full((*lead, 3), first, np.float32)}}
    if scanned:
        stack = {'layers': {'layer': {'attention': {'kernel': np.stack(each, axis=len(lead))}}}}
    else:
        stack = {f'layer{place + 1}': {'attention': {'kernel': each[place]}} for place in range(count)}
    return {'params': {'decoder': {**norm, **stack}, 'words': {'table': np.full((*lead, 4), first)}}, 'stats': {}}


@pytest.mark.parametrize('cells', [0, 3])
@pytest.mark.parametrize('own', [False, True])
@pytest.mark.parametrize('others', [False, True])
@pytest.mark.parametrize(('rule', 'want'), [('spread', [10, 13]), ('alternate', [10, 12])])
def test_layers_of_the_teacher(cells, own, others, rule, want):
    student, teacher = layers(2, 0, own, cells), layers(4, 10, others)
    found = inherited(student, teacher, {'decoder': f'decoder:{rule}'}, cells=bool(cells))
    assert jax.tree.structure(found) == jax.tree.structure(student)
    decoder, axis = found['params']['decoder'], 1 if cells else 0
    for place, weight in enumerate(want):
        kernel = (np.take(np.asarray(decoder['layers']['layer']['attention']['kernel']), place, axis) if own
                  else decoder[f'layer{place + 1}']['attention']['kernel'])  # fmt: skip
        np.testing.assert_array_equal(kernel, np.full((cells, 2) if cells else 2, weight))
    assert np.all(decoder['norm']['scale'] == 10)
    assert np.all(found['params']['words']['table'] == 0), 'what is not named stays'


def test_a_layer_of_a_loop_has_a_name():
    found = inherited(layers(2, 0, True), layers(4, 10, True), {'decoder/layer2': 'decoder/layer3', 'words': 'words'})
    np.testing.assert_array_equal(found['params']['decoder']['layers']['layer']['attention']['kernel'][:, 0], [0, 12])
    assert np.all(found['params']['words']['table'] == 10)


def test_shapes_are_enough():
    student, teacher = (jax.eval_shape(lambda tree=tree: tree) for tree in (layers(2, 0, True), layers(4, 10, False)))
    assert inherited(student, teacher, {'decoder': 'decoder:spread'}) == student


def test_rules():
    assert [spread(count, 6) for count in (1, 2, 3, 6)] == [[0], [0, 5], [0, 2, 5], [0, 1, 2, 3, 4, 5]]
    assert [alternate(count, 6) for count in (1, 2, 3, 6)] == [[0], [0, 3], [0, 2, 4], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ('modules', 'said'),
    [
        ({'decoder': 'decoder:first'}, "unknown rule 'first' of layers in student.start, 'decoder:first'"),
        ({'words': 'words:spread'}, "'words' has 0 layers and 'words' of the teacher 0"),
        ({'decoder/layer3': 'decoder/layer1'}, "unknown module 'layer3' of the student"),
        ({'decoder': 'decoder'}, 'are not modules of one kind'),
        ({'': ''}, "student.start names modules of the student and of the teacher by path, got '': ''"),
        ({'decoder': ':spread'}, 'names modules of the student and of the teacher by path'),
    ],
)
def test_what_cannot_be_taken_over(modules, said):
    with pytest.raises(UsageError, match=said):
        inherited(layers(2, 0, True), layers(4, 10, True), modules)
    with pytest.raises(UsageError, match="'decoder' has 5 layers and 'decoder' of the teacher 4"):
        inherited(layers(5, 0, True), layers(4, 10, True), {'decoder': 'decoder:spread'})
