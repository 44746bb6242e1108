"""Settings of every test: four host devices, strict dtypes, compiled programs kept between runs."""

import ctypes
import functools
import gc
import math
import os
import pathlib
import platform
import subprocess
import sys

import processes

# Before JAX starts: devices cannot be added later, and with a smaller thread pool their collectives deadlock.
os.environ['XLA_FLAGS'] = (
    f'{processes.QUICK} {os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count=4'
)
os.environ['NPROC'] = '16'
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import costs
import golden
import jax
import pytest
import rotation

from kdjax.testing import world

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
TESTS, MEMORY = pytest.StashKey[int](), 2 * 2**30
SHARED = pathlib.Path(os.environ.get('KDJAX_SHARED') or REPOSITORY.parent / 'shared')

# Imports, collection and tracing make millions of objects; looking for cycles among them took a tenth of the time.
gc.set_threshold(100_000, 20, 100)
jax.config.update('jax_numpy_dtype_promotion', 'strict')
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    user_cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
    jax.config.update('jax_compilation_cache_dir', str(user_cache / 'kdjax' / 'tests-xla'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.05)


def pytest_addoption(parser):
    default = str(SHARED / 'golden')
    parser.addoption('--golden', default=default, metavar='DIR', help=f'folder of golden vectors [{default}]')
    parser.addoption('--golden-compress', default=str(SHARED / 'golden_compress'), metavar='DIR',
                     help='folder of golden vectors of compression [%(default)s]')  # fmt: skip
    parser.addoption('--kills', default=2, type=int, metavar='N', help='how often the kill test kills a run [2]')
    parser.addoption('--term', action='append', default=[], metavar='KIND',
                     help="a term of your own, 'my_package.terms:MyTerm', to hold against the laws instead of those of "
                          'kdjax; may be given several times')  # fmt: skip
    parser.addoption('--rotation', default=rotation.today(), type=rotation.number, metavar='N',
                     help="which of the tests that take turns run, or 'all' [the day's number]")  # fmt: skip


def pytest_configure(config):
    world.choose(config.getoption('--term'))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items, config):
    """Tests of one specimen one after the other: they share compiled programs, which are dropped after a while."""
    chosen = config.getoption('--term')
    if chosen:  # what is not of single terms, or of terms of kdjax, is left out
        named = {*chosen, *world.specimens()}
        items[:] = [item for item in items if item.fspath.basename == 'test_laws.py' and named & set(words(item))]
    rotation.apply(items, None if chosen else config.getoption('--rotation'))
    items.sort(key=_group)


def pytest_collection_finish():
    """What is imported and collected stays: no use in looking through it for cycles again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    costs.begin(item)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item):
    """Every compiled program holds half a megabyte and a few memory maps, and the laws need thousands."""
    costs.end(item)
    item.session.stash[TESTS] = item.session.stash.get(TESTS, 0) + 1
    if item.session.stash[TESTS] % 50 == 0 and resident() > MEMORY:
        jax.clear_caches()
        gc.collect()
        if platform.libc_ver()[0] == 'glibc':
            ctypes.CDLL(None).malloc_trim(0)  # or what was dropped stays with the process


def resident():
    """Bytes of memory of this process; as good as endless where the system does not say."""
    status = pathlib.Path('/proc/self/statm')
    return int(status.read_text().split()[1]) * os.sysconf('SC_PAGESIZE') if status.exists() else math.inf


@pytest.fixture(scope='session')
def restored(tmp_path_factory):
    """From the name of a data set to a folder that has its original files, in a folder of that name."""
    script = SHARED / 'data' / 'restore.py'

    @functools.cache
    def folder(name):
        if not script.exists():
            pytest.skip(f'shared data is not here: no {script}; set KDJAX_SHARED')
        out = tmp_path_factory.mktemp('originals')
        subprocess.run([sys.executable, script, '--out', out, '--datasets', name], check=True, capture_output=True)
        return out

    return folder


def words(item):
    """The names among the parameters of a test, of techniques and specimens."""
    found = getattr(item, 'callspec', None)
    values = found.params.values() if found else ()
    return [value if isinstance(value, str) else name_of(value) for value in values]


def name_of(value):
    return next((name for name, kind in world.techniques().items() if kind is value), '')


def _group(item):
    marker = item.get_closest_marker('xdist_group')
    return marker.args[0] if marker else ''


def pytest_terminal_summary(terminalreporter, config):
    reports = [
        report for group in terminalreporter.stats.values() for report in group if hasattr(report, 'user_properties')
    ]
    _tell_golden(terminalreporter, config, reports)
    lines = costs.table(reports)
    if lines:
        terminalreporter.section(f'where the time went (--rotation={config.getoption("--rotation") or "all"})')
        terminalreporter.write_line('\n'.join(lines))


def _tell_golden(terminalreporter, config, reports):
    results = dict(value for report in reports for name, value in report.user_properties if name == 'golden')
    if results:
        terminalreporter.section('golden vectors')
        records = golden.records(config.getoption('--golden'))
        terminalreporter.write_line('\n'.join(golden.coverage(records, results)))
