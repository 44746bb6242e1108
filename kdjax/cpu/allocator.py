"""Memory of the C library: large buffers are kept for the next step, where they would be given back and mapped anew.

On a CPU every large array of a step is asked of the system when it is made and given back when it is dropped, and each
of its pages is zeroed and mapped at first touch. A training step asks for the same sizes again and again; kept, they
cost nothing. What is kept stays part of the process until it ends; what is huge is given back.
"""

import ctypes
import platform
from collections.abc import Mapping

OPT_OUT = 'KDJAX_ALLOCATOR'  # 'system' in the environment leaves everything as it is
# From malloc.h of glibc.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -2, -3, -4, -8
# Bytes from which a buffer has a mapping of its own: kept, two that do not fit into each other's place would be twice
# the memory.
HUGE = 2**30
SETTINGS = {
    TRIM_THRESHOLD: 2**31 - 1,  # bytes free at the top of the heap before they are given back
    TOP_PAD: 64 * 2**20,  # bytes asked for beyond what is needed
    ARENA_MAX: 1,  # one heap for all threads; more would each keep their own
}


def keep_buffers(environment: Mapping[str, str]) -> bool:
    """Tells the C library to keep large buffers; returns whether it was told.

    Does nothing but on Linux with glibc, nor where `environment` says KDJAX_ALLOCATOR=system. To be called before JAX
    has begun its threads, with the first array or the first look at its devices: a thread that is there has a heap of
    its own, in pieces of 64 MB, and what is larger is mapped and given back whatever is said.
    """
    if environment.get(OPT_OUT) == 'system' or platform.libc_ver()[0] != 'glibc':
        return False
    library = ctypes.CDLL(None)
    told = all([library.mallopt(setting, value) for setting, value in SETTINGS.items()])
    # Before glibc 2.35 no such threshold may be above 32 MB, and there is: no mapping of a buffer's own.
    return told and bool(library.mallopt(MMAP_THRESHOLD, HUGE) or library.mallopt(MMAP_MAX, 0))
