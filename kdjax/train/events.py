"""TensorBoard's event files, scalars only. Its writers for Python import PyTorch where they find it: seconds at start.

A file is a row of records: length (8 bytes), checksum of the length, data, checksum of the data. Each one's data is an
Event in the wire format of protocol buffers: 1 wall time, 2 step, 3 version, 5 summary {1 value {1 tag, 2 number}}.

Reference: TensorFlow, core/lib/io/record_writer.h, core/util/event.proto, core/framework/summary.proto.
"""

import struct
import time
from collections.abc import Mapping
from pathlib import Path


class Events:
    """Writes a new event file in `folder`; TensorBoard reads all files of a folder as one run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f'events.out.tfevents.{time.time():.6f}').open('ab')
        self._write(_text(3, b'brain.Event:2'))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a step, by tag."""
        parts = [_text(1, _text(1, tag.encode()) + struct.pack('<Bf', 0x15, value)) for tag, value in values.items()]
        self._write(b'\x10' + _varint(step) + _text(5, b''.join(parts)))

    def flush(self) -> None:
        """Hands everything written so far to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Writes what is left."""
        self._file.close()

    def _write(self, rest: bytes) -> None:
        data = struct.pack('<Bd', 0x09, time.time()) + rest
        length = struct.pack('<Q', len(data))
        self._file.write(length + _checksum(length) + data + _checksum(data))


def _text(field: int, data: bytes) -> bytes:
    """A field of bytes, or of a message."""
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    """A whole number, 7 bits a byte, lowest first."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _checksum(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted as the format has it (4 bytes)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
    return byte


_CRC = [_remainder(byte) for byte in range(256)]
