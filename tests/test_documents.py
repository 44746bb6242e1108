"""What the documents say is so: tables come from results, the worked example works, commands are those tested."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from configs.sweeps import presets as sweep
from experiments import pages
from kdjax.study.report import technique_list
from kdjax.testing import world

ROOT = Path(__file__).resolve().parents[1]
PUBLISH = runpy.run_path(str(ROOT / 'experiments' / 'publish.py'))
# Where there are fewer than usual.
SEEDS = {
    'sst2_techniques': 5,
    'derrd2020_citeulike': (3, 5),
    'derrd2020_citeulike_long': 5,
    'topology2021_citeulike': 5,
    'fsdd_folds': 5,
    'fsdd_ctc': 5,
    'crepe_fsdd': 5,
    'silero_fsdd': 10,
    'shakespeare': 5,
    'fitnets2015_mnist': 3,
    'cifar100_techniques': 3,
    'tfmot_keywords': 5,
    'bccd': 5,
    'bccd_256': 5,
    'bccd_inherit': 5,
    'bccd_masks': 5,
    'multi30k': 3,
    'multi30k_full': 3,
}
PAGES = [(name, path) for name in PUBLISH['FIGURES'] for path in PUBLISH['shown'](name)]


@pytest.mark.parametrize(('name', 'path'), PAGES, ids=[str(path.relative_to(ROOT)) for _, path in PAGES])
def test_the_shown_table_is_that_of_the_results(name, path):
    """Where it is not: python experiments/publish.py NAME"""
    summary = json.loads((ROOT / 'experiments' / name / 'results' / 'summary.json').read_text())
    shown = path.read_text()
    assert pages.filled(shown, PUBLISH['BEGIN'], PUBLISH['table'](summary)) == shown
    assert {row['n'] for row in summary['rows']} == {*np.atleast_1d(SEEDS.get(name, 20))}


def test_the_speed_of_sentences_is_that_of_its_results():
    """Where it is not: python experiments/sst2/speed.py"""
    folder = ROOT / 'experiments' / 'sst2'
    speed = runpy.run_path(str(folder / 'speed.py'))
    found, page = json.loads((folder / 'results' / 'speed.json').read_text()), (folder / 'README.md').read_text()
    assert pages.filled(page, speed['BEGIN'], speed['table'](found), speed['END']) == page


def test_the_list_of_techniques_is_that_of_the_code_and_of_what_was_measured():
    """Where it is not: python experiments/techniques/measure.py"""
    folder = ROOT / 'experiments' / 'techniques'
    measure = runpy.run_path(str(folder / 'measure.py'))
    costs, golden = (json.loads((folder / 'results' / f'{name}.json').read_text()) for name in ('costs', 'golden'))
    assert measure['page'](costs, golden) == (folder / 'README.md').read_text()
    used = set(technique_list.presets_of(measure['on_digits']()))
    assert used - set(costs['terms']) == {'cross_entropy.CrossEntropy'}, 'in a preset, and not measured'


def test_the_table_of_presets_is_that_of_the_results():
    """Where it is not: python experiments/presets/publish.py"""
    folder = ROOT / 'experiments' / 'presets'
    publish = runpy.run_path(str(folder / 'publish.py'))
    summaries = publish['load']()
    assert publish['page'](summaries, publish['renewed']()) == (folder / 'README.md').read_text()
    shown = {row['name']: row for summary in summaries.values() for row in summary['rows']}
    assert {name for name, preset in sweep.presets().items() if preset.nets in publish['NETWORKS']} <= set(shown)
    scores = [row['last']['accuracy'] for row in shown.values()]
    assert all(score['n'] == 10 and score['mean'] > 0.2 for score in scores), 'no better than chance'
    for name, line in publish['expected'](summaries).items():
        assert line in (ROOT / 'configs' / 'presets' / f'{name}.py').read_text().splitlines(), name


def test_the_page_of_speed_is_that_of_its_results():
    """Where it is not: python experiments/speed/publish.py"""
    folder = ROOT / 'experiments' / 'speed'
    publish = runpy.run_path(str(folder / 'publish.py'))
    found = [json.loads((folder / 'results' / f'{name}.json').read_text()) for name in publish['RESULTS']]
    readme = (folder / 'README.md').read_text()
    assert pages.filled(readme, publish['BEGIN'], publish['content'](*found)) == readme


def test_what_holds_over_speakers_is_that_of_the_results():
    """Where it is not: python experiments/fsdd_folds/publish.py"""
    folder = ROOT / 'experiments' / 'fsdd_folds'
    publish = runpy.run_path(str(folder / 'publish.py'))
    found, page = json.loads((folder / 'results' / 'summary.json').read_text()), (folder / 'README.md').read_text()
    assert pages.filled(page, publish['BEGIN'], publish['over_speakers'](found), publish['END']) == page
    assert page.count('| 6 |') == 3, 'every method has six speakers'


def test_the_readme_has_the_two_commands():
    readme = (ROOT / 'README.md').read_text()
    assert '<!-- run -->\n```sh\npip install -e . && python run.py\n```\n<!-- end -->' in readme
    assert '<!-- test -->\n```sh\npip install -e ".[test]" && pytest -n 2 --dist loadgroup\n```\n<!-- end -->' in readme


STUDIES = ('launch', 'hinton2015_mnist', 'hinton2015_mnist_long', 'speed', *PUBLISH['FIGURES'])
DOCUMENTS = ['README.md', *(f'experiments/{name}/README.md' for name in STUDIES)]


@pytest.mark.parametrize('document', DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    targets = re.findall(r'\]\(([^)#:]+)\)', path.read_text())
    assert targets
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_worked_example_of_contributing_works(tmp_path, monkeypatch):
    (code,) = re.findall(r'```python\n(.*?)```', (ROOT / 'CONTRIBUTING.md').read_text(), re.DOTALL)
    (tmp_path / 'ba_caruana.py').write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    from kdjax.resolve import resolve

    term, inputs = resolve('kdjax.techniques', 'ba_caruana:LogitRegression', 'term')(), world.inputs(0)
    values = term({}, {}, inputs, term.knobs(), step=None, key=None).values
    difference = np.asarray(inputs.student.logits) - np.asarray(inputs.teacher.logits)
    np.testing.assert_allclose(values, 0.5 * (difference**2).sum(axis=-1), rtol=1e-5)
