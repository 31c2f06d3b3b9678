"""A lesson in a kit for students: one file, `checks.kit`, in place of solution.py, checks.py and driver.py.

    first line      "minilora kit 1", and the SHA-256 of what follows
    then            compressed frames (see `sandbox/wire.py`): the texts, and a recording of the solution's results

Of solution.py there are the gaps, with stubs in them. The checks compute right answers, and lines of theirs are lines
of solutions, so that they do not lie open.
"""

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minilora.classroom.lessons.reference import Recording
from minilora.classroom.sandbox import wire
from minilora.errors import FormatError, escape

KIT = "checks.kit"
MAGIC = b"minilora kit 1 "
SIZE_LIMIT = 2**28  # bytes, decompressed


@dataclass(frozen=True)
class Kit:
    """texts: by the name of the file in a clone; is_as_made: whether the hash fits."""

    texts: dict[str, str]
    recording: Recording
    is_as_made: bool


def pack_kit(texts: dict[str, str], recording: Recording) -> bytes:
    """The file's content."""
    first = {name: np.frombuffer(text.encode(), "uint8") for name, text in texts.items()}
    body = zlib.compress(b"".join(map(wire.pack, [first, *recording.values()])), 9)
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def read_kit(path: Path) -> Kit:
    """Raises FormatError for a file that is none."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        is_as_made = head == MAGIC + hashlib.sha256(body).hexdigest().encode()
        opened = zlib.decompressobj()
        first, *values = wire.unpack_all(opened.decompress(body, SIZE_LIMIT))
        if not opened.eof:
            raise ValueError("cut off")
        texts = {name: text.tobytes().decode() for name, text in first.items()}
        return Kit(texts, Recording.read(values), is_as_made)
    except (OSError, zlib.error, wire.WireError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(f"{escape(str(path))} is damaged, or not there: unpack the kit again") from error
