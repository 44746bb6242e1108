"""Golden records of this family: see golden_map."""

MAPPINGS = {}
