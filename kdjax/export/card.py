"""The model card of a student: what it is, what it was trained on, what it is worth, how it is loaded."""

from collections.abc import Mapping
from typing import Any


def written(about: Mapping[str, Any]) -> str:
    """Markdown of what `student.json` says."""
    rows = '\n'.join(f'| {name} | {_number(value)} |' for name, value in about['metrics'].get('test', {}).items())
    licence = about.get('license') or 'other'
    stated = about.get('license') or 'not stated: it depends on the data, too'
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

```python
import kdjax
student = kdjax.load('.')  # this folder
student.predict(inputs)
```
"""


def _number(value: Any) -> str:
    return 'not measured' if value is None else f'{value:.6g}'
