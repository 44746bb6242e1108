"""The version of kdjax, said once."""

__version__ = '0.2.0'
