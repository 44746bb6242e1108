"""Rows of a sweep: the cells and grids that they mean, and the workers that train them."""
