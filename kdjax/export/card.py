"""The model card of a student: what it is, what it was trained on, what it is worth, how it is loaded."""

from collections.abc import Mapping
from typing import Any


def written(about: Mapping[str, Any]) -> str:
    """Markdown of what `student.json` says."""
    rows = '\n'.join(f'| {name} | {_number(value)} |' for name, value in about['metrics'].get('test', {}).items())
    licence = about.get('license') or 'other'
    stated = about.get('license') or 'not stated: it depends on the data, too'
    files = _files(about.get('files', {}))
    data, network = about['data'], about['network']
    candidate = ', '.join(f'{name} {value:g}' for name, value in about['candidate'].items()) or 'as configured'
    return f"""---
license: {licence}
library_name: kdjax
tags: [knowledge-distillation, jax, flax]
---

# {network['net']}, trained by '{about['method']}'

- task: {about['task']['kind']}, classes: {', '.join(about['classes'][:20]) or 'none'}
- data: {data['source']}, checksum {data['checksum']}; {about['transfer_size']} examples
- training: method {about['method']!r}, seed {about['seed']}, {candidate}, {about['step']} steps of its last fit
- preprocessing, which `predict` does: {about['preprocess']}
- license: {stated}

| on the test split | |
|---|---:|
{rows}
{files}
```python
import kdjax
student = kdjax.load('.')  # this folder
student.predict(inputs)
```
"""


def _files(told: Mapping[str, Any]) -> str:
    """A table of the files of further formats."""
    if not told:
        return ''
    rows = [f'| `{one["file"]}` | {one["bytes"] / 1024:.1f} | {one["deflated"] / 1024:.1f} | '
            f'{one["agreement"]["error"]:.2g} of {one["agreement"]["largest"]:.3g} | {one["agreement"]["top1"]:.2%} | '
            f'{"yes" if one["equal"] else "**no**"} | {_scores(one["test"])} |' for one in told.values()]  # fmt: skip
    return '\n'.join([
        '', 'Files, which read what preprocessing gives; each was asked the whole test split in its own runtime:', '',
        '| file | kB | deflated | logits apart by | decisions alike | equal | on the test split |',
        '|---|---:|---:|---:|---:|---|---|', *rows, '',
    ])  # fmt: skip


def _scores(metrics: Mapping[str, float]) -> str:
    return ', '.join(f'{name} {value:.4g}' for name, value in list(metrics.items())[:2])


def _number(value: Any) -> str:
    return 'not measured' if value is None else f'{value:.6g}'
