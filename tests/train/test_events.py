"""Event files for TensorBoard, byte for byte as another writer makes them."""

import struct

from kdjax.train import events
from kdjax.train.events import Events

# Made by tensorboardX 2.6.4 of the version and of 'a/b' = 0.5 and 'c' = -2 at step 300, all at time 1.5.
WRITTEN = bytes.fromhex(
    '1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c'
    '2400000000000000422b804d09000000000000f83f10ac022a160a0a0a03612f62150000003f0a080a016315000000c0ac91a714'
)


def test_a_file_has_the_bytes_that_another_writer_gives_it(tmp_path, monkeypatch):
    monkeypatch.setattr(events.time, 'time', lambda: 1.5)
    book = Events(tmp_path / 'new' / 'folder')
    book.scalars(300, {'a/b': 0.5, 'c': -2.0})
    book.flush()
    (path,) = (tmp_path / 'new' / 'folder').iterdir()
    assert path.read_bytes() == WRITTEN
    book.close()
    assert 'tfevents' in path.name  # by which TensorBoard finds it


def test_the_checksum_is_that_of_the_published_vector():
    """CRC-32C of '123456789' is E3069283 (RFC 3720 has the polynomial); masked as TensorFlow's records are."""
    crc = 0xE3069283
    assert events._checksum(b'123456789') == struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def test_a_number_of_many_bits_is_cut_into_sevens():
    assert [events._varint(number) for number in (0, 127, 128, 2**32)] == [
        b'\0',
        b'\x7f',
        b'\x80\1',
        b'\x80' * 4 + b'\x10',
    ]
