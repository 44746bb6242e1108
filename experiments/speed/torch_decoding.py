"""A translator in PyTorch that writes a token at a time with kept keys and values, greedily or by a beam search.

The same arithmetic as `kdjax.nets.encoder_decoder.transformer` with pre-norm layers and one table, on its weights, and
the same searches, written as one writes them in PyTorch: a Python loop that ends when all sentences have.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kdjax.decoding.base import BEGIN, END, PADDING
from kdjax.nets.blocks import unrolled, waves

LOWEST = -1e30
Layer = Mapping[str, Any]


class Translator:
    """A network of float32 weights.

    Args:
      params: of the network of kdjax.
      heads: of attention.
      longest: tokens of a text, at most.
    """

    def __init__(self, params: Mapping[str, Any], heads: int, longest: int) -> None:
        def tensors(tree: Any) -> Any:
            if isinstance(tree, Mapping):
                return {name: tensors(inner) for name, inner in tree.items()}
            return torch.tensor(np.asarray(tree))

        self.heads = heads
        self.table = tensors(params['words']['table'])
        self.encoder, self.decoder = (_transposed(tensors(unrolled(params[side]))) for side in ('encoder', 'decoder'))
        self.places = torch.tensor(waves(longest, self.table.shape[1]))

    def embedded(self, ids: Tensor, first: int = 0) -> Tensor:
        """(B, N, D)"""
        scale = self.table.shape[1] ** 0.5
        return (self.table[ids] * scale + self.places[first : first + ids.shape[1]]) * (ids > 0)[..., None]

    def sources(self, source: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """What each layer of the decoder reads of sources (B, M), and which of them is real (B, 1, 1, M)."""
        real = (source > 0)[:, None, None]
        x = self.embedded(source)
        for layer in self._layers(self.encoder):
            y = _norm(x, layer['norm1'])
            x = x + self._attended(layer['attention'], y, *self._kept(layer['attention'], y), real)
            x = x + _mlp(layer['mlp'], _norm(x, layer['norm2']))
        x = _norm(x, self.encoder['norm'])
        return [self._kept(layer['cross'], x) for layer in self._layers(self.decoder)], real

    def extended(
        self, token: Tensor, t: int, own: list[tuple[Tensor, Tensor] | None], kept: list[tuple[Tensor, Tensor]],
        real: Tensor,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor] | None]]:  # fmt: skip
        """Logits (B, K) after one more token (B,) of each text, and keys and values so far."""
        x, written = self.embedded(token[:, None], t), []
        for layer, before, source in zip(self._layers(self.decoder), own, kept, strict=True):
            y = _norm(x, layer['norm1'])
            new = self._kept(layer['attention'], y)
            both = new if before is None else tuple(torch.cat(pair, dim=2) for pair in zip(before, new, strict=True))
            written.append(both)
            x = x + self._attended(layer['attention'], y, *both, None)
            x = x + self._attended(layer['cross'], _norm(x, layer['norm_cross']), *source, real)
            x = x + _mlp(layer['mlp'], _norm(x, layer['norm2']))
        return _norm(x, self.decoder['norm'])[:, 0] @ self.table.T, written

    def _layers(self, side: Mapping[str, Layer]) -> list[Layer]:
        return [side[f'layer{place}'] for place in range(1, len(side))]

    def _split(self, x: Tensor) -> Tensor:
        """(B, heads, N, D / heads)"""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _kept(self, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._split(_dense(layer['key'], x)), self._split(_dense(layer['value'], x))

    def _attended(self, layer: Layer, x: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None) -> Tensor:
        found = F.scaled_dot_product_attention(self._split(_dense(layer['query'], x)), key, value, allowed)
        return _dense(layer['out'], found.transpose(1, 2).flatten(2))


@torch.inference_mode()
def greedy(net: Translator, source: Tensor, length: int) -> Tensor:
    """The most probable token after each, (B, length), 0 after the end."""
    kept, real = net.sources(source)
    own: list[Any] = [None] * len(kept)
    token, done = torch.full((len(source),), BEGIN), torch.zeros(len(source), dtype=torch.bool)
    written = torch.zeros(len(source), length, dtype=torch.long)
    for t in range(length):
        logits, own = net.extended(token, t, own, kept, real)
        logits[:, [PADDING, BEGIN]] = LOWEST
        token = torch.where(done, PADDING, logits.argmax(dim=1))
        written[:, t] = token
        done = done | (token == END)
        if bool(done.all()):
            break
    return written


@torch.inference_mode()
def beam_search(net: Translator, source: Tensor, length: int, width: int, alpha: float) -> Tensor:
    """The best text of each source by a search that goes on with `width`, (B, length), with GNMT's length rule."""
    count = len(source)
    kept, real = net.sources(source)
    kept = [tuple(x.repeat_interleave(width, dim=0) for x in pair) for pair in kept]  # type: ignore[misc]
    real = real.repeat_interleave(width, dim=0)
    own: list[Any] = [None] * len(kept)
    token = torch.full((count, width), BEGIN)
    total = torch.full((count, width), LOWEST)
    total[:, 0] = 0
    texts = torch.zeros(count, width, length, dtype=torch.long)
    finished, scores = texts.clone(), torch.full((count, width), LOWEST)
    stopped, first = torch.zeros(count, dtype=torch.bool), torch.arange(count)[:, None] * width

    def score(log_probabilities: Tensor, tokens: int) -> Tensor:
        return log_probabilities / ((5 + tokens) / 6) ** alpha

    for t in range(length):
        logits, own = net.extended(token.view(-1), t, own, kept, real)
        logs = torch.log_softmax(logits, dim=1)
        logs[:, [PADDING, BEGIN]] = LOWEST
        vocabulary = logs.shape[1]
        best, where = (total[..., None] + logs.view(count, width, -1)).view(count, -1).topk(2 * width)
        parent, token_ = where // vocabulary, where % vocabulary
        candidates = texts.gather(1, parent[..., None].expand(-1, -1, length)).clone()
        candidates[..., t] = token_
        ends = token_ == END
        over = torch.where(ends & (torch.arange(2 * width) < width), score(best, t + 1), LOWEST)
        new_scores, order = torch.cat([scores, over], dim=1).topk(width)
        both = torch.cat([finished, candidates], dim=1)
        keep = stopped[:, None]
        finished = torch.where(keep[..., None], finished, both.gather(1, order[..., None].expand(-1, -1, length)))
        scores = torch.where(keep, scores, new_scores)
        alive, chosen = torch.where(ends, LOWEST, best).topk(width)
        total, texts = alive, candidates.gather(1, chosen[..., None].expand(-1, -1, length))
        token = token_.gather(1, chosen)
        rows = (first + parent.gather(1, chosen)).view(-1)
        own = [tuple(x.index_select(0, rows) for x in pair) for pair in own]
        stopped = stopped | (score(total.max(dim=1).values, length) <= scores.min(dim=1).values)
        if bool(stopped.all()):
            break
    none = scores[:, :1] <= LOWEST  # nothing of it has ended
    return torch.where(none, texts[:, 0], finished[:, 0])


def _transposed(layer: Any) -> Any:
    """Kernels (out, in), as `linear` has them."""
    if not isinstance(layer, Mapping):
        return layer
    return {name: inner.T.contiguous() if name == 'kernel' else _transposed(inner) for name, inner in layer.items()}


def _dense(layer: Layer, x: Tensor) -> Tensor:
    return F.linear(x, layer['kernel'], layer['bias'])


def _norm(x: Tensor, layer: Layer) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], layer['scale'], layer['bias'], 1e-5)


def _mlp(layer: Layer, x: Tensor) -> Tensor:
    return _dense(layer['back'], F.gelu(_dense(layer['into'], x)))
