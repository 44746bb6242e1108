"""What a study found, as numbers (summary.json) and as a page that says in words only what the numbers carry."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group

from kdjax.study.report import document, run_figures, run_text, statistics
from kdjax.train import ledger

Row = Mapping[str, Any]

EXTRAS = ('nll', 'ece', 'agreement', 'kl', 'validation_accuracy')
COSTS = ('params', 'bytes', 'flops', 'latency_ms')


def write(results: Row, folder: Path) -> dict[str, Any]:
    """Writes summary.json, report.md, report.html and the figures into `folder`, each whole or not at all.

    Args:
      results: a study's JSON-able results: title, baseline, teacher, rows, curves, dark_knowledge, accept, provenance.
      folder: where to; made if it is missing.

    Returns:
      What summary.json holds.
    """
    found = summarise(results)
    pictures = run_figures.draw(results, run_text.students(found))
    said = run_text.full(results, found)
    files: dict[str, str | bytes] = {
        **pictures,
        'report.md': document.markdown(said),
        'report.html': document.html(results['title'], said, pictures),
        'summary.json': (json.dumps(found, indent=2, allow_nan=False) + '\n'),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        ledger.replace(folder / name, content)
    return found


def terminal_table(results: Row) -> Group:
    """The report's tables and its finding, for a terminal of 80 columns or more."""
    return document.terminal(run_text.brief(results, summarise(results)))


def summarise(results: Row) -> dict[str, Any]:
    """The numbers of a study: what summary.json holds, with None for every number that is not finite."""
    by_cell = {(row['method'], row['transfer_size']): row for row in results['rows']}
    ordered = sorted(results['rows'], key=lambda row: row['transfer_size'])  # stable: methods keep their order
    rows = [_student(row, by_cell.get((results['baseline'], row['transfer_size'])), results) for row in ordered]
    provenance = {key: value for key, value in results['provenance'].items() if key != 'config'}
    return ledger.plain(
        {
            'title': results['title'],
            'baseline': results['baseline'],
            'rows': [_teacher(results['teacher']), *rows],
            'accept': results['accept'],
            **provenance,
        }
    )


def _student(row: Row, baseline: Row | None, results: Row) -> dict[str, Any]:
    accuracy = statistics.summary(row['accuracy'])
    ours, theirs = _by_seed(row), {} if baseline is None else _by_seed(baseline)
    gap = statistics.gap_recovered(ours, theirs, results['teacher']['accuracy'])
    is_baseline = row['method'] == results['baseline']
    return {
        'name': row['method'],
        'transfer_size': row['transfer_size'],
        'n': accuracy.n,
        'failed': accuracy.missing,
        'accuracy': {'mean': accuracy.mean, 'sd': accuracy.sd, 'ci95': accuracy.interval},
        'difference': None if is_baseline else _difference(statistics.paired(ours, theirs)),
        'gap_recovered': None if is_baseline or gap is None else {'value': gap.value, 'ci95': gap.interval},
        **{key: statistics.summary(row[key]).mean for key in EXTRAS},
        **{key: row[key] for key in ('stages', 'chosen', *COSTS)},
    }


def _difference(comparison: statistics.Paired) -> dict[str, Any]:
    return {
        'mean': comparison.difference,
        'ci95': comparison.interval,
        'p': comparison.p,
        'n': comparison.n,
        'verdict': statistics.verdict(comparison),
    }


def _teacher(teacher: Row) -> dict[str, Any]:
    return {
        'name': 'teacher',
        'transfer_size': None,
        'n': 1,
        'failed': 0,
        'accuracy': {'mean': teacher['accuracy'], 'sd': None, 'ci95': None},
        'difference': None,
        'gap_recovered': None,
        **{key: teacher.get(key) for key in EXTRAS},
        'stages': [],
        'chosen': {},
        **{key: teacher[key] for key in COSTS},
    }


def _by_seed(row: Row) -> dict[int, float | None]:
    return dict(zip(row['seeds'], row['accuracy'], strict=True))
