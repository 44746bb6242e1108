"""Sub-words of texts: pieces that byte-pair encoding makes of frequent words, by sentencepiece.

The first four ids are those of `decoding.base`: padding, unknown, and the begin and the end of a text.

Reference: Sennrich, Haddow, Birch, Neural Machine Translation of Rare Words with Subword Units, ACL 2016; Kudo,
Richardson, SentencePiece, EMNLP 2018.
"""

import dataclasses
import functools
import io
from collections.abc import Iterable, Sequence
from typing import Any

from kdjax import trees
from kdjax.decoding.base import BEGIN, END, PADDING, UNKNOWN
from kdjax.errors import UsageError

LEAST = 8  # pieces of a vocabulary


@dataclasses.dataclass(frozen=True)
class Subwords:
    """A vocabulary of pieces, and what makes them of texts.

    Attributes:
      model: as sentencepiece writes it.
    """

    model: bytes

    @functools.cached_property
    def _processor(self) -> Any:
        return _library().SentencePieceProcessor(model_proto=self.model)

    @functools.cached_property
    def pieces(self) -> tuple[str, ...]:
        """By id; '▁' stands for a space."""
        return tuple(self._processor.id_to_piece(place) for place in range(self._processor.get_piece_size()))

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the pieces and their order, the same in every process."""
        return trees.digest(list(self.pieces))

    def encoded(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts, without begin and end."""
        return self._processor.encode(list(texts)) if texts else []


def learned(texts: Iterable[str], size: int) -> Subwords:
    """The `size` pieces of byte-pair encoding of training texts; every character that they have has a piece.

    Args:
      texts: of the training split alone.
      size: pieces, with the first four ids.

    Raises:
      UsageError: so many pieces cannot be made of these texts, or sentencepiece is not installed.
    """
    if size < LEAST:
        raise UsageError(f'a vocabulary of sub-words has at least {LEAST} pieces, got {size}')
    found = io.BytesIO()
    try:
        _library().SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=found, vocab_size=size, model_type='bpe',
            character_coverage=1.0, pad_id=PADDING, unk_id=UNKNOWN, bos_id=BEGIN, eos_id=END, num_threads=1,
            minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:  # the library raises none of its own
        raise UsageError(f'{size} sub-words cannot be made of these texts: {" ".join(str(error).split())}') from error
    return Subwords(found.getvalue())


def _library() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise UsageError('sub-words need the package sentencepiece: pip install "kdjax[translation]"') from error
    return sentencepiece
