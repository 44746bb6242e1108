"""A trained network outside of its run: what is saved of it, and how it is asked."""
