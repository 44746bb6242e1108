"""The pages of docs/: their numbers are those of the results, what they name exists, their equations are equations."""

import inspect
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / 'docs'))

import equations
import sections

from kdjax.study import command_line, listing, options

PAGES = sorted((ROOT / 'docs').rglob('*.md'))
CHOOSING = (ROOT / 'docs' / 'choosing.md').read_text()
RESULTS = (
    'presets/results/cnn.json', 'presets/results/vit.json',
    *(f'{name}/results/summary.json' for name in ('digits', 'sst2', 'sst2_views', 'sst2_techniques', 'wnut17')),
)  # fmt: skip
# Numbers of papers on the page, of resnet32x4 to resnet8x4, and what their tables call them.
PAPERS = {
    'KD': 'KD', 'DKD': 'DKD', 'standardised logits': 'KD+LS', 'multi-level': 'MLKD', 'FitNet': 'FitNet', 'AT': 'AT',
    'AB': 'AB', 'FT': 'FT', 'VID': 'VID', 'CRD': 'CRD', 'PKT': 'PKT', 'SP': 'SP', 'RKD': 'RKD', 'CC': 'CC',
}  # fmt: skip


def gains():
    """Gains of our experiments as the page writes them, by what it calls them."""
    found = {}
    for file in RESULTS:
        for row in json.loads((ROOT / 'experiments' / file).read_text())['rows']:
            gain = row['difference']
            if gain and gain['ci95']:
                low, high = gain['ci95']
                star = '\\*' if gain['p_holm'] is not None and gain['p_holm'] < 0.05 else ''
                text = f'{100 * gain["mean"]:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]{star}'
                found[', '.join(map(str, row['point'].values()))] = text
    return found


def test_gains_on_the_page_are_those_of_the_results_with_their_verdict():
    known = gains()
    shown = re.findall(r'`([^`]+)`\s+([+-]\d+\.\d\d \[[^\]]+\](?:\\\*)?)', CHOOSING)
    assert len(shown) > 60
    assert [(name, gain) for name, gain in shown if known.get(name) != gain] == []
    rest = re.sub(r'`[^`]+`\s+[+-]\d+\.\d\d \[', '', CHOOSING)
    bare = re.findall(r'(?<!`)\s[+-]\d+\.\d\d \[[^\]]+\](?:\\\*)?', rest)
    assert all(gain.strip() in known.values() for gain in bare)


def test_numbers_of_papers_are_those_that_their_tables_are_held_against():
    files = [ROOT / 'experiments' / name / 'expected.json' for name in
             ('crd2020_cifar100', 'dkd2022_cifar100', 'logit_std2024_cifar100')]  # fmt: skip
    rows = [row for file in files for row in json.loads(file.read_text())['rows']]
    ours = [row for row in rows if row['point'].get('pair') == 'resnet32x4-resnet8x4']
    known = {row['point']['method']: f'{100 * row["value"]:.2f}' for row in ours}
    shown = re.findall(rf'\b({"|".join(PAPERS)}) (\d\d\.\d\d) %', CHOOSING)
    assert len(shown) >= 13
    assert [(name, number) for name, number in shown if known[PAPERS[name]] != number] == []


def test_techniques_that_the_page_names_exist():
    known = {one.kind for one in listing.entries()}
    named = re.findall(r'`([a-z_]+\.[A-Z]\w+)`', CHOOSING)
    assert len(set(named)) > 20
    assert set(named) <= known


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT / 'docs')))
def test_links_of_a_page_lead_somewhere(page):
    """Here, as the repository is looked at; what mkdocs makes of them, it checks itself."""
    made = {'techniques', 'config.md'}  # by docs/hooks.py
    targets = [target.partition('#')[0] for _, _, target in sections.LINK.findall(page.read_text())]
    there = [target for target in targets if target and not target.startswith('http')]
    assert [t for t in there if not (page.parent / t).exists() and not made & set(Path(t).parts)] == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT / 'docs')))
def test_sections_that_a_page_takes_over_are_there(page):
    for file, heading in sections.SECTION.findall(page.read_text()):
        text = sections.section(file, heading)
        assert text.count('\n## ') == 0
        assert len(text.split()) > 20
    assert '<!-- section' not in sections.resolved(page.read_text(), str(page.relative_to(ROOT / 'docs')))


def test_links_become_those_of_the_site():
    assert sections.resolved('[a](../configs/base.py#L3)', 'index.md') == '[a](configs/base.py#L3)'
    assert sections.resolved('[a](../choosing.md)', 'api/nets.md') == '[a](../choosing.md)'
    assert sections.resolved('[a](../../README.md)', 'experiments/sst2/README.md') == '[a](../../index.md)'
    assert sections.resolved('[a](../sst2/README.md)', 'experiments/sst2/README.md') == '[a](../sst2/README.md)'
    assert sections.resolved('see [a](configs)', 'CONTRIBUTING.md') == 'see a'
    assert '](experiments/launch/slurm.sbatch)' in sections.section('experiments/launch/README.md', 'One run')
    assert list(sections.linked('[a](configs/base.py) [b](glossary.md)', 'index.md')) == ['configs/base.py']
    with pytest.raises(LookupError, match="no section 'Nothing'"):
        sections.section('README.md', 'Nothing')


def commands():
    """Command lines of kdjax that pages show, each with its page."""
    for page in PAGES:
        for block in re.findall(r'^```sh\n(.*?)^```', page.read_text(), re.MULTILINE | re.DOTALL):
            yield from ((page.name, line) for line in block.splitlines() if line.startswith('kdjax '))


def test_commands_have_modes_and_flags_that_exist():
    flags = {'config', *options.names(command_line.flags.FLAGS)}
    found = list(commands())
    assert len(found) > 10
    for page, line in found:
        _, mode, *words = line.split()
        assert mode in options.MODES, (page, line)
        given = {re.split(r'[.=]', word.removeprefix('--'))[0] for word in words if word.startswith('--')}
        assert given <= flags, (page, line)


@pytest.mark.parametrize(
    ('written', 'typeset'),
    [
        ('T^2 KL(p^t_T || p^s_T)', r'T^{2} \mathrm{KL}(p^{t}_{T} \| p^{s}_{T})'),
        ('1/2 || u_t - r(u_s) ||^2', r'\tfrac{1}{2}  \| u_{t} - r(u_{s}) \|^{2}'),
        ('sum_{k != j} w_k', r'\sum _{k \neq  j} w_{k}'),
        ('-log P(the order)', r'-\log  P(\text{ the order })'),
        ('s . t / tau', r's \cdot  t / \tau '),
    ],
)
def test_equations_are_written_in_latex(written, typeset):
    assert equations.latex(written) == typeset


def test_prose_stays_prose_and_shapes_are_code():
    parts = equations.typeset('the mean of a step (eq. 3), with p_T = softmax(z / T). Values: (B, N), by terms_decay.')
    assert [part.written for part in parts if isinstance(part, equations.Equation)] == ['p_T = softmax(z / T)']
    text = ''.join(part if isinstance(part, str) else '@' for part in parts)
    assert text == ('the mean of a step (eq. 3), with @. Values: `(B, N)`, by `terms_decay`.')


def test_every_technique_is_typeset_without_losing_a_word():
    some = 0
    for one in listing.entries():
        docstring = inspect.getdoc(one.term)
        parts = equations.typeset(docstring)
        written = ''.join(part if isinstance(part, str) else part.written for part in parts)
        assert written.replace('`', '') == docstring.replace('`', ''), one.kind
        found = [part for part in parts if isinstance(part, equations.Equation)]
        assert all(part.latex.count('{') == part.latex.count('}') for part in found)
        some += bool(found)
    assert some > 100
