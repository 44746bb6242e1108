"""Which papers a researcher files next (CiteULike): a recommender of 10 times fewer parameters, taught in which order.

Teacher and student are matrix factorisations of 200 and of 20 numbers for each of 5,219 users and 25,181 papers, which
BPR trains; what is compared is what the student gains from the teacher's first papers for each user (RRD), and for
each paper its first users (IR-RRD). The authors sum losses over a batch of 1,024 and add 1e-3 times the parameters to
the gradient; the mean over a batch of any size trains as their sum does with 1e-3 / 1,024, as Adam does not see the
scale.

Command:  KDJAX_DATA=folder python run.py --config=configs/citeulike.py   (the folder has recsys/ with the published
          split; without that, --config=configs/citeulike.py:split=own and the file that python run.py --mode=prepare
          --data=recsys --data_dir=folder fetches)
Cost:     about 8 minutes on 2 CPU cores, with :quick (no IR-RRD, 4 epochs) less than 2: reckoned from a run of 30
          epochs, of which a student's cost 25 s alone and two minutes with RRD
Expected: experiments/derrd2020_citeulike; after 15 epochs no network is at its best yet
Arguments: quick, split=loo|topology|own, student=mf|neumf|lightgcn, width=N (of the student), seeds=N, epochs=N (of the
    students), teacher_epochs=N, batch=N
"""

from ml_collections import ConfigDict

from configs import base
from kdjax.errors import unknown

INTERACTIONS, ITEMS = 115_142, 25_181
L2 = 1e-3 / 1024  # of the mean: theirs is of a sum over 1,024 interactions
STUDENTS = {'mf': 'factorization.factorization', 'neumf': 'neumf.neumf', 'lightgcn': 'lightgcn.lightgcn'}


def get_config(arg: str = '') -> ConfigDict:
    """Recommendation, locked."""
    arguments = base.arguments(arg, quick=False, split='loo', student='mf', width=20, seeds=5, epochs=0,
                               teacher_epochs=0, batch=4096)  # fmt: skip
    if arguments['student'] not in STUDENTS:
        raise unknown('student', arguments['student'], STUDENTS)
    quick, batch = arguments['quick'], arguments['batch']
    config = base.config()
    config.title = 'Recommendation of papers (CiteULike)'
    config.task = ConfigDict({
        'kind': 'recommendation.Recommendation', 'first': 40, 'uninteresting': 40, 'first_users': 20,
        'uninteresting_users': 20,
    })  # fmt: skip
    config.data.source = 'citeulike.interactions'
    config.data.args = ConfigDict({'split': arguments['split']})
    config.data.transfer_sizes = ()
    config.data.views = config.teacher.views = 1000  # what is held against an interaction is drawn anew in every epoch
    config.seeds = arguments['seeds']
    config.student.net = STUDENTS[arguments['student']]
    config.student.args = ConfigDict({'width': arguments['width']})
    config.teacher.net = 'factorization.factorization'
    config.teacher.args = ConfigDict({'width': 200})
    config.teacher.fit = fit(batch, steps(arguments['teacher_epochs'] or (8 if quick else 25), batch), bpr=1.0)
    length = steps(arguments['epochs'] or (4 if quick else 15), batch)
    config.terms = ConfigDict({
        'bpr': {'kind': 'bpr.PairwiseRanking'},
        'rrd': {'kind': 'de_rrd.CandidateRanking', 'interesting': 'first', 'once': 'user'},
        'ir': {'kind': 'ir_rrd.ItemSideRanking', 'interesting': 'first_users', 'once': 'item'},
    })  # fmt: skip
    config.fits = ConfigDict({
        'baseline': fit(batch, length, bpr=1.0),
        'rrd': fit(batch, length, bpr=1.0, rrd=1e-3),
        'ir_rrd': fit(batch, length, bpr=1.0, rrd=1e-3, ir=5e-4),
    })  # fmt: skip
    config.methods = ConfigDict({
        'student alone': ('baseline',), 'RRD': ('rrd',), 'IR-RRD': ('ir_rrd',),
    })  # fmt: skip
    if quick:
        config.methods = ConfigDict({'student alone': ('baseline',), 'RRD': ('rrd',)})
        del config.fits.ir_rrd
    config.baseline, config.accept.method = 'student alone', 'RRD'
    config.run.update({'chunk': 10, 'validate_every': max(1, length // 4), 'save_every': length})
    return config.lock()


def steps(epochs: float, batch: int) -> int:
    """How many steps so many epochs have."""
    return max(1, round(epochs * INTERACTIONS / batch))


def fit(batch: int, steps: int, **weights: float) -> ConfigDict:
    """A fit as the authors have it, of a mean over the batch where theirs is a sum.

    Larger batches take larger steps, by the root of their size: of 1,024 interactions 1e-3.
    """
    found = base.fit(**weights)
    rate = 1e-3 * (batch / 1024) ** 0.5
    found.update({'steps': steps, 'batch_size': batch, 'learning_rate': rate, 'weight_decay': L2,
                  'terms_learning_rate': rate, 'terms_weight_decay': L2})  # fmt: skip
    found.optim = ConfigDict({'name': 'adam_l2', 'schedule': 'constant', 'warmup': 0, 'eps': 1e-8 / batch})
    return found
