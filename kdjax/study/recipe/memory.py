"""Whether what a run needs can be in this machine at all: said before anything trains, as far as it can be counted."""

import os

import jax

from kdjax.errors import UsageError


def device() -> int:
    """Bytes that a device may take; of a processor, those of the machine."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return int(statistics.get('bytes_limit') or host())


def host() -> int:
    """Bytes of the machine."""
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def check(what: str, needed: float, there: int, advice: str) -> None:
    """Raises UsageError where something takes more bytes than there are."""
    if needed > there:
        raise UsageError(f'{what} takes {needed / 1e9:.3g} GB, and there are {there / 1e9:.3g}; {advice}')
