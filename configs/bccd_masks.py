"""Blood cells, pixel by pixel: channel-wise distillation (CWD) where it was published for, beside soft labels.

Masks are ellipses in the boxes of BCCD, which has no outlines; mIoU of 4 classes, the background among them, on a map
of stride 4. It shows that segmentation is a task like the others, and not what a technique is worth.

Command:  KDJAX_DATA=folder python run.py --config=configs/bccd_masks.py   (the folder has bccd/BCCD)
Cost:     about 4 minutes on 2 CPU cores; with :quick an epoch of pictures of 80x60, two methods, two seeds
Arguments: quick, methods=NAME+NAME+... (of cwd, soft_and_hard and dist, which is DIST+, beside labels; or all),
    seeds=N, epochs=N (of students), teacher_epochs=N
"""

from ml_collections import ConfigDict

from configs import base
from kdjax.errors import unknown

PICTURES, BATCH = 205, 16
CLASSES = ('background', 'RBC', 'WBC', 'Platelets')
TERMS = {
    'hard': {'kind': 'cross_entropy.CrossEntropy'},
    'soft': {'kind': 'hinton.SoftTargets', 'temperature': 2.0},
    'cwd': {'kind': 'cwd.ChannelDistribution', 'layer': 'class_map', 'projected': False, 'temperature': 4.0},
    'dist': {'kind': 'dist.Correlations', 'beta': 1.0, 'gamma': 1.0, 'temperature': 1.0},
    'maps': {'kind': 'dist_plus.MapCorrelations', 'layer': 'stage3', 'projector': True},
}
METHODS = {
    'labels': {'hard': 1.0},
    'CWD': {'hard': 1.0, 'cwd': 3.0},  # of logits, as the authors weigh it
    'soft and hard': {'hard': 0.5, 'soft': 0.5},
    'DIST+': {'hard': 1.0, 'dist': 1.0, 'maps': 1.0},
}
BASELINE = 'labels'
# What each is called in `methods=`.
FITS = {method: method.lower().replace(' ', '_').replace('+', '') for method in METHODS}
DEFAULT = 'cwd+soft_and_hard'


def get_config(arg: str = '') -> ConfigDict:
    """Segmentation, locked."""
    arguments = base.arguments(arg, quick=False, methods=DEFAULT, seeds=5, epochs=0, teacher_epochs=0)
    quick = arguments['quick']
    config = base.config()
    config.title = 'Blood cells by pixel (BCCD)'
    config.task = ConfigDict({'kind': 'segmentation.Segmentation', 'classes': CLASSES})
    config.data.source = 'bccd.masks'
    config.data.args = ConfigDict({'width': 80, 'height': 60} if quick else {'width': 160, 'height': 120})
    config.data.preprocess = ConfigDict({
        'kind': 'preprocess.normalise', 'mean': (0.73, 0.69, 0.72), 'std': (0.15, 0.16, 0.08),
    })  # fmt: skip
    config.data.transfer_sizes = (PICTURES,)
    config.seeds = 2 if quick else arguments['seeds']
    config.teacher.net = config.student.net = 'fcn.segmenter'
    config.teacher.args = ConfigDict({'widths': (16, 48, 96), 'counts': (0, 1, 2)})
    config.student.args = ConfigDict({'widths': (4, 12, 24), 'counts': (0, 1, 2)})
    methods = _chosen(arguments['methods'], quick)
    names = {method: FITS[method] for method in methods}
    config.terms = ConfigDict({
        name: spec for name, spec in TERMS.items() if any(name in weights for weights in methods.values())
    })  # fmt: skip
    epochs = arguments['epochs'] or (1 if quick else 25)
    config.fits = ConfigDict({names[method]: _fit(epochs, **weights) for method, weights in methods.items()})
    config.methods = ConfigDict({method: (name,) for method, name in names.items()})
    config.baseline, config.accept.method = BASELINE, [*methods, BASELINE][1]
    config.teacher.fit = _fit(arguments['teacher_epochs'] or (1 if quick else 30), hard=1.0)
    config.run.update({'chunk': 13, 'validate_every': 10**6, 'save_every': 10**6, 'layout': 'map'})
    return config.lock()


def _chosen(wanted: str, quick: bool) -> dict[str, dict[str, float]]:
    """The methods that are asked for, beside the labels alone."""
    wanted = 'cwd' if quick and wanted == DEFAULT else wanted
    chosen = [*FITS.values()] if wanted == 'all' else wanted.split('+')
    for name in chosen:
        if name not in FITS.values():
            raise unknown('method', name, FITS.values(), ' of bccd_masks')
    return {method: own for method, own in METHODS.items() if method == BASELINE or FITS[method] in chosen}


def _fit(epochs: int, **weights: float) -> ConfigDict:
    found = base.fit(**weights)
    found.update({'steps': max(1, round(epochs * PICTURES / BATCH)), 'batch_size': BATCH, 'learning_rate': 4e-3,
                  'weight_decay': 1e-2})  # fmt: skip
    found.optim = ConfigDict({'name': 'adamw', 'schedule': 'cosine', 'warmup': PICTURES // BATCH})
    return found
