"""Sentiment of sentences (sst2_sentences, never GLUE's phrases): what does a teacher add where few have labels?

The teacher is a linear model of 1- and 2-grams, five of which each label the fifth that they were not trained on: it
knows 99 % of its own training labels by heart, and its soft labels there would give them away. The student is a bag of
74 k parameters. 'soft, all sentences' sees the other training sentences too, without their labels.

Command:  KDJAX_DATA=folder python run.py --config=configs/sst2.py   (the folder has sst2/train.tsv, dev.tsv, test.tsv;
          python run.py --mode=prepare --data=sst2 fetches them)
Cost:     about 5 minutes on 2 CPU cores; with :quick, 5 seeds and two sizes, about one
Expected: with 500 labels 3 points more than without a teacher, and 9 to 10 with the other sentences as unlabelled text;
          with all 6,920 labels nothing: the teacher is then no better than its student
Arguments: quick, student=bag|textcnn|bilstm
"""

from ml_collections import ConfigDict

from configs import base
from kdjax.errors import unknown

STUDENTS = {
    'bag': {'net': 'bag.bag', 'args': {'width': 24, 'hidden': 32, 'dropout': 0.3}},
    'textcnn': {'net': 'textcnn.textcnn', 'args': {}},
    'bilstm': {'net': 'bilstm.bilstm', 'args': {'width': 24}},
}


def get_config(arg: str = '') -> ConfigDict:
    """Sentiment with few labels, locked."""
    arguments = base.arguments(arg, quick=False, student='bag')
    if arguments['student'] not in STUDENTS:
        raise unknown('student', arguments['student'], STUDENTS)
    config = base.config()
    config.title = 'Sentiment of sentences (sst2_sentences)'
    config.data.source = 'sst2.sentences'
    config.data.args = ConfigDict({'vocabulary': 3000, 'ngrams': 2})
    config.data.transfer_sizes = (250, 500, 1000, 2000, 6920)
    _teacher(config.teacher)
    student = STUDENTS[arguments['student']]
    config.student.net, config.student.args = student['net'], ConfigDict(student['args'])
    _methods(config)
    config.accept.method = 'soft, all sentences'
    config.accept.transfer_size = 500
    config.accept.gap_recovered = 0.3
    config.run.validate_every = 110
    if arguments['quick']:
        config.seeds = 5
        config.data.transfer_sizes = (500, 6920)
    return config.lock()


def _teacher(teacher: ConfigDict) -> None:
    teacher.net, teacher.inputs, teacher.folds = 'ngrams.linear', 'teacher_inputs', 5
    teacher.args = ConfigDict({'scale': 'sqrt'})
    teacher.fit.update({'steps': 600, 'batch_size': 256, 'learning_rate': 2e-2, 'weight_decay': 1e-2})


def _methods(config: ConfigDict) -> None:
    config.terms.soft.temperature = 2.0
    config.fits = ConfigDict({
        'baseline': base.fit(hard=1.0),
        'combined': base.fit(hard=0.3, soft=0.7),
        'unlabelled': base.fit(hard=0.3, soft=0.7),
    })  # fmt: skip
    for fit in config.fits.values():
        fit.update({'steps': 440, 'batch_size': 128, 'learning_rate': 5e-3, 'weight_decay': 1e-2})
    config.fits.unlabelled.examples = 'all'
    config.methods = ConfigDict({
        'hard labels': ('baseline',),
        'soft and hard': ('combined',),
        'soft, all sentences': ('unlabelled',),
    })  # fmt: skip
