"""What golden records mean in our terms: the mappings of tests/mappings/, one module per family of techniques.

A mapping is `f(record, x) -> Answer`: `record` is an entry of the folder's index.json, `x` are the record's inputs by
name, in the peer's own layout. It builds our terms and what they read, and answers `total(terms, inputs, params)`. It
runs inside jax.grad with respect to the record's `grad_wrt`, so transposing an input to our layout transposes its
gradient back; nothing else has to be converted. A factor of the peer's is a weight of ours. Outputs that are not values
or logs of the terms are added: `answer._replace(outputs=...)`. `raise Refused(why)` where we differ on purpose.
"""

from mappings import (
    detection,
    first,
    hints,
    language,
    maps,
    recommendation,
    relations,
    soft_labels,
    speech,
    transformers,
    variants,
)

FAMILIES = (
    first, soft_labels, variants, language, hints, maps, relations, transformers, detection, recommendation, speech,
)  # fmt: skip
MAPPINGS = {technique: mapping for family in FAMILIES for technique, mapping in family.MAPPINGS.items()}
