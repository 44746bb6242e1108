"""ImageNet (ILSVRC 2012): ResNet-34 teaches ResNet-18, as in the tables of KD, CRD and DKD; images are streamed.

All are trained for 100 epochs in batches of 256, with SGD of momentum 0.9, rate 0.1 times 0.1 after 30, 60 and 90
epochs, decay 1e-4, random-resized crops of 224 pixels and mirror images; the validation images, of which the middle 224
of 256 pixels are seen, are the test. Soft targets are at T = 1 beside as much of the labels, DKD has beta 0.5 and grows
over the first epoch, CRD has the weights of its CIFAR-100 tables.

Command:  KDJAX_DATA=folder python run.py --config=configs/imagenet.py   (the folder has imagenet/train/<class>/ and
          imagenet/val/<class>/); --distributed for several processes, each of which reads its part of a batch. With
          --config.teacher.weights=FILE the teacher is torchvision's and is not trained
          --mode=plan --config.run.tflops=50 tells the hours, of devices that reach so many TFLOP/s; with `:paper` it
          needs no images, and XLA_FLAGS=--xla_force_host_platform_device_count=128 JAX_PLATFORMS=cpu pretends devices
Cost:     not measured, nor has it been trained on ImageNet
Expected: of the literature, top-1 on the validation images: labels alone 69.8 %, KD 71.0 %, DKD 71.7 %; the ResNet-34
          73.3 %
Arguments: methods=KD+CRD+DKD (beside hard labels), epochs=N (rates drop after the same shares), batch=N (the rate grows
    with it), paper (noise in the place of images), quick (30 steps of 32 pixels: a look at the machinery)
"""

import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import base, cifar
from kdjax.errors import UsageError, unknown

IMAGES = 1_281_167  # for training
EPOCHS, BATCH, RATE = 100, 256, 0.1
DROPS, WARMUP = (0.3, 0.6, 0.9), 0.01  # shares of the steps
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
METHODS: Mapping[str, Mapping[str, float]] = {
    'KD': {'hard': 0.5, 'soft': 0.5},
    'CRD': {'hard': 1.0, 'contrast': 0.8},
    'DKD': {'hard': 1.0, 'decoupled': 1.0},
}


def get_config(arg: str = '') -> ConfigDict:
    """ResNet-34 to ResNet-18 on ImageNet, locked."""
    given = base.arguments(arg, methods='KD', epochs=EPOCHS, batch=BATCH, paper=False, quick=False)
    if given['epochs'] < 1 or given['batch'] < 1:
        raise UsageError(f'epochs and batch must be >= 1, got {given["epochs"]} and {given["batch"]}')
    steps = 30 if given['quick'] else given['epochs'] * IMAGES // given['batch']
    found = base.config()
    found.title, found.seeds = 'ImageNet: ResNet-34 teaches ResNet-18', 1
    with found.ignore_type():
        _see(found, given)
        found.student = ConfigDict({'net': 'resnet.resnet', 'args': {'depth': 18}, 'inputs': 'inputs'})
        found.teacher.net, found.teacher.args = 'resnet.resnet', ConfigDict({'depth': 34})
        found.terms = ConfigDict(_terms(steps))
        found.teacher.fit = _fit(steps, given['batch'], {'hard': 1.0})
        found.fits = ConfigDict({'baseline': _fit(steps, given['batch'], {'hard': 1.0})})
        found.methods = ConfigDict({cifar.BASELINE: ('baseline',)})
        for name in given['methods'].split('+'):
            if name not in METHODS:
                raise unknown('method', name, METHODS)
            found.fits[name] = _fit(steps, given['batch'], METHODS[name])
            found.methods[name] = (name,)
    found.teacher.mode = 'online'  # its answers to every view of every image would fill a disk
    found.accept.method = given['methods'].partition('+')[0]
    _run(found, given)
    return found.lock()


def _terms(steps: int) -> dict[str, Any]:
    warmup = (('weight', 0.0, 1.0, max(int(WARMUP * steps), 1)),)
    return {
        'hard': {'kind': 'cross_entropy.CrossEntropy'},
        'soft': {'kind': 'hinton.SoftTargets', 'temperature': 1.0},
        'decoupled': {'kind': 'dkd.DecoupledTargets', 'alpha': 1.0, 'beta': 0.5, 'temperature': 1.0,
                      'schedules': warmup},
        'contrast': {'kind': 'crd.ContrastiveRepresentation', 'examples': IMAGES, 'negatives': 16384, 'width': 128,
                     'temperature': 0.07, 'momentum': 0.5},
    }  # fmt: skip


def _fit(steps: int, batch: int, weights: Mapping[str, float]) -> ConfigDict:
    found = base.fit(**weights)
    found.steps, found.batch_size = steps, batch
    found.learning_rate = found.terms_learning_rate = RATE * batch / BATCH
    found.weight_decay = found.terms_weight_decay = 1e-4
    found.optim = ConfigDict(
        {'name': 'sgd', 'momentum': 0.9, 'schedule': 'step', 'milestones': DROPS, 'factor': 0.1}
    )  # fmt: skip
    return found


def _see(found: ConfigDict, given: Mapping[str, Any]) -> None:
    """Which images, and which piece of them: another in every epoch."""
    size, resize = (32, 36) if given['quick'] else (224, 256)
    found.data.stream, found.data.order, found.data.transfer_sizes = True, 'shared', ()
    found.data.source = 'synthetic.images' if given['paper'] else 'folder.images'
    found.data.args = ConfigDict({'size': size} if given['paper'] else {
        'folder': os.path.join(os.environ.get('KDJAX_DATA', ''), 'imagenet'), 'size': size, 'resize': resize,
        'area': (0.08, 1.0), 'test': 'validation', 'lazy': True,
    })  # fmt: skip
    found.data.preprocess = ConfigDict({'kind': 'preprocess.normalise', 'mean': MEAN, 'std': STD})
    found.data.augment = found.teacher.augment = {'kind': 'augment.flip'}
    found.data.views = found.teacher.views = max(2, given['epochs'])


def _run(found: ConfigDict, given: Mapping[str, Any]) -> None:
    run, epoch = found.run, IMAGES // given['batch']
    run.runner = 'sharded'  # also over several processes
    run.layout, run.precision = 'map', 'bfloat16'
    run.chunk = 10  # steps, whose images must fit on the devices
    run.validate_every, run.save_every = (30, 30) if given['quick'] else (5 * epoch, epoch)
