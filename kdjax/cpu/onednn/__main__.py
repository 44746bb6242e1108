"""Builds the library of convolutions: python -m kdjax.cpu.onednn

Needs a C++ compiler (CXX, or g++) and oneDNN with its headers: that of the environment, if it has one (`pip install
kdjax[onednn]`, `conda install onednn`), or that of the system (`apt install libdnnl-dev`).
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import jax

from kdjax.cpu import onednn


def main() -> int:
    path = onednn.library()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f'.{os.getpid()}')
    compiler = shlex.split(os.environ.get('CXX', 'g++'))
    options = shlex.split(os.environ.get('CXXFLAGS', '')), shlex.split(os.environ.get('LDFLAGS', ''))
    own = Path(sys.prefix)
    here = (own / 'include' / 'oneapi' / 'dnnl' / 'dnnl.hpp').exists()
    found = ([f'-I{own / "include"}'], [f'-L{own / "lib"}', f'-Wl,-rpath,{own / "lib"}']) if here else ([], [])
    command = [
        *compiler, '-O2', '-std=c++17', '-shared', '-fPIC', '-fopenmp', f'-isystem{jax.ffi.include_dir()}', *options[0],
        *found[0], str(onednn.SOURCE), *options[1], *found[1], '-ldnnl', '-o', str(unfinished),
    ]  # fmt: skip
    try:
        built = subprocess.run(command).returncode == 0
    except FileNotFoundError:
        built = False
        sys.stderr.write(f'error: no compiler {compiler[0]!r}; name another in CXX\n')
    if not built:
        sys.stderr.write(f'error: not built: {shlex.join(command)}\n')
        return 2
    unfinished.replace(path)
    sys.stdout.write(f'{path}\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
