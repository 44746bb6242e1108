"""One config: its stages, their artifacts, and what carries them out."""
