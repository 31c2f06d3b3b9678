"""Rotary positions: the angles by which queries and keys are turned (Su et al. 2021, section 3.2), and how models made
for short texts stretch them over longer ones.

Pair i of a head of size D turns by `position · f_i`, f_i = theta^(-2i/D). One way to stretch them is known here, that
of Llama 3.1, "llama3": slow pairs turn by f_i / factor, fast ones as before, those in between by a mixture.
"""

from math import pi
from typing import Any

import numpy as np

from minilora.errors import FormatError, escape
from minilora.fields import is_number

SCALING = "llama3"
FIELDS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")  # of Hugging Face's


def checked_scaling(scaling: object) -> dict[str, Any] | None:
    """The `rope_scaling` (or `rope_parameters`) of a config.json with its known fields; None where nothing is scaled.

    FormatError for a kind that is not known, and for fields that are missing or no positive numbers.
    """
    if not scaling:
        return None
    if not isinstance(scaling, dict):
        raise FormatError(f"rope_scaling must be an object, not {escape(repr(scaling))}")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return None
    if kind != SCALING:
        raise FormatError(f"rotary scaling {escape(repr(kind))} is not supported, {SCALING!r} alone")
    fields: dict[str, Any] = {name: scaling.get(name) for name in FIELDS}
    wrong = [f"{name} {escape(repr(v))}" for name, v in fields.items() if not (is_number(v) and v > 0)]
    if not wrong and not fields["low_freq_factor"] < fields["high_freq_factor"]:
        wrong = ["low_freq_factor, which must be below high_freq_factor"]
    if wrong:
        raise FormatError(f"rotary scaling {kind}: not possible with {', '.join(wrong)}")
    return {"rope_type": kind, **fields}


def inverse_frequencies(size: int, theta: float, scaling: dict[str, Any] | None = None) -> np.ndarray:
    """f_i of a head of that size, (D/2,) in float32 and in the steps that transformers takes."""
    frequencies = 1.0 / np.float32(theta) ** (np.arange(0, size, 2, dtype="float32") / np.float32(size))
    frequencies = frequencies.astype("float32")
    if scaling is None:
        return frequencies
    slow = frequencies / np.float32(scaling["factor"])
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = np.float32(scaling["original_max_position_embeddings"]) * frequencies / np.float32(2 * pi)
    share = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1)  # 0: turns less than `low` times, slow
    return ((1 - share) * slow + share * frequencies).astype("float32")


def rotary_tables(positions: np.ndarray, frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of the angles, (..., D) in float32, for positions (...); each angle stands at i and at i + D/2."""
    angles = positions[..., None].astype("float32") * frequencies
    angles = np.concatenate([angles, angles], axis=-1)
    return np.cos(angles), np.sin(angles)
