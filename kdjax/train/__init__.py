"""Objective, step, runners, grids, checkpoints, ledger, loop."""
