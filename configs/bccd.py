"""Blood cells: what does a detector of a fourth of its teacher's channels learn from it, and by which technique?

Teacher and student are one-stage detectors (GFL) of one map of stride 8 on pictures of 160x120, of 0.16 and 0.013 GMAC.
The weights of the techniques are those of their papers and of their code, not tuned; FGD's neck starts as the teacher's
only with 'inherit', for which both need a neck of one width. Many cells of the data have no label, so that AP50 has a
ceiling below 100 %, and published numbers, 86 to 95 %, are of other divisions and of pictures of 640x480.

Command:  KDJAX_DATA=folder python run.py --config=configs/bccd.py   (the folder has bccd/BCCD; python run.py
          --mode=prepare --data=bccd --data_dir=folder fetches it)
Cost:     ten minutes on 2 CPU cores, reckoned from 1,200 s of processors; with :quick a minute, of 65 s of processors
          with nothing compiled before, most of it compiling
Expected: AP50 of the test split: teacher 84 %, student alone 60, LD and FGD the same, CWD and PKD 64: experiments/bccd
Arguments: quick (a look at the machinery: an epoch of pictures of 80x60, LD, two seeds), methods=NAME+NAME+...
    (of ld, fgd, cwd, pkd, ld_and_cwd, cwd_of_classes, fbkd, mgd and maps_of_dist, beside the student alone; or all),
    width=N and height=N (of pictures), stride=8|4, seeds=N, epochs=N (of students), teacher_epochs=N, inherit
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import base
from kdjax.errors import UsageError, unknown

PICTURES, CLASSES = 205, ('RBC', 'WBC', 'Platelets')
BATCH = 8  # small: as much work makes twice as many steps as with 16, and 10 epochs find what 25 did
BINS = {8: 12, 4: 24}  # by stride, for pictures of 160x120: half of the longest box, and as much again to be sure
ANCHOR = 4.0  # strides: the task's, for pictures of 160x120
TEACHER = {'widths': (16, 48, 96), 'counts': (0, 1, 2), 'neck': 64}
STUDENT = {'widths': (4, 12, 24), 'counts': (0, 1, 2), 'neck': 16}
# Cells that answer for an object are at most this far from its centre, in strides. With 1.5, as published for maps of
# several strides, a red cell has 7 of them and a platelet, of 10 pixels, 1.5: those were 1.6 % of all, and after 20
# epochs a teacher's boxes of platelets overlapped with the true ones by 0.22, so that none was right at IoU 0.5.
RADIUS = 0.75
# A quick look is half as wide and less deep: most of what it takes is compiling, and measuring what networks cost.
QUICK_TEACHER = {'widths': (8, 24, 48), 'counts': (0, 1, 1), 'neck': 32, 'depth': 1}
QUICK_STUDENT = {'widths': (2, 6, 12), 'counts': (0, 1, 1), 'neck': 8, 'depth': 1}
TASK = {'qfl': 1.0, 'dfl': 0.25, 'giou': 2.0}
# Terms by what a method adds to those of the task, and their weights.
TERMS: Mapping[str, Mapping[str, Any]] = {
    'qfl': {'kind': 'gfl.QualityFocal'},
    # Not weighed by the student's score, as GFL has it: a score learns how good its box is, so that of a rare class a
    # score of 0.02 keeps the box from being learned, and the box the score.
    'dfl': {'kind': 'gfl.DistributionFocal', 'weighted': False},
    'giou': {'kind': 'giou.GeneralizedIoU', 'weighted': False},
    'ld': {'kind': 'localization.Localization', 'per': 'anchor', 'confidence': 'logits', 'form': 'code'},
    'ld_valuable': {
        'kind': 'localization.Localization', 'per': 'anchor', 'confidence': 'logits', 'form': 'code',
        'anchors': 'anchor_valuable',
    },
    'fgd': {'kind': 'fgd.FocalGlobal', 'layer': 'neck1', 'attention': 5e-4},
    'cwd': {'kind': 'cwd.ChannelDistribution', 'layer': 'neck1', 'temperature': 1.0},
    'cwd_head': {'kind': 'cwd.ChannelDistribution', 'layer': 'class_map1', 'projected': False, 'temperature': 5.0},
    'pkd': {'kind': 'pkd.PearsonFeatures', 'layer': 'neck1'},
    'fbkd': {'kind': 'fbkd.AttentionGuided', 'layer': 'neck1'},
    'mgd': {'kind': 'mgd.MaskedGeneration', 'layer': 'neck1'},
    'maps': {'kind': 'dist_plus.MapCorrelations', 'layer': 'neck1', 'projector': True},
}  # fmt: skip
OF_TASK = {name: TERMS[name] for name in TASK}
METHODS = {
    'student alone': {},
    'LD': {'ld': 0.25, 'ld_valuable': 0.25},
    'FGD': {'fgd': 1.0},
    'CWD': {'cwd': 10.0},
    'PKD': {'pkd': 6.0},
    'LD and CWD': {'ld': 0.25, 'ld_valuable': 0.25, 'cwd': 10.0},
    'CWD of classes': {'cwd_head': 10.0},
    'FBKD': {'fbkd': 1.0},
    'MGD': {'mgd': 2e-5},
    'maps of DIST+': {'maps': 1.0},  # what DIST+ adds to DIST: a cell's classes are not exclusive, as those of DIST are
}
ALONE = 'student alone'
# What each is called in `methods=`.
FITS = {method: method.lower().replace(' ', '_').replace('+', '') for method in METHODS}
DEFAULT = 'ld+fgd+cwd+pkd+ld_and_cwd'
AUGMENT = (
    {'kind': 'augment_boxes.flip', 'vertical': 0.5},
    {'kind': 'augment_boxes.scale', 'share': 0.2},  # a shift beside it costs as much again, and maps move with pictures
)


def get_config(arg: str = '') -> ConfigDict:
    """Detection, locked."""
    arguments = base.arguments(arg, quick=False, methods=DEFAULT, width=160, height=120, stride=8, seeds=5, epochs=0,
                               teacher_epochs=0, inherit=False)  # fmt: skip
    if arguments['stride'] not in BINS:
        raise UsageError(f'stride of bccd must be 4 or 8, got {arguments["stride"]}')
    quick, stride = arguments['quick'], arguments['stride']
    width, height = (80, 60) if quick else (arguments['width'], arguments['height'])
    config = base.config()
    config.title = 'Blood cells (BCCD)'
    larger = max(width / 160, height / 120)
    config.task = ConfigDict({'kind': 'detection.Detection', 'classes': CLASSES, 'strides': (stride,),
                              'bins': round(BINS[stride] * larger), 'radius': RADIUS, 'valuable': 0.25})  # fmt: skip
    if larger != 1:
        config.task.anchor = ANCHOR * larger  # objects have grown by as much; LD's valuable region goes by anchors
    config.data.source = 'bccd.boxes'
    config.data.args = ConfigDict({'width': width, 'height': height})
    config.data.preprocess = ConfigDict({
        'kind': 'preprocess.normalise', 'mean': (0.74, 0.70, 0.72), 'std': (0.06, 0.10, 0.075),
    })  # fmt: skip
    config.data.transfer_sizes = (PICTURES,)
    config.data.views = 1 if quick else 8
    config.teacher.views = 1 if quick else 64
    with config.ignore_type():
        config.data.augment = config.teacher.augment = AUGMENT
    config.seeds = 2 if quick else arguments['seeds']
    _networks(config, quick, arguments['inherit'])
    _fits(config, arguments)
    config.run.update({'chunk': 1 if quick else 13, 'validate_every': 10**6, 'save_every': 10**6, 'layout': 'map'})
    config.run.optimise = not quick
    return config.lock()


def _networks(config: ConfigDict, quick: bool, inherit: bool) -> None:
    teacher, student = (QUICK_TEACHER, QUICK_STUDENT) if quick else (TEACHER, STUDENT)
    config.teacher.net = config.student.net = 'gfl.detector'
    config.teacher.args = ConfigDict(teacher)
    config.student.args = ConfigDict({**student, **({'neck': teacher['neck']} if inherit else {})})
    if inherit:
        with config.unlocked():
            config.student.start = ConfigDict({'neck_out1': 'neck_out1', 'detect': 'detect'})


def _fits(config: ConfigDict, arguments: dict) -> None:
    quick = arguments['quick']
    wanted = arguments['methods']
    wanted = 'ld' if quick and wanted == DEFAULT else wanted
    chosen = [*FITS.values()] if wanted == 'all' else wanted.split('+')
    for name in chosen:
        if name not in FITS.values():
            raise unknown('method', name, FITS.values(), ' of bccd')
    methods = {method: own for method, own in METHODS.items() if method == ALONE or FITS[method] in chosen}
    used = {*TASK, *(term for own in methods.values() for term in own)}
    config.terms = ConfigDict({name: spec for name, spec in TERMS.items() if name in used})
    epochs = arguments['epochs'] or (1 if quick else 12)
    config.fits = ConfigDict({FITS[method]: _fit(epochs, 4e-3, **TASK, **own) for method, own in methods.items()})
    config.methods = ConfigDict({method: (FITS[method],) for method in methods})
    config.baseline, config.accept.method = ALONE, [*methods, ALONE][1]
    config.teacher.fit = _fit(arguments['teacher_epochs'] or (1 if quick else 30), 2e-3, **TASK)


def _fit(epochs: int, rate: float, **weights: float) -> ConfigDict:
    """So many epochs; the gradient is clipped at 35, as for FGD."""
    found = base.fit(**weights)
    found.update({'steps': max(1, round(epochs * PICTURES / BATCH)), 'batch_size': BATCH, 'learning_rate': rate,
                  'terms_learning_rate': 2e-3, 'weight_decay': 1e-2})  # fmt: skip
    found.optim = ConfigDict({'name': 'adamw', 'schedule': 'cosine', 'warmup': PICTURES // BATCH, 'clip': 35.0})
    return found
