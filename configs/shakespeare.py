"""Characters of Shakespeare's plays (Tiny Shakespeare): what does a language model of 63 k parameters learn of one of
808 k, character by character, from the plays and from what it writes itself?

All students first learn from the plays alone; then they go on so, or with a teacher: by forward KL on the plays, by GKD
(half of the examples are the student's own texts), by MiniLLM (half are texts of student and teacher together) or by
DistiLLM (own texts are kept and read again). What decides are nats of a character on the last tenth of the plays; what
students write themselves is judged by the teacher, which is what the last three are for.

Command:  KDJAX_DATA=folder python run.py --config=configs/shakespeare.py   (the folder has tiny_shakespeare/; python
          run.py --mode=prepare --data=tiny_shakespeare --data_dir=folder fetches it)
Cost:     2,723 s in all stages on 2 cores of which other programs took the most; with :quick, without MiniLLM and
          DistiLLM, 2 seeds and 25 steps, after which no words are written yet, 59 s on 2 cores with nothing compiled
Expected: 2.5117 ± 0.0137 nats by forward KL, 2.5256 ± 0.0141 by the plays alone; KL of own text 0.131 by GKD, 0.137 by
          forward KL, 0.186 by the plays alone (5 seeds)
Arguments: quick
"""

from ml_collections import ConfigDict

from configs import base

NET = 'decoder_only.transformer'
TEACHER = {'width': 128, 'depth': 4, 'heads': 4, 'inner': 512, 'positions': 64, 'dropout': 0.1, 'scanned': True}
STUDENT = {'width': 48, 'depth': 2, 'heads': 4, 'inner': 192, 'positions': 64, 'dropout': 0.0, 'scanned': True}
PROMPT = 16  # characters of the plays that own texts begin with, in training and where they are judged
OWN = {'prompt': PROMPT, 'by': 'batches'}


def get_config(arg: str = '') -> ConfigDict:
    """A language model of characters, locked."""
    arguments = base.arguments(arg, quick=False)
    config = base.config()
    config.title = 'Characters of Shakespeare'
    config.task = ConfigDict({'kind': 'language_model.LanguageModel', 'own': 64, 'prompt': PROMPT})
    config.data.source = 'tiny_shakespeare.characters'
    config.data.args = ConfigDict({'window': 64})
    config.data.transfer_sizes = ()
    config.student.net = config.teacher.net = NET
    config.student.args = ConfigDict(STUDENT)
    config.teacher.args = ConfigDict(TEACHER)
    config.teacher.mode = 'online'  # what is written in a step cannot be looked up
    config.terms = ConfigDict({
        'hard': {'kind': 'cross_entropy.CrossEntropy'},
        'forward': {'kind': 'word_level.WordLevel', 'form': 'kl'},
        'jsd': {'kind': 'gkd.GeneralizedJSD', 'beta': 0.5},
        'sequence': {'kind': 'minillm.SequenceReverseKL'},
        'skew': {'kind': 'distillm.SkewKL', 'skew': 0.1},
    })  # fmt: skip
    config.fits = ConfigDict({
        'start': base.fit(hard=1.0),
        'hard': base.fit(hard=1.0),
        'forward': base.fit(forward=1.0),
        'gkd': base.fit(jsd=1.0),
        'minillm': base.fit(sequence=1.0, hard=1.0),
        'distillm': base.fit(skew=1.0),
    })  # fmt: skip
    config.methods = ConfigDict({
        'the plays alone': ('start', 'hard'),
        'forward KL': ('start', 'forward'),
        'GKD': ('start', 'gkd'),
        'MiniLLM': ('start', 'minillm'),
        'DistiLLM': ('start', 'distillm'),
    })  # fmt: skip
    config.baseline, config.accept.method = 'the plays alone', 'GKD'
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.update({'steps': 80, 'batch_size': 16, 'learning_rate': 2e-3, 'weight_decay': 1e-2})
        fit.optim = ConfigDict({'name': 'adamw', 'schedule': 'cosine', 'warmup': 10, 'clip': 1.0})
    for name, texts in (
        ('gkd', {'kind': 'student'}),
        ('minillm', {'kind': 'mixed', 'share': 0.2}),
        # So few steps do not wait for validation to get worse: half of the batches are own texts from the first on
        ('distillm', {'kind': 'replay', 'capacity': 128, 'tolerance': 0.0}),
    ):
        config.fits[name].texts = ConfigDict({**texts, **OWN})
    config.fits.start.update({'steps': 250, 'learning_rate': 4e-3})
    config.teacher.fit.steps = 450
    config.seeds = 5
    config.run.layout = 'map'  # a batch without own texts then takes no time to write them
    if arguments['quick']:
        _quick(config)
    return config.lock()


def _quick(config: ConfigDict) -> None:
    """A look at the machinery, by one way of each kind."""
    for name, fit in (('MiniLLM', 'minillm'), ('DistiLLM', 'distillm')):
        del config.methods[name], config.fits[fit]
    config.seeds, config.task.own, config.run.optimise = 2, 8, False
    config.data.args.validation = 10_000
    config.teacher.args.update({'width': 64, 'depth': 2, 'inner': 256})
    config.student.args.update({'width': 24, 'depth': 1, 'inner': 96})
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.steps, fit.batch_size, fit.optim.warmup = 25, 16, 5
    config.run.validate_every = 25
