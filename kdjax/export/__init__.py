"""A trained network outside of its run: what is saved of it, and how it is asked."""

# The files of an exported student.
WEIGHTS, ABOUT, CARD = 'student.safetensors', 'student.json', 'MODEL_CARD.md'
