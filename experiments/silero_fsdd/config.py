"""When somebody speaks, by 1.8 k parameters, taught by silero-vad as a black box: are its decisions enough?

Command:  KDJAX_DATA=folder python run.py --config=experiments/silero_fsdd/config.py:answers=OUT
          (OUT is what experiments/silero_fsdd/ask.py wrote; the folder has fsdd/recordings)
Cost:     two minutes of one CPU core
Expected: 89.5 % of the moments of a speaker that was never heard are decided as by silero-vad, whether its decisions
          or its probabilities are learned, which ten seeds do not tell apart
Arguments: answers=FOLDER, fold=N (the speaker of the test split, 0 to 5), seeds=N, steps=N, quick
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = '') -> ConfigDict:
    """Speech or silence, locked."""
    given = base.arguments(arg, answers='', fold=4, seeds=10, steps=400, quick=False)
    config = base.config()
    config.title = 'Speech or silence, from silero-vad'
    config.task = ConfigDict({'kind': 'keywords.Keywords'})
    config.data.source = 'fsdd.moments'
    config.data.args = ConfigDict({'speech': f'{given["answers"]}/speech.npz', 'fold': given['fold']})
    # How loud it is tells speech from silence, so nothing is taken from what a clip has
    config.data.preprocess = ConfigDict({'kind': 'audio.log_mel', 'window': 240, 'hop': 160, 'centre': 'none'})
    config.data.transfer_sizes = ()
    config.teacher.outputs = f'{given["answers"]}/teacher-{given["fold"]}.npz'
    config.student.net = 'depthwise.keyword'
    config.student.args = ConfigDict({'first': 8, 'stride': 1, 'widths': (12, 12, 12), 'strides': (2, 1, 2)})
    config.seeds = 2 if given['quick'] else given['seeds']
    steps = 30 if given['quick'] else given['steps']
    config.terms.soft.temperature = 1.0
    config.teacher.fit = _fit(steps, hard=1.0)  # nothing is trained: it is a table
    config.fits = ConfigDict({'baseline': _fit(steps, hard=1.0), 'taught': _fit(steps, soft=1.0)})
    config.methods = ConfigDict({'its decisions': ('baseline',), 'its probabilities': ('taught',)})
    config.baseline, config.accept.method = 'its decisions', 'its probabilities'
    config.run.update({'validate_every': steps // 2})
    return config.lock()


def _fit(steps: int, **weights: float) -> ConfigDict:
    found = base.fit(**weights)
    found.update({'steps': steps, 'batch_size': 64, 'learning_rate': 5e-3, 'weight_decay': 1e-3})
    found.optim = ConfigDict({'name': 'adamw', 'schedule': 'cosine', 'warmup': steps // 20})
    return found
