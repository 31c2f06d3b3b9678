"""Plain values over a socket: numbers, text, lists, tuples, dictionaries and numeric arrays, and nothing that runs.

    frame     magic (4 bytes), length of the header (4), length of the payload (8), header, payload
    header    JSON: {"tree": value, "arrays": [[dtype, shape], ...]}
    payload   the arrays' bytes in C order, one after the other

Every size is checked before memory is asked for it, since the other side may run a student's code. Never pickle.
"""

import json
import struct
from math import prod

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


class Unserializable:
    """In place of a value that cannot be sent: the name of its type."""

    def __init__(self, kind: str):
        self.kind = kind

    def __repr__(self) -> str:
        return f"an object of type {self.kind}"


def pack(value: object, tensor_type: type | None = None) -> bytes:
    """A frame. Objects of `tensor_type` are sent as their arrays, what cannot be sent as its type's name.

    Raises OverflowError where it would have too many parts.
    """
    arrays: list[np.ndarray] = []
    count = 0

    def tree(x, depth: int):
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
            if kind in (list, tuple):
                return {kind.__name__: [tree(item, depth + 1) for item in x]}
            if kind is dict and all(type(key) in (str, int, bool) for key in x):
                return {"dict": [[key, tree(item, depth + 1)] for key, item in x.items()]}
        return {"odd": x.kind if kind is Unserializable else str(kind.__name__)[:100]}

    content = {"tree": tree(value, 0), "arrays": [[a.dtype.str, list(a.shape)] for a in arrays]}
    header = json.dumps(content).encode()
    if len(header) > HEADER_LIMIT:
        raise OverflowError
    payload = b"".join(a.tobytes() for a in arrays)
    return PREFIX.pack(MAGIC, len(header), len(payload)) + header + payload


class Reader:
    """Puts a frame together from pieces: take up to `wanted` bytes, `feed` them, until that returns a 1-tuple."""

    def __init__(self):
        self.buffer = bytearray()
        self.wanted = PREFIX.size
        self.header: dict | None = None
        self.lengths: tuple[int, int] | None = None

    def feed(self, piece: bytes) -> tuple | None:
        """(value,) when the frame is whole, else None. Raises WireError where it is none."""
        self.buffer += piece
        self.wanted -= len(piece)
        while self.wanted == 0:
            if self.lengths is None:
                magic, *lengths = PREFIX.unpack(self.buffer)
                if magic != MAGIC or lengths[0] > HEADER_LIMIT or lengths[1] > PAYLOAD_LIMIT:
                    raise WireError("no frame")
                self.lengths, self.wanted = tuple(lengths), lengths[0]
            elif self.header is None:
                self.header, self.wanted = _read_header(bytes(self.buffer), self.lengths[1]), self.lengths[1]
            else:
                value = _unpack(self.header, bytes(self.buffer))
                self.__init__()
                return (value,)
            self.buffer.clear()
        return None


def receive(socket) -> object:
    """The next value of a blocking socket. Raises EOFError at its end."""
    reader = Reader()
    while True:
        piece = socket.recv(min(reader.wanted, 2**20))
        if not piece:
            raise EOFError
        if whole := reader.feed(piece):
            return whole[0]


def _read_header(text: bytes, payload_length: int) -> dict:
    try:
        content = json.loads(text)
        sizes = []
        for kind, shape in content["arrays"]:
            if kind not in DTYPES or len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
                raise WireError("an array of a kind that is not sent")
            sizes.append(prod(shape) * np.dtype(kind).itemsize)
        if sum(sizes) != payload_length:
            raise WireError("the arrays' sizes do not add up")
        return {"tree": content["tree"], "arrays": content["arrays"], "sizes": sizes}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WireError("the header cannot be read") from error


def _unpack(header: dict, payload: bytes) -> object:
    arrays, start = [], 0
    for (kind, shape), size in zip(header["arrays"], header["sizes"], strict=True):
        arrays.append(np.frombuffer(payload[start : start + size], kind).reshape(shape).copy())
        start += size

    def value(tree, depth: int):
        if tree is None or type(tree) in (bool, int, float):
            return tree
        if type(tree) is not dict or len(tree) != 1 or depth > DEPTH_LIMIT + 1:
            raise WireError("a value of a kind that is not sent")
        ((kind, content),) = tree.items()
        match kind, content:
            case "text", str():
                return content
            case "odd", str():
                return Unserializable(content)
            case "array", int():
                return arrays[content]
            case (("list" | "tuple"), list()):
                return (list if kind == "list" else tuple)(value(item, depth + 1) for item in content)
            case "dict", list():
                return {key: value(item, depth + 1) for key, item in content}
        raise WireError("a value of a kind that is not sent")

    try:
        return value(header["tree"], 0)
    except (ValueError, TypeError, IndexError) as error:
        raise WireError("the value cannot be read") from error
