"""Pitch by 5 k parameters, taught by CREPE's 22 M: is a published model's doubt worth more than its answer?

Command:  KDJAX_DATA=folder python run.py --config=experiments/crepe_fsdd/config.py:answers=OUT
          (OUT is what experiments/crepe_fsdd/ask.py wrote; the folder has fsdd/recordings)
Cost:     see README.md
Expected: raw pitch accuracy, within 50 cents of CREPE full, on a speaker that no student heard, beside that of the
          published CREPE tiny (487 k): README.md
Arguments: answers=FOLDER, fold=N (the speaker of the test split, 0 to 5), student=small|large, seeds=N, steps=N, quick
"""

from ml_collections import ConfigDict

from configs import base
from kdjax.errors import unknown

STUDENTS = {'small': {'widths': (16, 16), 'size': 15}, 'large': {'widths': (48, 48), 'size': 19}}  # 5.3 k and 49 k


def get_config(arg: str = '') -> ConfigDict:
    """Pitch, locked."""
    given = base.arguments(arg, answers='', fold=4, student='small', seeds=10, steps=300, quick=False)
    if given['student'] not in STUDENTS:
        raise unknown('student', given['student'], STUDENTS)
    config = base.config()
    config.title = 'Pitch of spoken digits, from CREPE'
    config.task = ConfigDict({'kind': 'pitch.Pitch'})
    config.data.source = 'fsdd.frames'
    config.data.args = ConfigDict({'pitch': f'{given["answers"]}/pitch.npz', 'fold': given['fold']})
    config.data.preprocess = ConfigDict({'kind': 'pitch.log_frequency'})
    config.data.transfer_sizes = ()
    config.teacher.outputs = f'{given["answers"]}/teacher-{given["fold"]}.npz'
    config.student.net, config.student.args = 'salience.salience', ConfigDict(STUDENTS[given['student']])
    config.seeds = 2 if given['quick'] else given['seeds']
    config.terms = ConfigDict({
        'answer': {'kind': 'binary_cross_entropy.BinaryCrossEntropy', 'form': 'sum'},
        'doubt': {'kind': 'mld.MultiLabelTargets'},
    })  # fmt: skip
    steps = 30 if given['quick'] else given['steps']
    config.teacher.fit = _fit(steps, answer=1.0)  # nothing is trained: it is a table
    config.fits = ConfigDict({'baseline': _fit(steps, answer=1.0), 'taught': _fit(steps, doubt=1.0)})
    config.methods = ConfigDict({'its answer': ('baseline',), 'its doubt': ('taught',)})
    config.baseline, config.accept.method = 'its answer', 'its doubt'
    config.run.update({'validate_every': steps // 3})
    return config.lock()


def _fit(steps: int, **weights: float) -> ConfigDict:
    found = base.fit(**weights)
    found.update({'steps': steps, 'batch_size': 64, 'learning_rate': 5e-3, 'weight_decay': 1e-3})
    found.optim = ConfigDict({'name': 'adamw', 'schedule': 'cosine', 'warmup': steps // 20})
    return found
