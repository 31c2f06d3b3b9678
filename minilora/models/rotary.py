"""Rotary position embeddings (RoPE): the angles by which queries and keys are rotated (Su et al. 2021, section 3.2),
and how a model trained on short texts scales them for longer ones.

Pair i of a head of size D rotates by `position · f_i`, with f_i = theta^(-2i/D). The one scaling supported here is
"llama3", that of Llama 3.1: slow pairs rotate by f_i / factor, fast pairs as before, and pairs in between by a mixture.
"""

from math import pi
from typing import Any

import numpy as np

from minilora.errors import FormatError, escape
from minilora.fields import is_number

SCALING = "llama3"
FIELDS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")  # Hugging Face's names


def checked_scaling(scaling: object) -> dict[str, Any] | None:
    """Check the `rope_scaling` (or `rope_parameters`) of a config.json; return its known fields, or None if there is no
    scaling.

    Raises FormatError for an unknown kind, and for fields that are missing or not positive numbers.
    """
    if not scaling:
        return None
    if not isinstance(scaling, dict):
        raise FormatError(f"rope_scaling must be an object, not {escape(repr(scaling))}")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return None
    if kind != SCALING:
        raise FormatError(f"rotary scaling {escape(repr(kind))} is not supported, only {SCALING!r} is")
    fields: dict[str, Any] = {name: scaling.get(name) for name in FIELDS}
    wrong = [f"{name} {escape(repr(v))}" for name, v in fields.items() if not (is_number(v) and v > 0)]
    if not wrong and not fields["low_freq_factor"] < fields["high_freq_factor"]:
        wrong = ["low_freq_factor, which must be below high_freq_factor"]
    if wrong:
        raise FormatError(f"rotary scaling {kind} has invalid fields: {', '.join(wrong)}")
    return {"rope_type": kind, **fields}


def inverse_frequencies(size: int, theta: float, scaling: dict[str, Any] | None = None) -> np.ndarray:
    """Compute f_i for a head of this size: (D/2,) in float32, in the same steps as transformers."""
    frequencies = 1.0 / np.float32(theta) ** (np.arange(0, size, 2, dtype="float32") / np.float32(size))
    frequencies = frequencies.astype("float32")
    if scaling is None:
        return frequencies
    slow = frequencies / np.float32(scaling["factor"])
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = np.float32(scaling["original_max_position_embeddings"]) * frequencies / np.float32(2 * pi)
    weight = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1)  # 0: slow, scaled; 1: fast, unscaled
    return ((1 - weight) * slow + weight * frequencies).astype("float32")


def rotary_tables(positions: np.ndarray, frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cos and sin of the angles for positions (...): (..., D) in float32, each angle at i and at i + D/2."""
    angles = positions[..., None].astype("float32") * frequencies
    angles = np.concatenate([angles, angles], axis=-1)
    return np.cos(angles), np.sin(angles)
