"""The report of a study: its page, its tables for a paper and for other programs, its figures and its numbers.

It may be written at any time, also when a study is half-way: it says how many runs it speaks of.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group as Renderables

from kdjax.study.report import (
    comparison,
    csv_tables,
    curves,
    document,
    exhibit,
    figure_style,
    gains,
    latex,
    published,
    records,
    scatter,
    sizes,
    text,
)
from kdjax.study.report.comparison import Group
from kdjax.study.report.figure_style import Plot
from kdjax.study.report.records import Results, Summary
from kdjax.train import ledger


def write(results: Results, folder: Path) -> Summary:
    """Writes report.html, report.md, tables.tex, arms.csv, runs.csv, summary.json and the figures, each whole or not.

    Args:
      results: of the study.
      folder: where to; made if it is missing.

    Returns:
      What summary.json holds.

    Raises:
      UsageError: two runs have the same point and seed.
    """
    groups = comparison.group_runs(results)
    summary = _summary(results, groups)
    plots = _plots(summary, groups, results)
    pictures = {plot.file: figure_style.png(plot.figure) for topic in plots.values() for plot in topic}
    page = text.full(results, summary, plots)
    files: dict[str, str | bytes] = {
        **pictures,
        'report.md': document.markdown(page),
        'report.html': document.html(results.title, page, pictures),
        'tables.tex': latex.latex(page),
        'arms.csv': document.csv(csv_tables.of_arms(summary)),
        'runs.csv': document.csv(csv_tables.of_runs(results)),
        'summary.json': json.dumps(records.to_json(summary), indent=2, allow_nan=False) + '\n',
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        ledger.replace(folder / name, content)
    return summary


def terminal(results: Results) -> Renderables:
    """The main table and the finding, for a terminal of 80 columns or more."""
    return document.terminal(text.brief(summarise(results)))


def summarise(results: Results) -> Summary:
    """The numbers of a study: what summary.json holds, with None for every number that is not finite."""
    return _summary(results, comparison.group_runs(results))


def _summary(results: Results, groups: Sequence[Group]) -> Summary:
    shared = {field.name: getattr(results, field.name) for field in dataclasses.fields(records.Study)}
    shared['axes'] = tuple(comparison.axes(results))
    shared['published'] = published.compare(results.published, groups) if results.published else None
    summary = Summary(
        **shared,
        counts=comparison.count(results.runs),
        rows=tuple(comparison.compare(results, groups)),
        failures=tuple(_failures(groups)),
    )
    return records.from_json(Summary, records.to_json(summary))  # so that pages say what is stored


def _failures(groups: Sequence[Group]) -> list[records.FailedRun]:
    unknown = records.Failure(None, None)
    return [
        records.FailedRun(**vars(run.failure or unknown), arm=group.name, seed=run.seed)
        for group in groups
        for run in group.runs
        if run.status == 'failed'
    ]


def _plots(summary: Summary, groups: Sequence[Group], results: Results) -> dict[str, list[Plot]]:
    """The figures that the data carries, by topic."""
    return {
        'sizes': sizes.plots(summary),
        'along': gains.along(summary),
        'heat': gains.heat(summary),
        'gains': gains.gains(summary),
        'fidelity': scatter.fidelity(summary),
        'pareto': scatter.pareto(summary),
        'learning': curves.learning(summary, groups),
        'gradients': curves.gradients(summary, groups),
        'classes': exhibit.classes(summary, results.by_class),
        'exhibit': exhibit.plots(summary, results.exhibits),
    }
