"""Runs every preset on digits and writes the table of all of them.

Command: python experiments/presets/publish.py [WORKDIR [PRESET...]]      (about half an hour on 2 CPU cores)

A run for each kind of networks: the techniques that need a transformer have a transformer. Copies the summaries
to results/ and writes README.md from them, and into the docstring of every preset what it leads to. A test holds them
to results/.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from configs import preset
from configs.sweeps import presets as sweep
from kdjax.study.report import records, tables
from kdjax.study.report.document import Heading, Text, markdown
from kdjax.study.report.records import Summary

RENEWED = 'renewed'  # rows that were made later
CLOSE = 0.001  # of two accuracies
NETWORKS = {
    'cnn': 'Convolutional student and teacher', 'vit': 'Transformer student and teacher',
    'resnet': 'Residual student and teacher of the same widths',
}  # fmt: skip


def page(summaries: dict[str, Any], later: dict[str, Any]) -> str:
    """README.md: a table for each kind of networks."""
    blocks = [
        Heading('Every preset on digits', 1),
        Text('Written by python experiments/presets/publish.py. Ten seeds, 250 training examples, '
             f'{preset.STEPS} steps a fit; the weights are those of the papers, for far larger tasks, and nothing is '
             'tuned: the table shows that each technique trains and leads somewhere, not which one is best.'),
    ]  # fmt: skip
    for nets, content in summaries.items():
        summary = records.from_json(Summary, content)
        made = summary.provenance
        blocks += [
            Heading(NETWORKS[nets]),
            tables.plain(summary),
            Text(f'{made.machine["processor"]}, {made.machine["cores"]} cores; JAX {made.versions["jax"]}; '
                 f'{sum(made.seconds.values()):.0f} s in all stages; configuration {made.config_hash}; {made.command}'),
        ]  # fmt: skip
    blocks += [
        Text(f'Made later: {name}, on {made["machine"]["processor"]}, {made["machine"]["cores"]} cores; JAX '
             f'{made["versions"]["jax"]}; {made["command"]}; hard labels had {100 * made["baseline"]:.2f} % there.')
        for name, made in later.items()
    ]  # fmt: skip
    return markdown(blocks)


def expected(summaries: dict[str, Any]) -> dict[str, str]:
    """What a preset leads to, by its name, as the docstring of its config says it."""
    found = {}
    for content in summaries.values():
        rows = {row['name']: row for row in content['rows']}
        hard = 100 * rows[content['baseline']]['last']['accuracy']['mean']
        for name in rows.keys() - {content['baseline']}:
            accuracy = 100 * rows[name]['last']['accuracy']['mean']
            found[name] = f'Expected: {accuracy:.1f} % (mean of {rows[name]["n"]} seeds; hard labels {hard:.1f} %)'
    return found


def note(name: str, line: str) -> None:
    """Writes it there."""
    path = ROOT / 'configs' / 'presets' / f'{name}.py'
    kept = [old for old in path.read_text().splitlines(keepends=True) if not old.startswith('Expected: ')]
    place = next(place for place, old in enumerate(kept) if old.startswith('Cost: ')) + 1
    path.write_text(''.join([*kept[:place], f'{line}\n', *kept[place:]]))


def main(workdir: Path, names: list[str]) -> None:
    """Runs what is not done yet, then publishes; of some presets alone, by name, only their rows are made anew.

    A kind of networks that has no results yet is run whole.
    """
    (HERE / 'results').mkdir(exist_ok=True)
    asked = {name: sweep.presets()[name].nets for name in names}
    made = [nets for nets in NETWORKS if (HERE / 'results' / f'{nets}.json').exists()]
    for name, nets in asked.items():
        if nets not in NETWORKS:
            raise SystemExit(f'{name} is not shown on digits: see configs/presets/{name}.py')
    for nets in NETWORKS:
        if not names or (nets in asked.values() and nets not in made):
            _write(nets, _ran(f'nets={nets}', workdir / nets))
    if not names:
        _write(RENEWED, {})
    for name, nets in asked.items():
        if nets not in made:
            continue
        _write(nets, _renewed(load()[nets], _ran(f'nets={nets},only={name}', workdir / name), name))
    (HERE / 'README.md').write_text(page(load(), renewed()))
    for name, line in expected(load()).items():
        note(name, line)


def _ran(argument: str, workdir: Path) -> dict[str, Any]:
    """The summary of the sweep, which is run where it is not done."""
    config = f'--config=configs/sweeps/presets.py:{argument}'
    subprocess.run([sys.executable, 'run.py', config, f'--workdir={workdir}'], cwd=ROOT, check=True)
    summary = json.loads((workdir / 'report' / 'summary.json').read_text())
    made = summary['provenance']
    made['command'] = made['command'].partition(' --workdir')[0]  # where it was kept is nobody's business
    return summary


def _renewed(known: dict[str, Any], new: dict[str, Any], name: str) -> dict[str, Any]:
    """The summary with the row of a preset as it is now, whose gain is over the baseline of its own run.

    Seeds are the same, so that baseline must be what it was, but for what rounding does on another day.
    """
    rows = [{row['name']: row for row in content['rows']} for content in (known, new)]
    was, now = (own[known['baseline']]['last']['accuracy']['mean'] for own in rows)
    if abs(was - now) > CLOSE:
        raise SystemExit(f'the baseline is {now} here and {was} in results/: make all of them anew')
    _write(RENEWED, {**renewed(), name: {**new['provenance'], 'baseline': now}})
    rows[0][name] = rows[1][name]
    first, *others = rows[0].values()
    return {**known, 'rows': [first, *sorted(others, key=lambda row: row['name'])]}


def _write(name: str, content: dict[str, Any]) -> None:
    (HERE / 'results' / f'{name}.json').write_text(json.dumps(content, indent=1) + '\n')


def renewed() -> dict[str, Any]:
    """Where the rows come from that were made later than the others, by preset."""
    path = HERE / 'results' / f'{RENEWED}.json'
    return json.loads(path.read_text()) if path.exists() else {}


def load() -> dict[str, Any]:
    """The summaries by kind of networks."""
    return {nets: json.loads((HERE / 'results' / f'{nets}.json').read_text()) for nets in NETWORKS}


if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'runs' / 'presets').resolve(), sys.argv[2:])
