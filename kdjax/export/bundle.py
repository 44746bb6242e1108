"""A student in the hand: a network with its variables and all that turns raw inputs into answers; a folder of it.

The folder has `student.safetensors` (weights, as PyTorch names and lays them out), `student.json` (everything else) and
`MODEL_CARD.md`. Other formats are further files beside them.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax.compress import built, factored, quantized, shared
from kdjax.data import text
from kdjax.errors import UsageError
from kdjax.export import ABOUT, CARD, WEIGHTS, card, weights
from kdjax.jit_cache import bound, compiled
from kdjax.nets import team
from kdjax.resolve import construct
from kdjax.tasks.base import Task
from kdjax.train import storage
from kdjax.types import Net, Tree
from kdjax.version import __version__

FORMAT = 1  # of student.json
BATCH = 1024  # examples of a forward pass, as in evaluation
MULTIPLE = 16  # widths of sentences are a multiple of it, so that few programs are compiled


@dataclasses.dataclass(frozen=True)
class Student:
    """A trained network and all that it needs to be asked.

    Attributes:
      net: its functions.
      variables: {'params', 'stats'}, numpy arrays.
      task: what it was trained for.
      about: what `student.json` says: see `describe`.
    """

    net: Net
    variables: Tree
    task: Task
    about: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.about['classes'])

    @property
    def method(self) -> str:
        """How it was trained."""
        return self.about['method']

    @property
    def seed(self) -> int:
        """Of its run."""
        return self.about['seed']

    @property
    def candidate(self) -> dict[str, float]:
        """The knobs that validation chose."""
        return dict(self.about['candidate'])

    @property
    def transfer_size(self) -> int:
        """How many examples it was trained on."""
        return self.about['transfer_size']

    @property
    def step(self) -> int:
        """Updates of its last fit."""
        return self.about['step']

    def logits(self, inputs: Any) -> np.ndarray:
        """What it answers: (N, K), or (N, L, K) of a task per token.

        Args:
          inputs: examples as the data set has them, before preprocessing: (N, H, W[, C]) of its dtype, (N, D), ids
            (N, L), or strings where the network reads words.

        Raises:
          UsageError: strings that it cannot read, or examples of another shape.
        """
        return self._asked(inputs)[0]

    def predict(self, inputs: Any) -> np.ndarray:
        """What it says of examples, as `logits` takes them.

        Returns:
          Of classification the number of the class (N,); of tagging that of every token (N, L), which of what is beyond
          the end of a sentence means nothing; of several labels 1 where the label holds (N, K); of regression the
          values (N, D).
        """
        return self._asked(inputs)[1]

    def save(self, folder: str | Path, license: str = '') -> Path:
        """Writes it to a folder, made if it is not there; `kdjax.load(folder)` reads it. Returns the folder.

        Args:
          folder: where to.
          license: of the weights, an SPDX name; what it may be depends on the data, so none is assumed.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        leaves = weights.paths(self.variables)
        names = {path: weights.name(path, self.about['network']['net'], self.net.names) for path in leaves}
        if len(set(names.values())) < len(names):  # not PyTorch's, and none is lost
            names = {path: path.replace('/', '.') for path in leaves}
        arrays = {names[path]: weights.laid_out(leaf, path) for path, leaf in leaves.items()}
        _library().save_file(arrays, folder / WEIGHTS, {'format': 'pt'})
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        about = {**self.about, 'license': license or self.about.get('license', ''), 'weights': names, 'sha256': digest}
        storage.write_json(folder / ABOUT, about, indent=1)
        (folder / CARD).write_text(card.written(about))
        return folder

    def _asked(self, inputs: Any) -> tuple[np.ndarray, Any]:
        stored = self._stored(inputs)
        count = len(jax.tree.leaves(stored)[0])
        if not count:
            raise UsageError('there is no example to predict')
        preprocess = preprocessing(self.about)
        run = compiled(bound(_forward, net=self.net, task=self.task, preprocess=preprocess))
        size = min(BATCH, count)
        found = []
        for start in range(0, count, size):
            places = np.minimum(np.arange(start, start + size), count - 1)
            batch = jax.tree.map(lambda column, places=places: column[places], stored)
            found.append(jax.device_get(run(self.variables, batch)))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *found)

    def _stored(self, inputs: Any) -> Tree:
        """Examples as the data set stores them."""
        if isinstance(inputs, str):
            raise UsageError(f'predict takes several examples; write [{inputs[:20]!r}]')
        if isinstance(inputs, Sequence) and inputs and isinstance(inputs[0], str):
            return self._tokens(inputs)
        if isinstance(inputs, Mapping):
            return jax.tree.map(np.asarray, dict(inputs))
        array, like = np.asarray(inputs), self.about['inputs']
        if like is None or like['padded']:
            return array
        if list(array.shape[1:]) != like['shape']:
            raise UsageError(f'examples are {_size(like["shape"])}, got {_size(array.shape[1:])} of {len(array)}')
        if np.dtype(like['dtype']).kind == 'f' and array.dtype.kind == 'f':
            return array.astype(like['dtype'])
        if array.dtype != np.dtype(like['dtype']):
            raise UsageError(f'examples are stored as {like["dtype"]}, got {array.dtype}')
        return array

    def _tokens(self, texts: Sequence[str]) -> np.ndarray:
        spoken = self.about['text']
        if not spoken:
            raise UsageError('this network was not trained on words of known spelling: give its inputs as arrays')
        words = text.Vocabulary(tuple(self.about['facts']['words']), int(self.about['facts']['vocabulary']))
        split = [text.split(one.lower() if spoken['lower'] else one) for one in texts]
        rows = [words.encoded(own[: spoken['longest'] or None]) for own in split]
        return text.padded(rows, -(-max(map(len, rows)) // MULTIPLE) * MULTIPLE or MULTIPLE)


def build(about: Mapping[str, Any], variables: Tree) -> Student:
    """A student of what was written of it, and its variables.

    Raises:
      UsageError: a network or a task of the user's own that cannot be imported here.
    """
    told = {name: about['facts'][name] for name in about['network']['told']}
    changes = about.get('changes', {'args': {}, 'factors': [], 'rounding': {}})
    arguments = {**told, **about['network']['args'], **changes['args']}
    net = construct('kdjax.nets', about['network']['net'], _frozen(arguments), 'network')
    fewer = []
    for ranks in changes['factors']:
        variables, own = built.built(variables, _frozen(ranks))
        net = factored.factored(net, own)
        fewer.append(dict(own))
    if 'shared' in changes:
        net = shared.shared(net, changes['shared'])
    if fewer:
        about = {**about, 'changes': {**changes, 'factors': fewer}}
    if changes['rounding']:
        net = quantized.quantized(net, quantized.Rounding(**changes['rounding']))
    if 'head' in about:
        net = team.answered(net, _built('kdjax.techniques', about['head'], 'term'))
    task = construct('kdjax.tasks', about['task']['kind'], _frozen(about['task']['args']), 'task')
    return Student(net, variables, task, about)


def read(folder: Path) -> Student:
    """The student that `Student.save` wrote.

    Raises:
      UsageError: a file is missing or damaged, or the format is a later one.
    """
    return build(about_of(folder), variables(folder))


def variables(folder: Path) -> Tree:
    """The variables of the student that `Student.save` wrote, numpy arrays; raises as `read`."""
    about = about_of(folder)
    arrays = _library().load_file(folder / WEIGHTS)
    leaves = {path: weights.taken_in(arrays[name], path) for path, name in about['weights'].items()}
    return weights.tree(leaves)


def about_of(folder: Path) -> dict[str, Any]:
    """What is known of the student of a folder, whose weights are whole; raises as `read`."""
    advice = 'export the student again'
    about = storage.read_json(folder / ABOUT, advice, format=int, network=dict, task=dict, weights=dict, sha256=str)
    if about['format'] > FORMAT:
        raise UsageError(f'{folder / ABOUT} has format {about["format"]}, this kdjax {__version__} reads {FORMAT}')
    storage.compare(folder, {WEIGHTS: about['sha256']}, advice)
    return about


def preprocessing(about: Mapping[str, Any]) -> Any:
    """From examples as stored to what the network reads."""
    return _built('kdjax.data', about['preprocess'], 'preprocessing')


def _forward(variables: Tree, inputs: Tree, *, net: Net, task: Task, preprocess: Any) -> tuple[Any, Any]:
    seen = preprocess(inputs)
    outputs = net.apply(variables, seen, train=False, key=None)[0]
    mask = jax.numpy.ones(outputs.logits.shape[0], jax.numpy.float32)
    return outputs.logits, task.decide(outputs, task.prepare({'inputs': seen, 'mask': mask}))


def _built(package: str, spec: Mapping[str, Any], kind: str) -> Any:
    arguments = dict(spec)
    return construct(package, arguments.pop('kind'), _frozen(arguments), kind)


def _frozen(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as a config has them: tuples where JSON has lists."""
    return {name: _tuples(value) for name, value in arguments.items()}


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _frozen(value)
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _size(shape: Sequence[int]) -> str:
    return 'x'.join(map(str, shape)) or 'numbers'


def _library() -> Any:
    import safetensors.numpy

    return safetensors.numpy
