"""Spoken strings of digits by a speaker nobody heard, with CTC: what does a transcriber of 10 k parameters learn of a
BiLSTM, frame by frame, guided, or from the strings that it hears?

Two CTC networks say a digit at few frames, and seldom at the same ones. Student and teacher have one stride, so that
frames can be compared; 'guided' makes the spikes meet first.

Command:  KDJAX_DATA=folder python run.py --config=configs/fsdd_ctc.py   (the folder has fsdd/recordings; python run.py
          --mode=prepare --data=fsdd --data_dir=folder fetches them)
Cost:     about eight minutes of 2 CPU cores for all four, reckoned; with :quick, 2 seeds and 60 steps, after which
          nothing is heard yet, 160 s of one
Expected: of theo's words (fold 4) 26.7 % are wrong with CTC alone, 25.5 with all frames, 25.7 with those around spikes,
          26.5 guided and 27.8 with the teacher's strings, which 5 seeds do not tell apart, nor 27.3 with its five best
          (heard=FILE); with the teacher 19.9: experiments/fsdd_ctc
Arguments: quick, division=speaker|official
    fold=N: the speaker of the test split, 0 to 5
    methods=NAME+NAME+...: of frames, around, guided and strings, beside CTC alone; all of them if left out
    heard=FILE: the teacher is a table of the strings that it hears, which experiments/fsdd_ctc/hear.py writes; methods
        are then of first and n_best
"""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from configs import base
from configs.fsdd import AUGMENT
from kdjax.errors import unknown

DIGITS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
METHODS = {  # a fit, and what its method is called
    'frames': 'all frames',
    'around': 'frames around spikes',
    'guided': 'guided',
    'strings': "the teacher's strings",
}
HEARD = {'first': 'its first string', 'n_best': 'its five best strings'}  # of a clip as it is


def get_config(arg: str = '') -> ConfigDict:
    """Strings of digits, locked."""
    arguments = base.arguments(arg, quick=False, division='speaker', fold=4, methods='', heard='')
    known = HEARD if arguments['heard'] else METHODS
    config = base.config()
    config.title = 'Strings of spoken digits (FSDD)'
    config.task = ConfigDict({'kind': 'transcription.Transcription', 'symbols': DIGITS})
    config.data.source = 'fsdd.strings'
    fold = 0 if arguments['division'] == 'official' else arguments['fold']
    config.data.args = ConfigDict({'division': arguments['division'], 'fold': fold, 'sizes': (2000, 300, 500)})
    # 20 ms from frame to frame, and a network halves that: 60 answers of a clip
    config.data.preprocess = ConfigDict({'kind': 'audio.log_mel', 'window': 240, 'hop': 160})
    config.data.transfer_sizes = (2000,)
    config.data.views = config.teacher.views = 4
    with config.ignore_type():
        config.data.augment = config.teacher.augment = AUGMENT
    config.student.net = 'depthwise.transcriber'
    config.student.args = ConfigDict({'stride': 1})
    config.teacher.net = 'conv_bilstm.transcriber'
    config.teacher.args = ConfigDict({'strides': (1, 2)})
    config.teacher.fit = base.fit(ctc=1.0)
    _fits(config, known, arguments['methods'].split('+') if arguments['methods'] else [*known])
    if arguments['heard']:
        config.teacher.outputs, config.data.consistent = arguments['heard'], False
    config.seeds = 5
    config.run.validate_every = 100
    if arguments['quick']:
        _quick(config)
    return config.lock()


def _fits(config: ConfigDict, known: Mapping[str, str], taught: Sequence[str]) -> None:
    for method in taught:
        if method not in known:
            raise unknown('method', method, known, ' of fsdd_ctc')
    config.terms = ConfigDict({
        'ctc': {'kind': 'ctc.Ctc'},
        # A frame's divergence is a tenth of a label's CTC loss
        'frames': {'kind': 'ctc_frames.FrameDivergence', 'frames': 'all'},
        'around': {'kind': 'ctc_frames.FrameDivergence', 'frames': 'around', 'reach': 2},
        'guided': {'kind': 'ctc_guided.GuidedCtc'},
        'strings': {'kind': 'ctc_sequences.HypothesisCtc', 'form': 'per_label'},
        'heard': {'kind': 'ctc_sequences.HypothesisCtc', 'form': 'per_label', 'given': True},
    })  # fmt: skip
    fits = {
        'baseline': base.fit(ctc=1.0),
        'frames': base.fit(ctc=0.5, frames=5.0),
        'around': base.fit(ctc=0.5, around=2.0),
        'guided': base.fit(ctc=1.0, guided=0.1),
        'strings': base.fit(ctc=0.5, strings=0.5),
        'first': base.fit(ctc=0.5, strings=0.5),
        'n_best': base.fit(ctc=0.5, heard=0.5),
    }
    config.fits = ConfigDict({fit: fits[fit] for fit in ('baseline', *known)})
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.update({'steps': 400, 'batch_size': 32, 'learning_rate': 1e-2, 'weight_decay': 1e-2})
        # CTC first learns to say nothing but blanks, and leaves that between steps 100 and 200
        fit.optim = ConfigDict({'name': 'adamw', 'schedule': 'cosine', 'warmup': 100, 'clip': 5.0})
    config.teacher.fit.learning_rate = 4e-3
    config.baseline, config.accept.method = 'CTC alone', known[taught[0]]
    config.methods = ConfigDict({config.baseline: ('baseline',), **{known[fit]: (fit,) for fit in taught}})


def _quick(config: ConfigDict) -> None:
    """A look at the machinery: so soon a CTC network says nothing but blanks."""
    config.seeds = 2
    config.data.args.sizes = (400, 80, 80)
    config.data.transfer_sizes = (400,)
    config.methods = ConfigDict({name: config.methods[name] for name in (config.baseline, config.accept.method)})
    for fit in (config.teacher.fit, *config.fits.values()):
        fit.steps = 60
        fit.optim.warmup = 10
    config.run.validate_every = 60
    config.data.views = config.teacher.views = 1
