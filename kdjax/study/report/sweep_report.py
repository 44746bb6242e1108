"""The report of a sweep: its page, its tables for a paper and for other programs, its figures and its numbers.

It may be written at any time, also when a sweep is half-way: it says how many runs it speaks of.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group

from kdjax.study.report import (
    comparison,
    csv_tables,
    document,
    figure_style,
    latex,
    published,
    run_figures,
    sweep_curves,
    sweep_plots,
    sweep_scatter,
    sweep_text,
)
from kdjax.train import ledger

Row = Mapping[str, Any]


def write(results: Row, folder: Path) -> dict[str, Any]:
    """Writes report.html, report.md, tables.tex, arms.csv, runs.csv, summary.json and the figures, each whole or not.

    Args:
      results: JSON-able: title, baseline (a method), axes, records (one per run), teachers, expected, provenance.
      folder: where to; made if it is missing.

    Returns:
      What summary.json holds.

    Raises:
      UsageError: two runs have the same point and seed, or the expected numbers are not of `expected`'s format.
    """
    gathered = comparison.gather(results)
    found = _found(results, gathered)
    drawn = _drawn(found, gathered, results)
    pictures = {plot.file: figure_style.png(plot.figure) for topic in drawn.values() for plot in topic}
    said = sweep_text.full(results, found, drawn)
    files: dict[str, str | bytes] = {
        **pictures,
        'report.md': document.markdown(said),
        'report.html': document.html(results['title'], said, pictures),
        'tables.tex': latex.latex(said),
        'arms.csv': document.csv(csv_tables.of_arms(found)),
        'runs.csv': document.csv(csv_tables.of_runs(results)),
        'summary.json': json.dumps(found, indent=2, allow_nan=False) + '\n',
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        ledger.replace(folder / name, content)
    return found


def terminal(results: Row) -> Group:
    """The main table and the finding, for a terminal of 80 columns or more."""
    return document.terminal(sweep_text.brief(results, summarise(results)))


def summarise(results: Row) -> dict[str, Any]:
    """The numbers of a sweep: what summary.json holds, with None for every number that is not finite."""
    return _found(results, comparison.gather(results))


def _found(results: Row, gathered: Sequence[comparison.Arm]) -> dict[str, Any]:
    paper = results['expected'] and published.checked(results['expected'], 'the expected numbers')
    provenance = {key: value for key, value in results['provenance'].items() if key != 'config'}
    teachers = {
        key: {name: value for name, value in teacher.items() if name != 'dark_knowledge'}
        for key, teacher in results['teachers'].items()
    }
    return ledger.plain(
        {
            'title': results['title'],
            'baseline': results['baseline'],
            'axes': comparison.axes(results),
            'counts': comparison.counted(results['records']),
            'arms': comparison.measured(results, gathered),
            'failures': _failures(gathered),
            'teachers': teachers,
            'expected': paper and {'source': paper['source'], 'rows': published.compared(paper, gathered)},
            **provenance,
        }
    )


def _failures(gathered: Sequence[comparison.Arm]) -> list[dict[str, Any]]:
    return [
        {'arm': arm.name, 'seed': record['seed'], **(record['failure'] or {'step': None, 'term': None})}
        for arm in gathered
        for record in arm.records
        if record['status'] == 'failed'
    ]


def _drawn(found: Row, gathered: Sequence[comparison.Arm], results: Row) -> dict[str, list[figure_style.Plot]]:
    """The figures that the data carries, by topic."""
    return {
        'gains': sweep_plots.gains(found),
        'along': sweep_plots.along(found),
        'heat': sweep_plots.heat(found),
        'fidelity': sweep_scatter.fidelity(found),
        'pareto': sweep_scatter.pareto(found),
        'learning': sweep_curves.learning(found, gathered),
        'anatomy': sweep_curves.anatomy(found, gathered),
        'teachers': _dark_knowledge(results),
    }


def _dark_knowledge(results: Row) -> list[figure_style.Plot]:
    """Of the first teacher that shows it."""
    for key, teacher in results['teachers'].items():
        if teacher.get('dark_knowledge'):
            name = 'the teacher' if key == 'teacher' else f'teacher {key}'
            says = f'What {name} says of one image, at several temperatures T.'
            return [figure_style.Plot('soft_labels.png', says, run_figures.soft_labels(teacher['dark_knowledge']))]
    return []
