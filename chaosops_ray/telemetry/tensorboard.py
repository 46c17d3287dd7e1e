"""The sink for TensorBoard: event files in the folder `tensorboard` of the run.

The few messages that a scalar needs are written here by hand. The libraries that write them load torch, and write from
a thread in which a full disk is not noticed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from chaosops_ray.telemetry.clock import stamp
from chaosops_ray.telemetry.sinks import Described
from chaosops_ray.telemetry.table import Sample

FOLDER = "tensorboard"
_NAME = "events.out.tfevents.{:06d}"
_VERSION = b"brain.Event:2"
# Fields of the messages Event, Summary, Summary.Value and SessionLog, and the one status of a session that is used.
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY, _SESSION = 1, 2, 3, 5, 7
_VALUE, _TAG, _SIMPLE_VALUE = 1, 1, 2
_STATUS, _START = 1, 1
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5


class TensorBoardSink:
    """A file of events for each time that the run is started or resumed, and a new one after a write that failed."""

    def __init__(self, described: Described) -> None:
        self._folder = described.folder / FOLDER
        self._file: BinaryIO | None = None
        self._last = 0  # the last update in the file

    def write(self, samples: Sequence[Sample], update: int) -> None:
        """Append the scalars of an update."""
        try:
            file = self._opened()
            if update <= self._last or not self._last:  # TensorBoard then drops this update and all after it
                file.write(self._event(update, _field(_SESSION, _BYTES, _field(_STATUS, _VARINT, _START))))
            values = [_value(sample.key, sample.value) for sample in samples]
            file.write(self._event(update, _field(_SUMMARY, _BYTES, b"".join(values))))
            file.flush()
        except OSError:
            self.close()  # what follows half an event is not read
            raise
        self._last = update

    def idle(self) -> None:
        """Wait for the next update."""

    def close(self) -> None:
        """Close the file."""
        file, self._file, self._last = self._file, None, 0
        if file is not None:
            file.close()

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._folder.mkdir(exist_ok=True)
            number = 1 + len(list(self._folder.iterdir()))
            # Unbuffered, so that nothing is left to write when it is closed.
            self._file = (self._folder / _NAME.format(number)).open("xb", buffering=0)
            self._file.write(self._event(0, _field(_FILE_VERSION, _BYTES, _VERSION)))
        return self._file

    def _event(self, update: int, content: bytes) -> bytes:
        """Return an event as it lies in a file."""
        head = _field(_WALL_TIME, _DOUBLE, stamp()) + _field(_STEP, _VARINT, update)
        event = head + content
        length = struct.pack("<Q", len(event))
        return length + _checksum(length) + event + _checksum(event)


def opened(described: Described) -> TensorBoardSink:
    """Open the sink of a run."""
    return TensorBoardSink(described)


# -- the format of messages: Protocol Buffers -------------------------------------------------------------------------


def _value(name: str, value: float) -> bytes:
    content = _field(_TAG, _BYTES, name.encode()) + _field(_SIMPLE_VALUE, _FLOAT, value)
    return _field(_VALUE, _BYTES, content)


def _field(number: int, kind: int, value: float | bytes) -> bytes:
    head = _varint(number << 3 | kind)
    if isinstance(value, bytes):
        return head + _varint(len(value)) + value
    if kind == _VARINT:
        return head + _varint(int(value))
    return head + struct.pack("<d" if kind == _DOUBLE else "<f", value)


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


# -- the format of files: TFRecord, with masked CRC-32C ---------------------------------------------------------------


def _table() -> Iterable[int]:
    for byte in range(256):
        rest = byte
        for _ in range(8):
            rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
        yield rest


_CRC = tuple(_table())


def _checksum(content: bytes) -> bytes:
    rest = 0xFFFFFFFF
    for byte in content:
        rest = rest >> 8 ^ _CRC[(rest ^ byte) & 0xFF]
    rest ^= 0xFFFFFFFF
    masked = ((rest >> 15 | rest << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<I", masked)
