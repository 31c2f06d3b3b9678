"""Plain values over a socket: numbers, text, lists, tuples, dictionaries and numeric arrays, and nothing that runs.

    frame     length of the header (4 bytes), length of the payload (8), header, payload
    header    JSON: {"tree": value, "arrays": [[dtype, shape], ...]}
    payload   the arrays' bytes in C order, one after the other

Every size is checked before memory is asked for it, since the other side may run a student's code. Never pickle.
"""

import json
import socket
import struct
import time
from math import inf, prod
from typing import Any

import numpy as np

PREFIX = struct.Struct("<IQ")
HEADER_LIMIT = 2**20  # bytes
PAYLOAD_LIMIT = 2**28
DEPTH_LIMIT = 20  # of values in values
PARTS_LIMIT = 20_000  # values in one frame, arrays counted as one
DTYPES = {
    np.dtype(name).str
    for name in "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
}

# As they were before a student's code could put others in their place.
_as_contiguous, _dtype, _ndarray, _generic = np.ascontiguousarray, np.dtype, np.ndarray, np.generic


class WireError(Exception):
    """The received bytes are not a valid frame."""


class Unserializable:
    """Stands for a value that cannot be sent, by the name of its type."""

    def __init__(self, kind: str):
        self.kind = kind

    def __repr__(self) -> str:
        return f"an object of type {self.kind}"


def pack(value: object, tensor_type: type[Any] | None = None) -> bytes:
    """Make a frame. Objects of `tensor_type` are sent as their arrays; what cannot be sent, as its type's name.

    Raises OverflowError if it would have too many parts.
    """
    arrays: list[np.ndarray] = []
    count = 0

    def tree(x: Any, depth: int) -> Any:
        nonlocal count
        kind = type(x)
        count += 1
        if count > PARTS_LIMIT:
            raise OverflowError
        if x is None or kind is bool or kind is float or (kind is int and abs(x) < 2**1024):
            return x
        if kind is str:
            return {"text": x.encode("utf-8", "replace").decode()[:20_000]}
        if tensor_type is not None and isinstance(x, tensor_type):
            x = x.numpy()
        if isinstance(x, (_ndarray, _generic)):
            native = _dtype(x.dtype).newbyteorder("=")
            if native.str in DTYPES and sum(a.nbytes for a in arrays) + x.nbytes <= PAYLOAD_LIMIT:
                arrays.append(_as_contiguous(x, dtype=native).reshape(x.shape))
                return {"array": len(arrays) - 1}
        elif depth < DEPTH_LIMIT:
            if isinstance(x, (list, tuple)):  # or what is derived from them, as a namedtuple is
                return {"list" if isinstance(x, list) else "tuple": [tree(item, depth + 1) for item in x]}
            keys = [key.item() if isinstance(key, _generic) else key for key in x] if isinstance(x, dict) else [None]
            if all(type(key) in (str, int, bool) for key in keys):
                return {"dict": [[key, tree(item, depth + 1)] for key, item in zip(keys, x.values(), strict=True)]}
        return {"odd": x.kind if kind is Unserializable else str(kind.__name__)[:100]}

    content = {"tree": tree(value, 0), "arrays": [[a.dtype.str, list(a.shape)] for a in arrays]}
    header = json.dumps(content).encode()
    if len(header) > HEADER_LIMIT:
        raise OverflowError
    payload = b"".join(a.tobytes() for a in arrays)
    return PREFIX.pack(len(header), len(payload)) + header + payload


def unpack(frame: bytes) -> Any:
    """Read a frame that is there as a whole. Raises WireError."""
    header, payload = _lengths(frame[: PREFIX.size])
    start = PREFIX.size + header
    if len(frame) != start + payload:
        raise WireError("the frame has another length than it says")
    return _read(frame[PREFIX.size : start], frame[start:])


def receive(connection: socket.socket, deadline: float = inf) -> Any:
    """Read the next value from a socket.

    Raises EOFError at its end, TimeoutError at the deadline (by time.monotonic()), and WireError.
    """

    def exactly(count: int) -> bytes:
        buffer = bytearray()
        while len(buffer) < count:
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            connection.settimeout(None if left == inf else left)
            piece = connection.recv(min(count - len(buffer), 2**20))
            if not piece:
                raise EOFError
            buffer += piece
        return bytes(buffer)

    header, payload = _lengths(exactly(PREFIX.size))
    return _read(exactly(header), exactly(payload))


def _lengths(prefix: bytes) -> tuple[int, int]:
    """Return the lengths of header and payload."""
    if len(prefix) < PREFIX.size:
        raise WireError("a frame is cut off")
    header, payload = PREFIX.unpack(prefix)
    if header > HEADER_LIMIT or payload > PAYLOAD_LIMIT:
        raise WireError("a frame is too long")
    return header, payload


def _read(header: bytes, payload: bytes) -> Any:
    arrays, start = [], 0
    try:
        content = json.loads(header)
        for kind, shape in content["arrays"]:
            if kind not in DTYPES or len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
                raise WireError("an array of a kind that is not sent")
            end = start + prod(shape) * np.dtype(kind).itemsize
            if end > len(payload):
                raise WireError("the arrays' sizes do not add up")
            arrays.append(np.frombuffer(bytearray(payload[start:end]), kind).reshape(shape))
            start = end
        if start != len(payload):
            raise WireError("the arrays' sizes do not add up")
        return _value(content["tree"], arrays)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise WireError("the header cannot be read") from error


def _value(tree: Any, arrays: list[np.ndarray]) -> Any:
    """Return the value that `pack` made a tree of."""
    if tree is None or type(tree) in (bool, int, float):
        return tree
    if type(tree) is not dict or len(tree) != 1:
        raise WireError("a value of a kind that is not sent")
    match next(iter(tree.items())):
        case "text", str() as text:
            return text
        case "odd", str() as kind:
            return Unserializable(kind)
        case "array", int() as number:
            return arrays[number]
        case "list", list() as items:
            return [_value(item, arrays) for item in items]
        case "tuple", list() as items:
            return tuple(_value(item, arrays) for item in items)
        case "dict", list() as items:
            return {key: _value(item, arrays) for key, item in items}
    raise WireError("a value of a kind that is not sent")
