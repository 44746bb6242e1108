"""Preparing MNIST, Fashion-MNIST and CIFAR with TFDS where TensorFlow is not installed.

TFDS reads what is prepared without TensorFlow, but prepares with it: it opens files with tf.io.gfile and encodes arrays
as PNG with tf.image. Here the few functions that these data sets need are put in their place, in the modules that use
them, and taken out again. TFDS does not support this as an interface, so it holds for one version alone; a stand-in in
sys.modules would not do, as TFDS then believes that it has all of TensorFlow.
"""

import contextlib
import importlib.util
import io
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from kdjax.errors import UsageError

VERSION = '4.9.10'
ENOUGH_FOR = ('mnist', 'fashion_mnist', 'cifar10', 'cifar100')


@contextlib.contextmanager
def preparing(name: str) -> Iterator[None]:
    """While open, TFDS can prepare the data set `name`; does nothing where TensorFlow is installed.

    Raises:
      UsageError: this data set needs TensorFlow, or TFDS is another version.
    """
    if importlib.util.find_spec('tensorflow') is not None:
        yield
        return
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import extractor
    from tensorflow_datasets.core.features import image_feature
    from tensorflow_datasets.image_classification import cifar, mnist

    if name not in ENOUGH_FOR or tfds.__version__ != VERSION:
        raise UsageError(
            f'preparing {name!r} needs TensorFlow: pip install tensorflow-cpu. Without it, TFDS {VERSION} (installed: '
            f'{tfds.__version__}) can prepare {", ".join(ENOUGH_FOR)}'
        )
    stand_in = SimpleNamespace(
        compat=SimpleNamespace(as_text=os.fspath), io=SimpleNamespace(gfile=SimpleNamespace(GFile=open))
    )
    with contextlib.ExitStack() as stack:
        for module in (extractor, mnist, cifar):
            stack.enter_context(mock.patch.object(module, 'tf', stand_in))
        stack.enter_context(mock.patch.object(image_feature._ImageEncoder, '_encode_image', _png))
        yield


def _png(self: Any, image: np.ndarray) -> bytes:
    """An image (H, W, 1 or 3) uint8 as PNG; in the place of a method."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, format='png')
    return buffer.getvalue()
