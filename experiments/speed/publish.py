"""Makes measurements the ones that the project shows.

Command: python experiments/speed/publish.py [--precision=WORKDIR ...]
         after measure.py, sweeps.py, parts.py, start.py, smaller.py and decoding.py

Writes the tables between the marks of README.md, and results/speed.png, from the files of RESULTS in folder results
and, where there is one, from that of accelerator.py. A test holds README.md to them. Given the workdirs of
precision.py, takes their summaries over as results/precision.json.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from experiments import pages
from experiments.speed import decoding, smaller
from experiments.speed.parts import shown as shown_parts
from kdjax.study.report import document, figure_style, formatting

Results = Mapping[str, Any]

BEGIN = '<!-- results: written by experiments/speed/publish.py -->'
RESULTS = ('speed', 'sweeps', 'parts', 'start', 'precision', 'smaller', 'decoding')
FIRST = 'torch plain'
TUNED = 'torch tuned'
PAIRS = ('resnet32x4-resnet8x4', 'wrn_40_2-wrn_16_2', 'resnet56-resnet20')
DIGITS = 'mlp1200-mlp800'
GRIDS = (4, 8)
CLOSE = 0.02  # share of the loss by which two programs may differ after a few steps of float32


class Goal(NamedTuple):
    """A ratio that was aimed at."""

    says: str
    goal: float
    measured: Sequence[float]  # one per case that it speaks of


def content(
    found: Results,
    sweeps: Results,
    parts: Results,
    start: Results,
    precision: Results,
    made_smaller: Results,
    written: Results,
    device: Results | None = None,
) -> str:
    """The Markdown between the marks."""
    machine, versions = found['machine'], found['versions']
    limits = [case['limit_gflops'] for case in found['cases'].values()]
    reach = {name: f'{min(each[name] for each in limits):.0f} to {max(each[name] for each in limits):.0f}'
             for name in ('torch', 'jax')}  # fmt: skip
    where = (
        f'{machine["processor"]}, {machine["cores"]} cores, {found["threads"]} threads; JAX {versions["jax"]}, PyTorch '
        f'{versions["torch"]}; {found["rounds"]} rounds; matrices of 2048 x 2048 are multiplied in float32 at '
        f'{reach["torch"]} GFLOP/s by PyTorch and {reach["jax"]} by JAX. '
        f'Convolutions of kdjax: {formatting.facts(machine["convolutions"])}.'
    )
    says = [
        goals(found, sweeps, start), document.Text(where),
        document.Heading('One student', 3), *(single(found, pair) for pair in measured(found)), split(found),
        document.Heading('Grids', 3), grids(found),
        document.Heading('Techniques', 3), techniques(found),
        document.Heading('Whole sweeps', 3), whole(sweeps),
        document.Heading('From the start of the process to the first step', 3), starts(start),
        document.Heading('A teacher in bfloat16', 3), precisions(precision),
        document.Heading('A step that makes the student smaller', 3), smaller.table(made_smaller),
        document.Heading('Writing translations', 3), decoding.table(written),
        document.Heading('Parts of it', 3), *shown_parts(parts),
        document.Heading('The same work', 3), document.Text(same(found)),
        *([document.Heading('On an accelerator', 3), *accelerated(device)] if device else []),
    ]  # fmt: skip
    picture = '![Speed of one student, by contender](results/speed.png)'
    return f'{document.markdown(says).strip()}\n\n{picture}'


def measured(found: Results) -> list[str]:
    """The pairs of which a single student was measured."""
    return [pair for pair in PAIRS if f'{pair}:kd' in found['cases']]


def goals(found: Results, sweeps: Results, start: Results) -> document.Table:
    """What was aimed at, and what was measured."""

    def ratios(variant: str, names: Sequence[str]) -> list[float]:
        return [found['cases'][name]['contenders'][variant]['ratio'] for name in names if name in found['cases']]

    pairs = [f'{pair}:kd' for pair in PAIRS]
    four = [f'{pair}:kd:4' for pair in PAIRS]
    heavy = [f'{PAIRS[0]}:{technique}' for technique in ('crd', 'review')]
    listed = [
        Goal('a step in float32, against plain PyTorch', 1.0, ratios('kdjax plain', pairs)),
        Goal('the same with the teacher in bfloat16', 1.3, ratios('kdjax bfloat16 teacher', pairs)),
        Goal('a step with cached logits, against plain PyTorch', 2.0, ratios('kdjax cached', pairs)),
        Goal('4 students as one grid, against 4 runs of plain PyTorch', 1.5, ratios('kdjax plain', four)),
        Goal('grids of 4 and 8 dense students, likewise', 1.2,
             ratios('kdjax plain', [f'{DIGITS}:kd:{size}' for size in GRIDS])),
        Goal('CRD and knowledge review, a whole step', 1.5, ratios('kdjax plain', heavy)),
        *(Goal(f'sweep of {cells} on digits, against one PyTorch process', 5.0, [row['loop'] / row['kdjax']])
          for cells, row in sweeps['cells'].items()),
        *(Goal(f'sweep of {cells} on digits, against a PyTorch process each', 20.0, [row['processes'] / row['kdjax']])
          for cells, row in sweeps['cells'].items()),
    ]  # fmt: skip
    warm = [row['torch'] / row['kdjax, warm'] for row in start['seconds'].values()]
    listed.append(Goal('a warm start to the first step, against PyTorch', 1 / 1.1, warm))
    rows = tuple(
        (each.says, f'{each.goal:.1f}x', ', '.join(f'{value:.2f}x' for value in each.measured), _met(each))
        for each in listed
        if each.measured
    )
    says = 'Goals: how many times faster, in the order of the pairs below'
    return document.Table(says, 'lrrl', ('what', 'goal', 'measured', ''), rows)


def single(found: Results, pair: str) -> document.Table:
    """Everybody who takes part in one step of one student."""
    case = found['cases'][f'{pair}:kd']
    limit = max(case['limit_gflops'].values())
    rows = tuple(
        (
            name, f'{each["images_per_s"]:.0f}', _reach(each, case['case']['batch']), f'{each["ratio"]:.2f}',
            _fraction(name, case, each, limit), f'{each["peak_mb"]:.0f}',
            f'{each["build_seconds"] + each["first_step_seconds"]:.1f}',
        )
        for name, each in case['contenders'].items()
    )  # fmt: skip
    header = ('contender', 'images/s', 'slowest to fastest', 'ratio', 'of the limit (%)', 'peak MB', 'first step (s)')
    says = f'{pair}, soft targets, batch {case["case"]["batch"]}; ratio: how many times faster than {FIRST}'
    return document.Table(says, 'lrrrrrr', header, rows)


def split(found: Results) -> document.Table:
    """What a step is made of: the rest is what it takes with cached logits, the teacher's part the difference."""
    rows = []
    for pair in measured(found):
        taking = found['cases'][f'{pair}:kd']['contenders']
        for name, alone in (('torch channels_last', 'torch cached'), ('kdjax plain', 'kdjax cached')):
            whole_, rest = taking[name]['median'], taking[alone]['median']
            rows.append((pair, name, f'{whole_ - rest:.3f}', f'{rest:.3f}'))
    header = ('pair', 'contender', 'teacher (s)', 'student (s)')
    return document.Table('A step in float32, by who takes the time', 'llrr', header, tuple(rows))


def starts(start: Results) -> document.Table:
    """Until a process has taken its first step."""
    rows = tuple(
        (pair, *(f'{row[name]:.1f}' for name in ('torch', 'kdjax, warm', 'kdjax, cold')))
        for pair, row in start['seconds'].items()
    )
    says = 'Wall seconds; cold: nothing is compiled, warm: an earlier process left its programs'
    return document.Table(says, 'lrrr', ('pair', FIRST, 'kdjax, warm', 'kdjax, cold'), rows)


def precisions(precision: Results) -> document.Table:
    """Students of the same teacher, in either precision."""
    rows = []
    for trained, summary in precision.items():
        for row in summary['rows']:
            apart = '–'
            if (own := row['difference']) is not None:
                low, high = (100 * end for end in own['ci95'])
                apart = f'{100 * own["mean"]:+.2f} [{low:+.2f}, {high:+.2f}]'
            rows.append((trained, row['name'], f'{100 * row["last"]["accuracy"]["mean"]:.2f}', apart, str(row['n'])))
    header = ('trained in', 'taught in', 'accuracy (%)', 'difference, points [95 %]', 'seeds')
    return document.Table('Digits: convolutional students, one teacher (precision.py)', 'llrrr', header, tuple(rows))


def grids(found: Results) -> document.Table:
    """Several students of one teacher."""
    header = ('pair', 'students', FIRST, 'torch shared', TUNED, 'kdjax', 'ratio', 'ratio to shared', 'peak MB')
    rows = []
    for pair in (*PAIRS, DIGITS):
        for size in GRIDS:
            if f'{pair}:kd:{size}' not in found['cases']:
                continue
            taking = found['cases'][f'{pair}:kd:{size}']['contenders']
            ours = taking['kdjax plain']
            speeds = [
                f'{taking[name]["student_images_per_s"]:.0f}' if name in taking else '–'
                for name in (FIRST, 'torch shared', TUNED)
            ]
            rows.append((
                pair, str(size), *speeds, f'{ours["student_images_per_s"]:.0f}', f'{ours["ratio"]:.2f}',
                f'{ours["ratio"] / taking["torch shared"]["ratio"]:.2f}', f'{ours["peak_mb"]:.0f}',
            ))  # fmt: skip
    says = f'Images times students in a second; ratio: how many times faster than {FIRST}, a run after the other'
    return document.Table(says, 'lrrrrrrrr', header, tuple(rows))


def techniques(found: Results) -> document.Table:
    """What each technique makes of a step."""
    names = [name for name in found['cases'] if name.startswith(f'{PAIRS[0]}:') and name.count(':') == 1]
    base = {side: found['cases'][f'{PAIRS[0]}:kd']['contenders'][side] for side in (FIRST, 'kdjax plain')}
    rows = []
    for name in names:
        taking = found['cases'][name]['contenders']
        shares = [taking[side]['median'] / base[side]['median'] for side in base]
        rows.append((
            name.partition(':')[2], *(f'{taking[side]["images_per_s"]:.0f}' for side in base),
            f'{taking["kdjax plain"]["ratio"]:.2f}', *(f'{share:.2f}' for share in shares),
        ))  # fmt: skip
    header = ('technique', f'{FIRST}, images/s', 'kdjax, images/s', 'ratio', 'step over kd: torch', 'kdjax')
    return document.Table(f'{PAIRS[0]}, one student', 'lrrrrr', header, tuple(rows))


def whole(sweeps: Results) -> document.Table:
    """Sweeps over temperature on digits, from the start of the process to the accuracies."""
    rows = tuple(
        (cells, *(f'{row[how]:.1f}' for how in ('processes', 'loop', 'kdjax')),
         f'{row["processes"] / row["kdjax"]:.1f}', f'{row["loop"] / row["kdjax"]:.1f}')
        for cells, row in sweeps['cells'].items()
    )  # fmt: skip
    header = ('runs', 'PyTorch, a process each (s)', 'PyTorch, one process (s)', 'kdjax (s)', 'ratio', 'ratio to one')
    return document.Table(
        'Digits: wall seconds from the start of the process, the teacher included', 'lrrrrr', header, rows
    )


def accelerated(device: Results) -> list[document.Table]:
    """A table for every pair: layouts and precisions, by students."""
    machine = device['machine']
    limits = ', '.join(f'{gflops / 1e3:.0f} in {precision}' for precision, gflops in device['limits'].items())
    where = f'{machine["devices"]}; TFLOP/s of large products: {limits}'
    header = ('students', 'contender', 'images x students/s', 'ratio', 'of the limit (%)', 'first step (s)')
    tables = []
    for pair in PAIRS:
        rows = []
        for case in (each for name, each in device['cases'].items() if name.startswith(f'{pair}:')):
            for name, each in case['contenders'].items():
                limit = device['limits']['bfloat16' if 'bfloat16' in name else 'float32']
                rows.append((
                    str(case['case']['students']), name, f'{each["student_images_per_s"]:.0f}', f'{each["ratio"]:.2f}',
                    f'{100 * case["step_gflop"] / each["median"] / limit:.1f}',
                    f'{each["build_seconds"] + each["first_step_seconds"]:.1f}',
                ))  # fmt: skip
        first = rows[0][1] if rows else ''
        against = 'torch compiled in float32' if first.startswith('torch') else first
        says = f'{pair}, {where}; ratio: how many times faster than {against}'
        tables.append(document.Table(says, 'llrrrr', header, tuple(rows)))
    return [table for table in tables if table.rows]


def same(found: Results) -> str:
    """Whether both sides do the same work: their losses from equal initial weights."""
    apart = {}
    for name, case in found['cases'].items():
        taking = case['contenders']
        torch, kdjax = (taking[side]['losses'][:8] for side in (FIRST, 'kdjax plain'))
        apart[name] = max(abs(a - b) / abs(a) for a, b in zip(torch, kdjax, strict=True))
    far = [name for name, share in apart.items() if share > CLOSE]
    agree = f'In {len(apart) - len(far)} of {len(apart)} cases the losses of the first steps agree to {CLOSE:.0%}.'
    others = '; '.join(f'{name} {apart[name]:.0%}' for name in far)
    own = 'What terms learn of their own (crd, review, fitnet) starts from other random numbers on either side.'
    return f'{agree} Not: {others}. {own}' if far else f'{agree} {own}'


def drawn(found: Results) -> bytes:
    """Images in a second of every contender, by pair."""
    pairs = measured(found)
    figure = figure_style.blank(5.8, 0.4 + 2.6 * len(pairs))
    for axes, pair in zip(figure.subplots(len(pairs), 1, squeeze=False).flat, pairs, strict=True):
        taking = found['cases'][f'{pair}:kd']['contenders']
        figure_style.dress(axes, '', 'images/s')
        axes.grid(axis='x', color=figure_style.FAINT, linewidth=0.8)
        axes.set_title(pair, fontsize=figure_style.FONT, color=figure_style.INK)
        colours = [figure_style.COLOURS[1 if name.startswith('kdjax') else 0] for name in taking]
        axes.barh(list(taking), [each['images_per_s'] for each in taking.values()], color=colours)
        axes.invert_yaxis()
    return figure_style.png(figure)


def _met(goal: Goal) -> str:
    met = sum(value >= goal.goal for value in goal.measured)
    return 'met' if met == len(goal.measured) else 'not met' if not met else f'met in {met} of {len(goal.measured)}'


def _reach(each: Results, batch: int) -> str:
    return f'{batch / each["max"]:.0f} to {batch / each["min"]:.0f}'


def _fraction(name: str, case: Results, each: Results, limit: float) -> str:
    """Of what the machine can do in float32; left out where the teacher is not evaluated."""
    return '–' if 'cached' in name else f'{100 * case["step_gflop"] / each["median"] / limit:.0f}'


def taken_over(workdirs: Sequence[str]) -> str:
    """The summaries of reports in `workdirs`, by the precision in which everything was trained."""
    found = {}
    for workdir in workdirs:
        summary = json.loads((Path(workdir) / 'report' / 'summary.json').read_text())
        found['bfloat16' if 'run.precision=bfloat16' in summary['provenance']['command'] else 'float32'] = summary
    return json.dumps(found, indent=1) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--precision', nargs='+', metavar='WORKDIR', help='where precision.py has run')
    given = parser.parse_args()
    results = HERE / 'results'
    if given.precision:
        (results / 'precision.json').write_text(taken_over(given.precision))
    there = [name for name in (*RESULTS, 'accelerator') if name in RESULTS or (results / f'{name}.json').exists()]
    measured_ = [json.loads((results / f'{name}.json').read_text()) for name in there]
    readme = HERE / 'README.md'
    readme.write_text(pages.filled(readme.read_text(), BEGIN, content(*measured_)))
    (results / 'speed.png').write_bytes(drawn(measured_[0]))


if __name__ == '__main__':
    main()
