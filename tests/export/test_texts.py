"""A student of sentences reads strings as the data set read them."""

import jax
import numpy as np
import pytest

from kdjax.errors import UsageError
from kdjax.export import bundle

WORDS = ('', '<unknown>', 'a', 'film', 'good')
TASKS = {
    'bag.bag': ({'kind': 'classification.Classification', 'args': {}}, ('bad', 'good')),
    'windows.mlp': ({'kind': 'tagging.Tagging', 'args': {'tags': ['O', 'B-x', 'I-x']}}, ('O', 'B-x', 'I-x')),
}


def student(net):
    task, classes = TASKS[net]
    told = ['vocabulary', 'words'] if net == 'windows.mlp' else ['vocabulary']
    about = {
        'format': 1, 'kdjax': '', 'network': {'net': net, 'args': {'classes': len(classes)}, 'told': told},
        'task': task, 'classes': list(classes), 'facts': {'words': list(WORDS), 'vocabulary': len(WORDS)},
        'preprocess': {'kind': 'preprocess.unit'}, 'inputs': {'shape': [4], 'dtype': 'int32', 'padded': True},
        'text': {'lower': True, 'longest': 0}, 'data': {'source': 'my:data', 'args': {}, 'checksum': ''},
        'method': 'kd', 'seed': 0, 'candidate': {}, 'transfer_size': 1, 'step': 1, 'metrics': {'test': {}},
        'license': '',
    }  # fmt: skip
    empty = bundle.build(about, {})
    variables = empty.net.init(jax.random.key(0), np.ones((1, 4), np.int32))
    return bundle.build(about, jax.device_get(variables))


@pytest.mark.parametrize('net', list(TASKS))
def test_strings_are_read_as_ids_are(net, tmp_path):
    told = student(net)
    ids = np.zeros((2, 16), np.int32)
    ids[0, :3], ids[1, :2] = (2, 4, 3), (1, 3)
    sentences = ['A good film', 'unheard-of film']
    np.testing.assert_array_equal(told.logits(sentences), told.logits(ids))
    np.testing.assert_array_equal(told.predict(sentences), told.predict(ids))
    again = bundle.read(told.save(tmp_path))
    np.testing.assert_array_equal(again.logits(sentences), told.logits(ids))


def test_one_string_is_not_several():
    with pytest.raises(UsageError, match='predict takes several examples'):
        student('bag.bag').predict('A good film')
