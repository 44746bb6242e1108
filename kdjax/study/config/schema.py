"""What every field of a config may be: one table. Without JAX, so that the answer comes at once.

A new field of `configs/base.py` is a line here; a test holds the two together. What fields may be beside each other is
said in `check`, what the objects that they name take in those objects' own signatures.
"""

import math

from ml_collections import ConfigDict

from kdjax.study.config.rules import (
    MOST,
    NOT_NEGATIVE,
    Choice,
    Knob,
    Many,
    Named,
    Optional,
    Part,
    Plain,
    Several,
    Value,
    are_whole,
    real,
    whole,
)
from kdjax.study.config.search import Search

# More than anyone means: beyond them lists of cells and tables of outputs fill the memory before anything is said.
MOST_SEEDS, MOST_VIEWS, MOST_ATTEMPTS, MOST_NETWORKS = 100_000, 10_000, 1_000, 1_000
EXAMPLES = ('transfer', 'all', 'upstream')
DRAWS = ('examples', 'groups')
ORDERS = ('own', 'shared')
MODES = ('cached', 'online')
PLACES = ('here', 'pool', 'slurm')
CLUSTERS = ('slurm', 'local', 'debug')

TEXT = Value('text without control characters', lambda value: isinstance(value, str), str.isprintable)
WIDTHS = Value(
    'increasing widths >= 1, or none',
    are_whole,
    lambda value: list(value) == sorted({*value}) and all(1 <= one <= MOST for one in value),
)
SWITCH = Value('True or False', lambda value: isinstance(value, bool))
ARGUMENTS = Named(Plain())
KIND = Part({'kind': TEXT}, rest=Plain())
TEXTS = Part({
    'kind': Choice(('student', 'teacher', 'mixed', 'replay')),
    'prompt': whole(),
    'by': Choice(('examples', 'batches')),
    'share': real(0.0, 1.0),
    'capacity': whole(),
    'raised': real(0.0, 1.0),
    'tolerance': real(),
}, ('prompt', 'by', 'share', 'capacity', 'raised', 'tolerance'))  # fmt: skip
FIT = Part({
    'weights': Named(Knob()),
    'steps': whole(0),
    'batch_size': whole(),
    'accumulate': whole(),
    'learning_rate': Knob(),
    'weight_decay': Knob(),
    'terms_learning_rate': Knob(),
    'terms_weight_decay': Knob(),
    'optim': ARGUMENTS,
    'teacher': TEXT,
    'examples': Choice(EXAMPLES),
    'trains': Many(TEXT),
    'blockwise': Named(TEXT),
    'answer': TEXT,
    'texts': Optional(TEXTS),
    'on_policy': Knob(),
    'sampling_temperature': Knob(),
    'peers': whole(1, MOST_NETWORKS),
    'change': Optional(KIND),
    'task': ARGUMENTS,
    'sparsity': Knob(),
    'bits': Knob(),
    'input_bits': Knob(),
    'rank': Knob(),
})  # fmt: skip
TEACHER = Part({
    'net': TEXT,
    'args': ARGUMENTS,
    'weights': TEXT,
    'pretrained': TEXT,
    'outputs': TEXT,
    'team': Many(TEXT),
    'members': whole(1, MOST_NETWORKS),
    'augment': Several(KIND),
    'views': whole(1, MOST_VIEWS),
    'fit': FIT,
    'inputs': TEXT,
    'preprocess': Optional(KIND),
    'data_args': ARGUMENTS,
    'folds': whole(0, MOST_NETWORKS),
    'keep': whole(0),
    'bound': real(),
    'mode': Choice(MODES),
    'precision': TEXT,
})  # fmt: skip
CONFIG = Part({
    'title': TEXT,
    'seed': whole(0, 2**32 - 1),
    'seeds': whole(1, MOST_SEEDS),
    'task': KIND,
    'data': Part({
        'source': TEXT,
        'args': ARGUMENTS,
        'stream': SWITCH,
        'preprocess': KIND,
        'augment': Several(KIND),
        'mix': Optional(KIND),
        'consistent': SWITCH,
        'buckets': WIDTHS,
        'bucket_run': whole(),
        'views': whole(1, MOST_VIEWS),
        'transfer_sizes': Many(whole()),
        'draw': Choice(DRAWS),
        'order': Choice(ORDERS),
        'classes': Many(whole(0)),
        'label_noise': real(0.0, 1.0),
    }),
    'upstream': Part({
        'source': TEXT,
        'args': ARGUMENTS,
        'preprocess': Optional(KIND),
        'task': Optional(KIND),
        'new': Many(TEXT),
    }),
    'teacher': TEACHER,
    'assistants': Named(TEACHER),
    # A row of a sweep may give a whole network, of its name and arguments alone.
    'student': Part(
        {'net': TEXT, 'args': ARGUMENTS, 'inputs': TEXT, 'pretrained': TEXT, 'start': Named(TEXT)},
        ('inputs', 'pretrained', 'start'),
    ),
    'terms': Named(KIND),
    'fits': Named(FIT),
    'methods': Named(Many(TEXT)),
    'baseline': TEXT,
    'search': Value('a Search({field: candidates}) of kdjax.study.config.search', lambda it: isinstance(it, Search)),
    'run': Part({
        'runner': TEXT,
        'layout': TEXT,
        'cells': whole(),
        'memory': real(),
        'precision': TEXT,
        'chunk': whole(),
        'validate_every': whole(),
        'save_every': whole(),
        'profile': whole(0),
        'anatomy_every': whole(0),
        'optimise': SWITCH,
        'tflops': real(),
    }),
    'launch': Part({
        'where': Choice(PLACES),
        'processes': whole(1, MOST_NETWORKS),
        'slurm': Part({
            'cluster': Choice(CLUSTERS),
            'tasks': whole(),
            'parallel': whole(0),
            'partition': TEXT,
            'minutes': whole(),
            'cpus': whole(),
            'gpus': whole(0),
            'memory': real(),
            'extra': ARGUMENTS,
        }),
    }),
    'accept': Part({
        'method': TEXT,
        'transfer_size': whole(0),
        'score': real(-math.inf),
        'accuracy': real(0.0, 1.0),
        'gap_recovered': real(),
        'max_params': whole(0),
        'file': TEXT,
        'max_kilobytes': real(),
        'latency_ms': real(),
        'max_ram_kilobytes': real(),
        'accuracy_drop': real(),
    }),
    'retry': Part({
        'attempts': whole(0, MOST_ATTEMPTS),
        'temperature': Many(NOT_NEGATIVE),
        'weight': Many(NOT_NEGATIVE),
        'learning_rate': Many(NOT_NEGATIVE),
        'sparsity': Many(real(0.0, 1.0)),
        'bits': Many(real(2.0)),
        'transfer_size': Many(whole()),
    }),
    'tune': Part({'trials': whole(), 'batch': whole(), 'parts': whole(), 'keep_one_in': whole(2)}),
    'expected': TEXT,
    'track': Part({'tensorboard': SWITCH, 'wandb': SWITCH}),
})  # fmt: skip


def check(config: ConfigDict) -> tuple[list[str], bool]:
    """Holds every field of a config against its rule.

    Returns:
      What is wrong, a message each, fields with the same fault in one; and whether all fields have their types.
    """
    found = list(CONFIG.problems('', config))
    by_fault: dict[str, list[str]] = {}
    for problem in found:
        by_fault.setdefault(problem.said, []).append(problem.field)
    return [f'{_several(fields)} {said}'.lstrip() for said, fields in by_fault.items()], all(one.typed for one in found)


def _several(fields: list[str]) -> str:
    return ', '.join(fields[:3]) + (f' and {len(fields) - 3} more' if len(fields) > 3 else '')
