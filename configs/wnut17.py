"""Named entities in noisy text (WNUT-17): a tagger of 92 k parameters that reads windows of words, and a BiLSTM-CRF.

95 of 100 tokens are in no entity, so every network says at first that none is: what decides is the F1 of whole
entities, on validation, and many small batches matter more than epochs. The teacher's soft labels are the marginals of
its CRF.

Command:  KDJAX_DATA=folder python run.py --config=configs/wnut17.py   (the folder has wnut17/; python run.py
          --mode=prepare --data=wnut17 --data_dir=folder fetches it)
Cost:     about 10 minutes on 2 CPU cores; with :quick, 5 seeds and a teacher of windows, about one
Expected: an F1 of 8 on test, 13 of the teacher; distillation loses a third of a point: the teacher has no text to label
          that its student has not seen labelled
Arguments: quick, teacher=crf|windows
"""

from ml_collections import ConfigDict

from configs import base
from kdjax.errors import unknown

TYPES = ('corporation', 'creative-work', 'group', 'location', 'person', 'product')
TAGS = ('O', *(f'{place}-{kind}' for kind in TYPES for place in 'BI'))
TEACHERS = ('crf', 'windows')


def get_config(arg: str = '') -> ConfigDict:
    """Named entities, locked."""
    arguments = base.arguments(arg, quick=False, teacher='')
    teacher = arguments['teacher'] or ('windows' if arguments['quick'] else 'crf')
    if teacher not in TEACHERS:
        raise unknown('teacher', teacher, TEACHERS)
    config = base.config()
    config.title = 'Named entities in noisy text (WNUT-17)'
    config.task = ConfigDict({'kind': 'tagging.Tagging', 'tags': TAGS})
    config.data.source = 'wnut17.entities'
    config.data.transfer_sizes = (3394,)
    config.data.buckets = (16, 28)
    config.student.net = 'windows.mlp'
    config.student.args = ConfigDict({})
    (_crf if teacher == 'crf' else _windows)(config.teacher)
    _methods(config, teacher)
    config.run.validate_every = 300
    if arguments['quick']:
        config.seeds = 5
    return config.lock()


def _crf(teacher: ConfigDict) -> None:
    teacher.net = 'crf.crf'  # on a bidirectional LSTM
    teacher.args = ConfigDict({'args': {'width': 64, 'units': 64, 'spelling': 32, 'dropout': 0.5}})
    teacher.fit = base.fit(crf=1.0)
    teacher.fit.update({'steps': 4000, 'batch_size': 16, 'learning_rate': 5e-3})


def _windows(teacher: ConfigDict) -> None:
    teacher.net = 'windows.mlp'
    teacher.args = ConfigDict({'width': 32, 'hidden': 128})
    teacher.members = 3
    teacher.fit.update({'steps': 1800, 'batch_size': 8, 'learning_rate': 5e-3, 'weight_decay': 1e-2})


def _methods(config: ConfigDict, teacher: str) -> None:
    config.terms.crf = ConfigDict({'kind': 'crf.CrfLikelihood'})
    config.terms.soft.temperature = 1.0
    config.fits = ConfigDict({'baseline': base.fit(hard=1.0), 'combined': base.fit(hard=0.5, soft=0.5)})
    config.methods = ConfigDict({'hard labels': ('baseline',), 'hard and soft': ('combined',)})
    if teacher == 'crf':
        # The whole distribution over sequences of tags, rather than that of each tag by itself
        config.terms.sequence = ConfigDict(
            {'kind': 'structural_kl.SequenceDivergence', 'crf': 'teacher', 'per': 'token'}
        )
        config.fits.sequences = base.fit(hard=0.5, sequence=0.5)
        config.methods['hard and sequences'] = ('sequences',)
    for fit in config.fits.values():
        fit.update({'steps': 1800, 'batch_size': 8, 'learning_rate': 5e-3, 'weight_decay': 1e-2})
    config.accept.method = 'hard and soft'
