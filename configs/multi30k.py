"""Descriptions of pictures, from English into German (Multi30k): what does a translator of one layer learn of one of
two, word by word of the references, or of its translations?

By default pairs of at most 14 sub-words, in training and in both evaluations: 5,000 of 29,000, so that all ends in
minutes. It shows which method is better and what each costs, and its BLEU is no figure for a table: there are a few
hundred short sentences. With :full all pairs are trained on and evaluated, which takes hours.

Command:  KDJAX_DATA=folder python run.py --config=configs/multi30k.py   (the folder has multi30k_en_de/; python run.py
          --mode=prepare --data=multi30k_en_de --data_dir=folder fetches it; needs the extra 'translation')
Cost:     with :quick, 2 seeds and 60 steps, after which nothing is translated yet, 150 s of one CPU core
Arguments: quick, full
    sequences=N: students learn from the teacher's translations, of a search that goes on with N texts
    beam=N: texts that a search goes on with; 1 is greedy decoding
"""

from ml_collections import ConfigDict

from configs import base

NET = 'encoder_decoder.transformer'
TEACHER = {'width': 128, 'depth': 2, 'heads': 4, 'inner': 256, 'dropout': 0.3, 'scanned': True}
STUDENT = {'width': 64, 'depth': 1, 'heads': 2, 'inner': 128, 'dropout': 0.1, 'scanned': True}
SHORT = {'vocabulary': 2000, 'longest': 14, 'longest_evaluated': 14}


def get_config(arg: str = '') -> ConfigDict:
    """Translation into German, locked."""
    arguments = base.arguments(arg, quick=False, full=False, beam=1, sequences=0)
    config = base.config()
    config.title = 'Descriptions of pictures in German (Multi30k)'
    config.task = ConfigDict({'kind': 'translation.Translation', 'beam': arguments['beam']})
    config.data.source = 'multi30k.pairs'
    config.data.args = ConfigDict(SHORT)
    config.data.transfer_sizes = ()
    config.student.net = config.teacher.net = NET
    config.student.args = ConfigDict(STUDENT)
    config.teacher.args = ConfigDict(TEACHER)
    # What is said of every token of all references would be gigabytes; asking again costs a third of a step
    config.teacher.mode = 'online'
    config.terms = ConfigDict({
        'hard': {'kind': 'cross_entropy.CrossEntropy'},
        'soft': {'kind': 'word_level.WordLevel', 'form': 'kl'},
    })  # fmt: skip
    config.fits = ConfigDict({'baseline': base.fit(hard=1.0), 'word': base.fit(hard=0.5, soft=0.5)})
    config.methods = ConfigDict({'references alone': ('baseline',), 'word level': ('word',)})
    config.baseline, config.accept.method = 'references alone', 'word level'
    if arguments['sequences']:
        _sequences(config, arguments['sequences'])
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.update({'steps': 900, 'batch_size': 96, 'learning_rate': 4e-3})
        # Without a warm-up, or without clipping, transformers of this rate diverge
        fit.optim = ConfigDict({'name': 'adamw', 'b2': 0.98, 'schedule': 'cosine', 'warmup': 200, 'clip': 1.0})
    config.seeds = 3
    config.run.validate_every = 300
    if arguments['full']:
        _full(config)
    if arguments['quick']:
        _quick(config)
    return config.lock()


def _sequences(config: ConfigDict, beam: int) -> None:
    """A fit that a teacher teaches reads its translations: alone, or with what it says of each of their words."""
    config.task.sequences, config.teacher.mode = beam, 'cached'
    config.fits = ConfigDict({
        'baseline': base.fit(hard=1.0),
        'sequence': base.fit(hard=1.0, soft=0.0),
        'both': base.fit(hard=0.5, soft=0.5),
    })  # fmt: skip
    config.methods = ConfigDict({
        'references alone': ('baseline',),
        'sequence level': ('sequence',),
        'sequence and word level': ('both',),
    })  # fmt: skip
    config.accept.method = 'sequence level'


def _full(config: ConfigDict) -> None:
    """All pairs, and the Transformer-Tiny of Wu et al. (ACL 2021) as teacher."""
    config.data.args = ConfigDict({'vocabulary': 4000, 'longest': 40})
    config.data.buckets = (16, 24)
    config.teacher.args.depth = 4
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.update({'steps': 9000, 'batch_size': 64})
        fit.optim.warmup = 1000
    config.run.validate_every = 3000


def _quick(config: ConfigDict) -> None:
    """A look at the machinery: so soon nothing is translated."""
    config.seeds = 2
    config.teacher.args.update({'width': 64, 'depth': 1, 'inner': 128})
    config.student.args.update({'width': 32, 'inner': 64})
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.steps, fit.batch_size = 60, 32
        fit.optim.warmup = 20
    config.run.validate_every = 60
