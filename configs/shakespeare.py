"""Characters of Shakespeare's plays (Tiny Shakespeare): what does a language model of 63 k parameters learn of one of
808 k, character by character, beside the text itself?

What decides are nats of a character on the last tenth of the text, where nanoGPT has 1.88 after 2,000 steps of a
network as the teacher here, and 1.47 with ten times as large a one.

Command:  KDJAX_DATA=folder python run.py --config=configs/shakespeare.py   (the folder has tiny_shakespeare/; python
          run.py --mode=prepare --data=tiny_shakespeare --data_dir=folder fetches it)
Cost:     with :quick, 2 seeds and 150 steps, after which no words are written yet, 165 s of one CPU core
Arguments: quick
"""

from ml_collections import ConfigDict

from configs import base

NET = 'decoder_only.transformer'
TEACHER = {'width': 128, 'depth': 4, 'heads': 4, 'inner': 512, 'positions': 64, 'dropout': 0.1, 'scanned': True}
STUDENT = {'width': 48, 'depth': 2, 'heads': 4, 'inner': 192, 'positions': 64, 'dropout': 0.0, 'scanned': True}


def get_config(arg: str = '') -> ConfigDict:
    """A language model of characters, locked."""
    arguments = base.arguments(arg, quick=False)
    config = base.config()
    config.title = 'Characters of Shakespeare'
    config.task = ConfigDict({'kind': 'language_model.LanguageModel'})
    config.data.source = 'tiny_shakespeare.characters'
    config.data.args = ConfigDict({'window': 64})
    config.data.transfer_sizes = ()
    config.student.net = config.teacher.net = NET
    config.student.args = ConfigDict(STUDENT)
    config.teacher.args = ConfigDict(TEACHER)
    # Soft labels of all characters would be 60 MB a view, and asking again costs a third of a step
    config.teacher.mode = 'online'
    config.terms = ConfigDict({
        'hard': {'kind': 'cross_entropy.CrossEntropy'},
        'soft': {'kind': 'word_level.WordLevel', 'form': 'kl'},
    })  # fmt: skip
    config.fits = ConfigDict({'baseline': base.fit(hard=1.0), 'word': base.fit(hard=0.5, soft=0.5)})
    config.methods = ConfigDict({'the text alone': ('baseline',), 'word level': ('word',)})
    config.baseline, config.accept.method = 'the text alone', 'word level'
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.update({'steps': 1000, 'batch_size': 32, 'learning_rate': 4e-3, 'weight_decay': 1e-2})
        fit.optim = ConfigDict({'name': 'adamw', 'schedule': 'cosine', 'warmup': 100, 'clip': 1.0})
    config.teacher.fit.update({'steps': 2000, 'learning_rate': 2e-3})
    config.seeds = 3
    if arguments['quick']:
        _quick(config)
    return config.lock()


def _quick(config: ConfigDict) -> None:
    """A look at the machinery."""
    config.seeds = 2
    config.data.args.validation = 10_000
    config.teacher.args.update({'width': 64, 'depth': 2, 'inner': 256})
    config.student.args.update({'width': 24, 'depth': 1, 'inner': 96})
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.steps = 150
        fit.optim.warmup = 20
    config.run.validate_every = 150
