"""Configs: Python files whose `get_config(arg)` returns a locked ConfigDict."""
