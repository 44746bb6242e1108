"""Descriptions of pictures, from English into German (Multi30k): what does a translator of one layer learn of one of
two, word by word, of its translations, and of both?

The methods are those of Kim, Rush (EMNLP 2016), table 1: the references alone; what the teacher says of each word of
them ('word'); its translations by a search ('sequence'), or greedily ('greedy'); words of its translations ('both');
and the translations of the n best that are closest to the references, after 'sequence' ('inter', Seq-Inter). Every
student is measured greedily and by a search.

By default pairs of at most 14 sub-words, in training and in both evaluations: 5,000 of 29,000, so that all ends in
minutes. It shows which method is better and what each costs, and its BLEU is no figure for a table: there are a few
hundred short sentences. With :full all pairs are trained on and evaluated.

Command:  KDJAX_DATA=folder python run.py --config=configs/multi30k.py   (the folder has multi30k_en_de/; python run.py
          --mode=prepare --data=multi30k_en_de --data_dir=folder fetches it; needs the extra 'translation')
Cost:     14 minutes of one CPU core; with :quick, 2 seeds and 30 steps, after which nothing is translated yet, 48 s
          on 2 cores with nothing compiled before; with :full about 4 hours of one core, half of it the teacher,
          reckoned from its first steps (a second each, of a core without AVX-512): it was not run to the end
Expected: BLEU of 23.2 with references alone, 25.9 word by word, 25.1 with translations (25.5 with greedy ones), 26.2
          with both, 27.3 where those that are closest to the references follow; the teacher has 31.2:
          experiments/multi30k. With :full 27.3, 28.4 word by word, 30.8 with translations and 36.4:
          experiments/multi30k_full
Arguments: quick, full
    methods=NAME+NAME+...: of word, sequence, greedy, both and inter, beside references alone; if left
        out all of them, with :quick sequence
    beam=N: width of the search, of students and of the teacher whose translations are learned
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs import base
from kdjax.errors import unknown

NET = 'encoder_decoder.transformer'
TEACHER = {'width': 96, 'depth': 2, 'heads': 4, 'inner': 192, 'dropout': 0.3, 'scanned': True}
STUDENT = {'width': 64, 'depth': 1, 'heads': 2, 'inner': 128, 'dropout': 0.1, 'scanned': True}
SHORT = {'vocabulary': 2000, 'longest': 14, 'longest_evaluated': 14}
ALONE = 'references alone'
METHODS = {  # its fits, and what it is called
    'word': (('word',), 'word level'),
    'sequence': (('sequence',), 'sequence level'),
    'greedy': (('greedy',), 'sequence level, greedy'),
    'both': (('both',), 'both levels'),
    'inter': (('sequence', 'inter'), 'sequence level, then closest'),
}


def get_config(arg: str = '') -> ConfigDict:
    """Translation into German, locked."""
    arguments = base.arguments(arg, quick=False, full=False, beam=5, methods='')
    config = base.config()
    config.title = 'Descriptions of pictures in German (Multi30k)'
    config.task = ConfigDict({'kind': 'translation.Translation', 'beam': arguments['beam']})
    config.data.source = 'multi30k.pairs'
    config.data.args = ConfigDict(SHORT)
    config.data.transfer_sizes = ()
    config.student.net = config.teacher.net = NET
    config.student.args = ConfigDict(STUDENT)
    config.teacher.args = ConfigDict(TEACHER)
    config.terms = ConfigDict({
        'hard': {'kind': 'cross_entropy.CrossEntropy'},
        'soft': {'kind': 'word_level.WordLevel', 'form': 'kl'},
    })  # fmt: skip
    few = ('sequence',) if arguments['quick'] else (*METHODS,)
    _fits(config, arguments['methods'].split('+') if arguments['methods'] else few, arguments['beam'])
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.update({'steps': 500, 'batch_size': 32, 'learning_rate': 4e-3})
        # Without a warm-up, or without clipping, transformers of this rate diverge
        fit.optim = ConfigDict({'name': 'adamw', 'b2': 0.98, 'schedule': 'inverse_sqrt', 'warmup': 150, 'clip': 1.0,
                                'average_last': 5, 'average_every': 20})  # fmt: skip
    config.teacher.fit.update({'steps': 1200, 'learning_rate': 3e-3})
    config.seeds = 3
    config.run.validate_every = 500
    if arguments['full']:
        _full(config)
    if 'inter' in config.fits:
        _shorter(config.fits.inter)
    if arguments['quick']:
        _quick(config)
    return config.lock()


def _fits(config: ConfigDict, taught: Sequence[str], beam: int) -> None:
    for method in taught:
        if method not in METHODS:
            raise unknown('method', method, METHODS, ' of multi30k')
    fits = {
        'baseline': base.fit(hard=1.0),
        'word': base.fit(hard=0.5, soft=0.5),
        'sequence': base.fit(hard=1.0),
        'greedy': base.fit(hard=1.0),
        'both': base.fit(hard=0.5, soft=0.5),
        'inter': base.fit(hard=1.0),
    }
    for name in ('sequence', 'both'):
        fits[name].task = ConfigDict({'learned': 'best'})
    fits['greedy'].task = ConfigDict({'learned': 'best', 'search': 1})
    fits['inter'].task = ConfigDict({'learned': 'closest'})
    used = {'baseline', *(fit for method in taught for fit in METHODS[method][0])}
    config.fits = ConfigDict({name: fit for name, fit in fits.items() if name in used})
    widths = sorted({fit.task.get('search', beam) for fit in config.fits.values() if 'learned' in fit.task})
    config.task.sequences = tuple(widths)
    # What is said of every token of all references would be gigabytes; asking again costs a third of a step. With
    # translations to be cached it is asked too
    config.teacher.mode = 'cached' if widths else 'online'
    config.methods = ConfigDict({ALONE: ('baseline',), **{METHODS[each][1]: METHODS[each][0] for each in taught}})
    config.baseline, config.accept.method = ALONE, METHODS[taught[0]][1]


def _shorter(fit: ConfigDict) -> None:
    """A fit that starts where another ended."""
    fit.steps //= 3
    fit.learning_rate /= 4
    fit.optim.schedule, fit.optim.warmup = 'linear', fit.optim.warmup // 4


def _full(config: ConfigDict) -> None:
    """All pairs, and the Transformer-Tiny of Wu et al. (ACL 2021) as teacher."""
    config.data.args = ConfigDict({'vocabulary': 4000, 'longest': 40})
    config.data.buckets = (12, 16, 20, 24, 28)
    config.teacher.args.update({'width': 128, 'depth': 4, 'inner': 256})
    for net in (config.teacher, config.student):
        net.args.scanned = False  # a tenth faster, and compiling is a small part of this
    # 28 and 9 epochs of the pairs
    config.teacher.fit.update({'steps': 7800, 'batch_size': 64})
    config.teacher.fit.optim.update({'warmup': 900, 'average_last': 10, 'average_every': 170})
    for fit in config.fits.values():
        fit.update({'steps': 2500, 'batch_size': 64})
        fit.optim.update({'warmup': 400, 'average_last': 10, 'average_every': 40})
    config.run.validate_every = 1000
    config.run.chunk = 1  # steps take most of a second, and each length of a dispatch is a program for each width


def _quick(config: ConfigDict) -> None:
    """A look at the machinery: so soon nothing is translated."""
    config.seeds, config.run.optimise, config.task.beam = 2, False, 1
    config.data.args.update({'longest': 10, 'longest_evaluated': 10})
    config.teacher.args.update({'width': 64, 'depth': 1, 'inner': 128})
    config.student.args.update({'width': 32, 'inner': 64})
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.steps, fit.batch_size = 30, 32
        fit.optim.warmup, fit.optim.average_every = 10, 2
    config.run.validate_every = config.run.chunk = 30  # of one length, so one program for each fit
