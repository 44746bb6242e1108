"""Sentiment of sentences (sst2_sentences, never GLUE's phrases): what does a teacher add where few have labels?

The teacher is a linear model of 1- and 2-grams, five of which each label the fifth that they were not trained on: it
knows all of its own training labels by heart, and its soft labels there would give them away. The student is a bag of
74 k parameters. 'soft, all sentences' sees the other training sentences too, without their labels.

Command:  KDJAX_DATA=folder python run.py --config=configs/sst2.py   (the folder has sst2/train.tsv, dev.tsv, test.tsv;
          python run.py --mode=prepare --data=sst2 --data_dir=folder fetches them)
Cost:     four minutes of one CPU core; with :quick, 5 seeds and two sizes, less than one
Expected: with 500 labels 3.4 points more than without a teacher, and 10.8 with the other sentences as unlabelled text;
          with all 6,920 labels 0.8 less: the soft labels are then no better than the student
Arguments: quick, student=bag|textcnn|bilstm
    views=N: the teacher is a TextCNN, five of which each label N views of the fifth that they were not trained on: each
        sentence, and N - 1 of it in which words are masked and of which an n-gram is taken (Tang et al., 2019); 1 for
        the sentences alone
    technique=NAME: what the paper of a technique does, beside soft labels, to a transformer of two layers that has a
        thousand sentences; another of four layers, which learned from all of them, is the teacher
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base, words
from kdjax.errors import UsageError, unknown

STUDENTS = {
    'bag': {'net': 'bag.bag', 'args': {'width': 24, 'hidden': 32, 'dropout': 0.3}},
    'textcnn': {'net': 'textcnn.textcnn', 'args': {}},
    'bilstm': {'net': 'bilstm.bilstm', 'args': {'width': 24}},
}
AUGMENT = ({'kind': 'augment_text.mask', 'probability': 0.1}, {'kind': 'augment_text.ngram', 'probability': 0.25})


def get_config(arg: str = '') -> ConfigDict:
    """Sentiment with few labels, locked."""
    arguments = base.arguments(arg, quick=False, student='bag', technique='', views=0)
    if arguments['student'] not in STUDENTS:
        raise unknown('student', arguments['student'], STUDENTS)
    if arguments['technique'] and (arguments['views'] or arguments['student'] != 'bag'):
        raise UsageError(f'a technique has networks of its own, and sees sentences as they are: leave out student and '
                         f'views, got {arg!r}')  # fmt: skip
    config = _sizes(arguments['student'])
    if arguments['quick']:
        config.seeds = 5
        config.data.transfer_sizes = (500, 6920)
        config.accept.gap_recovered = 0.0  # of a look nothing is demanded
    if arguments['views']:
        _views(config, arguments['views'])
    if arguments['technique']:
        techniques(config, (arguments['technique'],), arguments['quick'])
    return config.lock()


def techniques(config: ConfigDict, names: Sequence[str], quick: bool = False) -> None:
    """Makes the job one of these techniques of transformers, side by side."""
    config.title = 'Techniques on sentences (sst2_sentences)'
    config.seeds = 2 if quick else 5
    config.data.args = ConfigDict({'vocabulary': 3000})
    config.data.transfer_sizes = (1000,)
    config.data.buckets = (24,)
    words.teach(config, names, quick)
    config.accept.update({'method': names[0], 'transfer_size': 0, 'gap_recovered': 0.0})
    config.run.validate_every = 150


def _sizes(student: str) -> ConfigDict:
    config = base.config()
    config.title = 'Sentiment of sentences (sst2_sentences)'
    config.data.source = 'sst2.sentences'
    config.data.args = ConfigDict({'vocabulary': 3000, 'ngrams': 2})
    config.data.transfer_sizes = (250, 500, 1000, 2000, 6920)
    _teacher(config.teacher)
    config.student.net, config.student.args = STUDENTS[student]['net'], ConfigDict(STUDENTS[student]['args'])
    _methods(config)
    config.accept.method = 'soft, all sentences'
    config.accept.transfer_size = 500
    config.accept.gap_recovered = 0.3
    config.run.validate_every = 110
    return config


def _views(config: ConfigDict, views: int) -> None:
    """The teacher reads words, so that it can be asked of sentences that nobody wrote."""
    config.data.args = ConfigDict({'vocabulary': 3000})
    with config.ignore_type():
        config.data.augment = AUGMENT
    config.data.views = views
    config.teacher.update({'net': 'textcnn.textcnn', 'inputs': 'inputs'})
    config.teacher.args = ConfigDict({'width': 32, 'filters': 32})
    config.teacher.fit.update({'steps': 300, 'batch_size': 128, 'learning_rate': 5e-3})


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
