"""Students that answer with what a term learned: the teacher's last layer, a head that corrects them."""

import json

import numpy as np
import pytest

import kdjax
from configs import preset
from configs.presets import residual, simkd
from kdjax.data import digits
from kdjax.errors import UsageError
from kdjax.study import run
from kdjax.study.recipe.resolve import resolve

pytestmark = pytest.mark.xdist_group('heads')


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('heads')
    alone = residual.PRESET._replace(chain=residual.PRESET.chain[-1:])
    config = preset.job({'simkd': simkd.PRESET, 'residual': alone}, 'cnn', 'quick')
    config.seeds = 1
    config.teacher.args.widths, config.student.args.widths = (4, 4, 8), (2, 2, 4)
    run.run(config.lock(), workdir, 'command')
    return workdir


@pytest.mark.parametrize('method', ['simkd', 'residual'])
def test_the_student_in_the_hand_answers_as_the_one_that_was_measured(finished, tmp_path, method):
    student, test = kdjax.load(finished, method), digits.digits().splits['test']
    (place,) = finished.glob('evaluate-*')
    logits, kept = student.logits(test.inputs), np.load(place / 'predictions.npz')[f'{method}/250']
    np.testing.assert_allclose(logits, kept, atol=1e-5)
    assert not np.allclose(logits, np.load(place / 'predictions.npz')['hard labels/250'], atol=1e-2)
    exported = kdjax.load(student.save(tmp_path / method))
    np.testing.assert_array_equal(exported.logits(test.inputs), logits)


def test_what_answers_is_counted_in_the_cost_of_its_method_alone(finished):
    (place,) = finished.glob('evaluate-*/artifact.json')
    measured = json.loads(place.read_text())['result']
    params = {method: cost['params'] for method, cost in measured['costs'].items()}
    teacher = 8 * 10 + 10  # the teacher's last layer
    projector = 4 * 4 + 9 * 4 * 4 + 4 * 8 + 2 * (4 + 4 + 8)
    assert params['simkd'] - measured['cost']['params'] == projector + teacher
    assert set(params) == {'simkd', 'residual'}
    assert params['residual'] - measured['cost']['params'] == (4 * 32 + 32) + (32 * 10 + 10)


@pytest.mark.parametrize('answer', ['hard', 'simkd2'])
def test_only_a_term_of_the_fit_with_an_answer_can_give_one(answer):
    config = preset.job({'simkd': simkd.PRESET}, 'cnn', 'quick')
    config.fits.simkd_1.weights['hard'] = 1.0
    config.fits.simkd_1.answer = answer
    with pytest.raises(UsageError, match=f"unknown term '{answer}' that can answer.*'simkd_simkd'"):
        resolve(config.lock())
