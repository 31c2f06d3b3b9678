"""Plain values as lines: numbers, text, lists, tuples, dictionaries and numeric arrays, and nothing that runs.

A line is JSON, in which a tuple is {"tuple": [...]}, a dictionary {"dict": [[key, value], ...]}, an array {"array":
[dtype, shape, bytes in C order as base64]}, and what cannot be sent {"odd": its type's name}. The other side may run a
student's code: lines have a longest length, and nothing is unpickled.
"""

import json
import socket
import time
from base64 import b64decode, b64encode
from itertools import count
from math import inf
from typing import Any

import numpy as np

LINE_LIMIT = 2**25  # bytes
DEPTH_LIMIT = 20  # of values in values
PARTS_LIMIT = 20_000  # values in one line, arrays counted as one
DTYPES = {
    np.dtype(name).str
    for name in "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
}


class WireError(Exception):
    """The received bytes are no line of values."""


class Unserializable:
    """Stands for a value that cannot be sent, by the name of its type."""

    def __init__(self, kind: str):
        self.kind = kind

    def __repr__(self) -> str:
        return f"an object of type {self.kind}"


def pack(value: object, tensor_type: type[Any] | None = None) -> bytes:
    """Make a line. Objects of `tensor_type` are sent as their arrays; what cannot be sent, as its type's name.

    Raises OverflowError if it would have too many parts.
    """
    parts = count(1)

    def tree(x: Any, depth: int) -> Any:
        if next(parts) > PARTS_LIMIT:
            raise OverflowError
        kind = type(x)
        if x is None or kind is bool or kind is float or (kind is int and abs(x) < 2**1024):
            return x
        if kind is str:
            return x.encode("utf-8", "replace").decode()
        if tensor_type is not None and isinstance(x, tensor_type):
            x = x.numpy()
        if isinstance(x, (np.ndarray, np.generic)):
            native = x.dtype.newbyteorder("=")
            if native.str in DTYPES and x.nbytes <= LINE_LIMIT:
                text = b64encode(x.astype(native, copy=False).tobytes()).decode()
                return {"array": [native.str, x.shape, text]}
        elif isinstance(x, (list, tuple)) and depth < DEPTH_LIMIT:  # or what is derived from them, as a namedtuple is
            items = [tree(item, depth + 1) for item in x]
            return items if isinstance(x, list) else {"tuple": items}
        elif isinstance(x, dict) and depth < DEPTH_LIMIT:
            keys = [key.item() if isinstance(key, np.generic) else key for key in x]
            if all(type(key) in (str, int, bool) for key in keys):
                return {"dict": [[key, tree(item, depth + 1)] for key, item in zip(keys, x.values(), strict=True)]}
        return {"odd": x.kind if kind is Unserializable else str(kind.__name__)[:100]}

    line = json.dumps(tree(value, 0)).encode() + b"\n"
    if len(line) > LINE_LIMIT:
        raise OverflowError
    return line


def unpack(line: bytes) -> Any:
    """Read a line. Raises WireError."""
    try:
        return json.loads(line, object_hook=_value)
    except (ValueError, TypeError, RecursionError) as error:
        raise WireError("no line of values") from error


def _value(tree: dict[str, Any]) -> Any:
    """Return the value that `pack` made a tree of, its parts read already."""
    match tree:
        case {"tuple": list() as items}:
            return tuple(items)
        case {"dict": list() as items}:
            return dict(items)
        case {"odd": str() as kind}:
            return Unserializable(kind)
        case {"array": [str() as kind, list() as shape, str() as text]} if kind in DTYPES:
            return np.frombuffer(bytearray(b64decode(text)), kind).reshape(shape)
    raise WireError("a value of a kind that is not sent")


def receive(connection: socket.socket, deadline: float = inf) -> Any:
    """Read the next value from a socket.

    Raises EOFError at its end, TimeoutError at the deadline (by time.monotonic()), and WireError.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        if (left := deadline - time.monotonic()) <= 0:
            raise TimeoutError
        connection.settimeout(None if left == inf else left)
        piece = connection.recv(2**20)
        if not piece:
            raise EOFError
        line += piece
        if len(line) > LINE_LIMIT:
            raise WireError("a line is too long")
    return unpack(bytes(line))
