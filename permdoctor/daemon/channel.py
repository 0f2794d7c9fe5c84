"""Messages between the service and its own processes: a length, then MessagePack.

Both ends are ours; still an answer is decoded by its type and has a limit, for what a worker read
was written by others.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from typing import Final, Generic, TypeVar

import msgspec

T = TypeVar("T")

MAX_MESSAGE: Final = 32 << 20
_LENGTH: Final = struct.Struct("=I")
_CHUNK: Final = 1 << 18


class Closed(Exception):  # noqa: N818 - it is a state of the channel
    """The other side is gone, or talks nonsense."""


class Channel(Generic[T]):
    """One end.  ``received`` is what the other side sends."""

    def __init__(self, sock: socket.socket, received: type[T]) -> None:
        self._sock = sock
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(received)
        self._encoder = msgspec.msgpack.Encoder()
        self._buffer = bytearray()
        sock.setblocking(False)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: object, seconds: float) -> None:
        """Raises ``Closed`` if the other side does not take it within so many seconds."""
        data = self._encoder.encode(message)
        left = memoryview(_LENGTH.pack(len(data)) + data)
        end = time.monotonic() + seconds
        while left:
            try:
                left = left[self._sock.send(left) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, end)
            except OSError as e:
                raise Closed(e.strerror or str(e)) from e

    def received(self) -> list[T]:
        """The messages that are there.  Raises ``Closed`` once the other side is."""
        ended = False
        with contextlib.suppress(BlockingIOError):
            ended = not self._read()
        found = []
        while (message := self._next()) is not None:
            found.append(message)
        if ended and not found:
            raise Closed("it ended")
        return found

    def wait(self) -> T:
        """The next message.  Raises ``Closed``."""
        while True:
            message = self._next()
            if message is not None:
                return message
            self._wait(select.POLLIN, None)
            if not self._read():
                raise Closed("it ended")

    def close(self) -> None:
        self._sock.close()

    def _read(self) -> bool:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            raise
        except OSError as e:
            raise Closed(e.strerror or str(e)) from e
        self._buffer += data
        return bool(data)

    def _next(self) -> T | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_MESSAGE:
            raise Closed("a message without an end")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        data = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        try:
            return self._decoder.decode(data)
        except (msgspec.MsgspecError, ValueError) as e:
            raise Closed(f"a message that is none: {e}") from e

    def _wait(self, what: int, end: float | None) -> None:
        left = None if end is None else end - time.monotonic()
        poll = select.poll()
        poll.register(self._sock, what)
        if (left is not None and left <= 0) or not poll.poll(None if left is None else left * 1000):
            raise Closed("it does not take what it is sent")
