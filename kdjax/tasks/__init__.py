"""Tasks: what is measured, one task per file."""
