"""Flags of the command line, its modes, and which modes read which flag."""

from absl import flags
from ml_collections import config_flags

from kdjax.errors import UsageError

MODES = {
    'run': 'Train and report.',
    'sweep': 'The same for the sweep of the config file: all its rows.',
    'tune': 'Look for a better setting of the method that is judged.',
    'plan': 'Print what would run, and what it would cost.',
    'report': 'Report what is there of a sweep, finished or not; show what a finished run found.',
    'export': 'Write the student of a finished run to a folder.',
    'bench': 'Measure how fast it trains here.',
    'list': 'List the techniques, or all about one of them.',
    'new': 'Write a folder to start a project from.',
    'prepare': 'Prepare a data set on disk.',
}
CONFIG = config_flags.DEFINE_config_file('config', None, 'What to run. Default: configs/digits.py.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where everything is kept. Default: runs/<name of the config file>.')
MODE = flags.DEFINE_enum('mode', 'run', list(MODES), 'What to do; see the modes above.')
DEBUG = flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')
SEARCH = flags.DEFINE_string(
    'search', '', 'Candidates that validation chooses from: "{\'terms.soft.temperature\': (2., 4., 8.)}".'
)
DISTRIBUTED = flags.DEFINE_string(
    'distributed', None,
    "A run in several processes: 'auto', or HOST:PORT,COUNT,INDEX. Those of a sweep need nothing but its workdir.",
)  # fmt: skip
METHOD = flags.DEFINE_string('method', '', 'To export: whose student. Default: of the method that is accepted.')
SIZE = flags.DEFINE_integer('size', 0, 'To export: of its transfer set. Default: the largest.')
STUDENT_SEED = flags.DEFINE_integer('student_seed', None, 'To export: of its run. Default: the best in validation.')
FORMATS = flags.DEFINE_string(
    'formats', '', 'To export: files beside the weights, such as stablehlo,litert,litert-int8,onnx,onnx-int8,torch.'
)
TO = flags.DEFINE_string('to', '', 'To export, or of a new project: the folder to write.')
READS = flags.DEFINE_string('reads', '', 'To list: what a technique reads: logits, layers, tokens, members, ...')
NEEDS = flags.DEFINE_string('needs', '', "To list: 'labels', or 'nothing': those that serve examples without labels.")
TASK = flags.DEFINE_string('task', '', 'To list: what it is for: classification, multilabel, regression, tagging.')
TERM = flags.DEFINE_string('term', '', "To list: all about one, 'dkd.DecoupledTargets' or 'my.module:MyTerm'.")
DATA = flags.DEFINE_string('data', '', 'To prepare: the data set, such as mnist or sst2.')
ORIGINALS = flags.DEFINE_string(
    'originals', '', 'To prepare: folder of its original files, or URL of a mirror; left out, download.'
)
DATA_DIR = flags.DEFINE_string(
    'data_dir', '', 'To prepare: where to. Default: TFDS_DATA_DIR or ~/tensorflow_datasets; KDJAX_DATA, if not of TFDS.'
)
# Every other flag may stand beside any mode: the command of a run serves its plan, report and export as it is.
_ONLY_IN = {
    ('run',): (DISTRIBUTED,),
    ('export',): (METHOD, SIZE, STUDENT_SEED, FORMATS),
    ('export', 'new'): (TO,),
    ('list',): (READS, NEEDS, TASK, TERM),
    ('prepare',): (DATA, ORIGINALS, DATA_DIR),
}


def names(values: flags.FlagValues) -> list[str]:
    """Flags of this program, without those of libraries."""
    return [flag.name for flag in values.get_flags_for_module(__name__)]


def check() -> None:
    """Says which flag of the parsed command line its mode does not read.

    Raises:
      UsageError: such a flag, with the modes that read it.
    """
    for modes, holders in _ONLY_IN.items():
        given = [holder.name for holder in holders if holder.present]
        if given and MODE.value not in modes:
            said = ' and '.join(f'--mode={mode}' for mode in modes)
            help = flags.FLAGS[given[0]].help
            raise UsageError(f'--{given[0]} is for {said}, not for --mode={MODE.value}. {help}')
