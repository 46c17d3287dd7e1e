"""The sink for TensorBoard: event files in the folder `tensorboard` of the run.

The few messages that a scalar needs are written here by hand. The libraries that write them load torch, and write from
a thread in which a full disk is not noticed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from chaosops_ray.store.files import append_bytes, make_folder
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
    """A file of events for each time that the run is started or resumed."""

    def __init__(self, described: Described) -> None:
        folder = described.folder / FOLDER
        number = 1 + (len(list(folder.iterdir())) if folder.is_dir() else 0)
        self._file = folder / _NAME.format(number)
        self._last = 0  # the last update in the file

    def write(self, samples: Sequence[Sample], update: int) -> None:
        """Append the scalars of an update."""
        events = []
        if not self._last:
            make_folder(self._file.parent)
            events.append(_event(0, _field(_FILE_VERSION, _BYTES, _VERSION)))
        if update <= self._last or not self._last:  # TensorBoard then drops this update and all after it
            events.append(_event(update, _field(_SESSION, _BYTES, _field(_STATUS, _VARINT, _START))))
        values = [_value(sample.key, sample.value) for sample in samples]
        events.append(_event(update, _field(_SUMMARY, _BYTES, b"".join(values))))
        append_bytes(self._file, b"".join(events))  # all of it or nothing: what follows half an event is not read
        self._last = update

    def idle(self) -> None:
        """Wait for the next update."""

    def close(self) -> None:
        """Leave the file: no update waits."""


def opened(described: Described) -> TensorBoardSink:
    """Open the sink of a run."""
    return TensorBoardSink(described)


# -- the format of messages: Protocol Buffers -------------------------------------------------------------------------


def _event(update: int, content: bytes) -> bytes:
    """Return an event as it lies in a file."""
    event = _field(_WALL_TIME, _DOUBLE, stamp()) + _field(_STEP, _VARINT, update) + content
    length = struct.pack("<Q", len(event))
    return length + _checksum(length) + event + _checksum(event)


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
