"""Writes the golden files of networks over words: python make.py, where torch, transformers and tokenizers are there.

Not run by tests, which read lstm.npz, transformer.npz and bert.npz. All weights are drawn anew, biases and norms too:
what starts at 0 or 1 would hide a mistake. Numbers are float32, outputs as PyTorch computes them on a CPU.
"""

import pathlib
import string

import numpy as np
import torch
from tokenizers.implementations import BertWordPieceTokenizer
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

HERE = pathlib.Path(__file__).parent
LENGTHS = (6, 1, 3)
TEXTS = ['A bad film, badly made.', 'unbelievable', "It isn't  GOOD!\n", '', 'café zzz']
WORDS = [
    '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *string.ascii_lowercase, *(f'##{x}' for x in string.ascii_lowercase),
    *".,!?'", *(str(digit) for digit in range(10)), 'bad', '##ly', 'film', 'made', 'it', 'is', 'isn', 'good', 'un',
    '##believ', '##able', 'cafe', 'the', 'movie', 'very', 'not', '##er', 'and', '##ing', '##ed', '##s', 'so', 'no',
    'boring', 'fun',
]  # fmt: skip


def drawn(module, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.3)
    return module.eval()


def arrays(module):
    return {name: leaf.detach().numpy() for name, leaf in module.state_dict().items()}


def write(name, **found):
    np.savez_compressed(HERE / name, **{key: np.asarray(leaf) for key, leaf in found.items()})


def lstm():
    net = drawn(nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True), 0)
    x = torch.randn(len(LENGTHS), max(LENGTHS), 5)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    states, (last, _) = net(packed)
    states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    write('lstm', x=x, lengths=LENGTHS, states=states.detach(), last=last.detach(), **arrays(net))


def transformer():
    found = {}
    for kind in ('pre', 'post'):
        layer = nn.TransformerEncoderLayer(
            8, 2, 12, dropout=0.0, activation='gelu', batch_first=True, norm_first=kind == 'pre'
        )
        norm = nn.LayerNorm(8) if kind == 'pre' else None
        net = drawn(nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False), 1)
        found['x'] = x = torch.randn(len(LENGTHS), max(LENGTHS), 8, generator=torch.Generator().manual_seed(2))
        padding = torch.arange(max(LENGTHS)) >= torch.tensor(LENGTHS)[:, None]
        with torch.no_grad():
            found[f'{kind}/hidden1'] = net.layers[0](x, src_key_padding_mask=padding)
            found[f'{kind}/out'] = net(x, src_key_padding_mask=padding)
        found |= {f'{kind}/{name}': leaf for name, leaf in arrays(net).items()}
    write('transformer', lengths=LENGTHS, **found)


def bert():
    assert len(WORDS) == 97, len(WORDS)
    (HERE / 'vocab.txt').write_text('\n'.join(WORDS) + '\n')
    tokenizer = BertWordPieceTokenizer(str(HERE / 'vocab.txt'), lowercase=True)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]
    ids = np.zeros((len(TEXTS), max(map(len, encoded))), np.int32)
    for row, found in zip(ids, encoded, strict=True):
        row[: len(found)] = found
    config = BertConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40, num_labels=3, attn_implementation='eager',
    )  # fmt: skip
    net = drawn(BertForSequenceClassification(config), 3)
    inputs = {'input_ids': torch.from_numpy(ids).long(), 'attention_mask': torch.from_numpy(ids > 0).long()}
    with torch.no_grad():
        outputs = net(**inputs, output_hidden_states=True, output_attentions=True)
    hidden = {f'hidden{layer}': state for layer, state in enumerate(outputs.hidden_states)}
    attention = {f'attention{layer}': weights for layer, weights in enumerate(outputs.attentions, start=1)}
    weights = {f'weights/{name}': leaf for name, leaf in arrays(net).items()}
    write('bert', texts=TEXTS, ids=ids, lengths=[*map(len, encoded)], logits=outputs.logits, **hidden, **attention,
          **weights)  # fmt: skip


if __name__ == '__main__':
    lstm()
    transformer()
    bert()
