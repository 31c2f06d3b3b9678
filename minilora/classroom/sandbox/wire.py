"""Plain values over a socket: numbers, text, lists, tuples, dictionaries and numeric arrays, and nothing that runs.

    frame     magic (4 bytes), length of the header (4), length of the payload (8), header, payload
    header    JSON: {"tree": value, "arrays": [[dtype, shape], ...]}
    payload   the arrays' bytes in C order, one after the other

Every size is checked before memory is asked for it, since the other side may run a student's code. Never pickle.
"""

import json
import socket
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

MAGIC = b"mlc1"
PREFIX = struct.Struct("<4sIQ")
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
    """What came is no frame."""


@dataclass
class Unserializable:
    """In place of a value that cannot be sent: the name of its type."""

    kind: str

    def __repr__(self) -> str:
        return f"an object of type {self.kind}"


def pack(value: object, tensor_type: type[Any] | None = None) -> bytes:
    """A frame. Objects of `tensor_type` are sent as their arrays, what cannot be sent as its type's name.

    Raises OverflowError where it would have too many parts.
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
    return PREFIX.pack(MAGIC, len(header), len(payload)) + header + payload


def receive(connection: socket.socket) -> object:
    """The next value of a blocking socket. Raises EOFError at its end."""
    frame = read_frame()
    wanted = next(frame)
    try:
        while piece := connection.recv(min(wanted, 2**20)):
            wanted = frame.send(piece)
    except StopIteration as whole:
        return whole.value
    raise EOFError


def read_frame() -> Generator[int, bytes, object]:
    """Puts a frame together from pieces: yields how many bytes it wants, is sent at most so many, returns the value.

    Raises WireError where it is none.
    """
    magic, header_length, payload_length = PREFIX.unpack((yield from _exactly(PREFIX.size)))
    if magic != MAGIC or header_length > HEADER_LIMIT or payload_length > PAYLOAD_LIMIT:
        raise WireError("no frame")
    header = yield from _exactly(header_length)
    try:
        content = json.loads(header)
        tree, sizes = content["tree"], []
        for kind, shape in content["arrays"]:
            if kind not in DTYPES or len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
                raise WireError("an array of a kind that is not sent")
            sizes.append(prod(shape) * np.dtype(kind).itemsize)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WireError("the header cannot be read") from error
    if sum(sizes) != payload_length:
        raise WireError("the arrays' sizes do not add up")
    arrays = []
    for (kind, shape), size in zip(content["arrays"], sizes, strict=True):
        arrays.append(np.frombuffer((yield from _exactly(size)), kind).reshape(shape))
    return _value(tree, arrays)


def _exactly(count: int) -> Generator[int, bytes, bytearray]:
    buffer = bytearray()
    while len(buffer) < count:
        buffer += yield count - len(buffer)
    return buffer


def _value(tree: Any, arrays: list[np.ndarray], depth: int = 0) -> object:
    """What `pack` made a tree of."""
    if tree is None or type(tree) in (bool, int, float):
        return tree
    if type(tree) is not dict or len(tree) != 1 or depth > DEPTH_LIMIT + 1:
        raise WireError("a value of a kind that is not sent")
    try:
        match *tree, *tree.values():
            case "text", str() as text:
                return text
            case "odd", str() as kind:
                return Unserializable(kind)
            case "array", int() as number:
                return arrays[number]
            case "list", list() as items:
                return [_value(item, arrays, depth + 1) for item in items]
            case "tuple", list() as items:
                return tuple(_value(item, arrays, depth + 1) for item in items)
            case "dict", list() as items:
                return {key: _value(item, arrays, depth + 1) for key, item in items}
    except (ValueError, TypeError, IndexError) as error:
        raise WireError("the value cannot be read") from error
    raise WireError("a value of a kind that is not sent")


def unpack(frame: bytes) -> Any:
    """What `pack` made the frame of: plain values, with arrays of their own."""
    return next(unpack_all(frame))


def unpack_all(data: bytes) -> Iterator[Any]:
    """The values of frames that stand one after the other. Raises WireError."""
    left = memoryview(data)
    while left:
        reader = read_frame()
        wanted = next(reader)
        try:
            while piece := left[:wanted]:
                left = left[len(piece) :]
                wanted = reader.send(bytes(piece))
        except StopIteration as whole:
            yield whole.value
            continue
        raise WireError("a frame is cut off")


def plain(value: object, tensor_type: type[Any] | None = None) -> Any:
    """What the other side would get."""
    return unpack(pack(value, tensor_type))
