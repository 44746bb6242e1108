"""Texts as WordPieces: the ids that BERT's own tokeniser gives, from tokenizer.json or vocab.txt beside its weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdjax.data import text
from kdjax.errors import UsageError

SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]')


class Pieces(NamedTuple):
    """Texts in ids, padded on the right to the longest."""

    ids: np.ndarray  # (N, L) int32, 0 for padding
    lengths: np.ndarray  # (N,) int32
    # Of texts that came as words: the position of each word's first piece, (N, W) int32, 0 for padding and for words
    # beyond what was kept, as position 0 is [CLS].
    first: np.ndarray | None = None


def encoded(texts: Sequence[str] | Sequence[Sequence[str]], file: str | Path, longest: int = 512) -> Pieces:
    """WordPieces between [CLS] and [SEP].

    Args:
      texts: strings, or sequences of words that are not to be split otherwise (for tags).
      file: a tokenizer.json as it is, or a vocab.txt of an uncased BERT, one piece a line.
      longest: pieces of a text that are kept, [CLS] and [SEP] included.

    Raises:
      UsageError: no such file, one that is not read, `longest` below 2, or padding that is not id 0.
    """
    if longest < 2:
        raise UsageError(f'longest must be at least 2, for [CLS] and [SEP], got {longest}')
    tokenizer = _tokenizer(Path(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    words = bool(len(texts)) and not isinstance(texts[0], str)
    found = tokenizer.encode_batch([list(own) if words else own for own in texts], is_pretokenized=words)
    firsts = [_firsts(one.word_ids, len(own)) for one, own in zip(found, texts, strict=True)] if words else None
    rows = [one.ids for one in found]
    return Pieces(_padded(rows), text.lengths(rows), None if firsts is None else _padded(firsts))


def _padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    return text.padded(rows, max(map(len, rows), default=0))


def _firsts(word_ids: Sequence[int | None], count: int) -> list[int]:
    """The position of the first piece of each of `count` words; 0 for those without."""
    first = [0] * count
    for position in range(len(word_ids) - 1, 0, -1):
        word = word_ids[position]
        if word is not None:
            first[word] = position
    return first


def _tokenizer(file: Path) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise UsageError('WordPieces need the package tokenizers: pip install "kdjax[text]"') from error
    if not file.is_file():
        raise UsageError(f'tokeniser {str(file)!r}: there is no such file')
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file)) if file.suffix == '.json' else _of_vocabulary(file)
    except Exception as error:  # the library raises none of its own
        raise UsageError(f'tokeniser {str(file)!r}: not read ({error})') from error
    if tokenizer.token_to_id(SPECIAL[0]) != 0:
        raise UsageError(f'tokeniser {str(file)!r}: {SPECIAL[0]} must be id 0, got {tokenizer.token_to_id(SPECIAL[0])}')
    return tokenizer


def _of_vocabulary(file: Path) -> Any:
    """The tokeniser of an uncased BERT."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = file.read_text(encoding='utf-8').splitlines()
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    missing = [piece for piece in SPECIAL if piece not in vocabulary]
    if missing:
        raise ValueError(f'it has no {", ".join(missing)}')
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token='[UNK]', max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(('[SEP]', vocabulary['[SEP]']), ('[CLS]', vocabulary['[CLS]']))
    return tokenizer
