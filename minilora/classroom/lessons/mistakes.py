"""Answers that a lesson's checks are tried on: wrong ones, which must fail with a hint, and odd but right ones."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Right:
    """An answer that is right in another way.

    where: the function that it completes, "lora_forward" or "LoraLayer.forward"; name: what is odd about it; code: in
    place of what stands between the markers there, in any indentation. `also`: the same for other functions.
    """

    where: str
    name: str
    code: str
    also: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Mistake:
    """An answer that is wrong, as people really make it; hint: a part of the hint that it must get."""

    where: str
    name: str
    code: str
    hint: str
    also: tuple[tuple[str, str], ...] = ()
