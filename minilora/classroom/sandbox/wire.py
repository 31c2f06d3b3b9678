"""Encoding of values as lines: numbers, text, lists, tuples, dictionaries and numeric arrays, and no code.

A line is JSON, in which a tuple is {"tuple": [...]}, a dictionary {"dict": [[key, value], ...]}, an array {"array":
[dtype, shape, bytes in C order as base64]}, and any value that cannot be sent {"odd": the name of its type}. The other
side may be a student's code, so lines have a maximum length and nothing is unpickled.
"""

import json
import re
import socket
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from minilora.tensor import Tensor

LINE_LIMIT = 2**24  # bytes
DEPTH_LIMIT = 20  # levels of nested values
DTYPE = re.compile(r"\|b1|\|[iu]1|[<>][iuf][248]")


@dataclass
class Unserializable:
    """A placeholder for a value that cannot be sent. kind: the name of its type."""

    kind: str

    def __repr__(self) -> str:
        return f"an object of type {self.kind}"


def pack(value: object) -> bytes:
    """Encode a value as a line. Tensors are sent as their arrays, values that cannot be sent as an Unserializable.

    Raises OverflowError if the line would be too long.
    """

    def tree(x: Any, depth: int) -> Any:
        kind = type(x)
        if x is None or kind is bool or kind is float or (kind is int and abs(x) < 2**1024):
            return x
        if kind is str:
            return x.encode("utf-8", "replace").decode()
        if isinstance(x, Tensor):
            x = x.numpy()
        if isinstance(x, (np.ndarray, np.generic)):
            native = x.dtype.newbyteorder("=")
            if DTYPE.fullmatch(native.str) and x.nbytes <= LINE_LIMIT:
                text = b64encode(x.astype(native, copy=False).tobytes()).decode()
                return {"array": [native.str, x.shape, text]}
        elif isinstance(x, (list, tuple)) and depth < DEPTH_LIMIT:  # includes subclasses, such as a namedtuple
            items = [tree(item, depth + 1) for item in x]
            return items if isinstance(x, list) else {"tuple": items}
        elif isinstance(x, dict) and depth < DEPTH_LIMIT:
            keys = [key.item() if isinstance(key, np.generic) else key for key in x]
            if all(type(key) in (str, int, bool) for key in keys):
                return {"dict": [[key, tree(item, depth + 1)] for key, item in zip(keys, x.values(), strict=True)]}
        return {"odd": x.kind if kind is Unserializable else str(kind.__name__)[:100]}

    line = json.dumps(tree(value, 0)).encode() + b"\n"
    if len(line) > LINE_LIMIT:
        raise OverflowError("the value is too large to be sent")
    return line


def unpack(line: bytes) -> Any:
    """Decode a line. Raises ValueError."""
    try:
        return json.loads(line, object_hook=_value)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError("the line does not encode a value") from error


def _value(tree: dict[str, Any]) -> Any:
    """Decode a JSON object whose parts are already decoded."""
    match tree:
        case {"tuple": list() as items}:
            return tuple(items)
        case {"dict": list() as items}:
            return dict(items)
        case {"odd": str() as kind}:
            return Unserializable(kind)
        case {"array": [str() as kind, list() as shape, str() as text]} if DTYPE.fullmatch(kind):
            return np.frombuffer(bytearray(b64decode(text)), kind).reshape(shape)
    raise ValueError("the line has a value of an unknown kind")


def receive(connection: socket.socket, deadline: float = inf) -> Any:
    """Read the next value from a socket.

    Raises EOFError if the socket is closed, TimeoutError at the deadline (by time.monotonic()), and ValueError.
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
            raise ValueError("the line is too long")
    return unpack(bytes(line))
