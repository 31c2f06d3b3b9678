"""Orders in free text and as JSON, written by a program, and the judge of an answer, which is a program too.

The sentences and words are those of orders.txt. Training, validation and test have sentences of their own. Training
draws from the first two thirds of the words and the others from the last two, so copying a sentence does not help, and
half of the words are new.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minilora.data.chat import Conversation, response_of
from minilora.errors import FormatError
from minilora.formats.atomic import parse_json

INSTRUCTION = (
    "Turn the order into JSON: customer, city, items (product in the singular, colour, quantity) and due. "
    "Use null for what is not said."
)
WRITTEN = {"train": 400, "validation": 24, "test": 100}  # orders
FIELDS, OF_ITEMS = {"customer", "city", "items", "due"}, {"product", "colour", "quantity"}


def written(part: str) -> list[Conversation]:
    """Write the orders of a part with their JSON, as conversations."""
    words: dict[str, list[str]] = {}
    for line in Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines():
        name, *values = line.split("|")
        words.setdefault(name, []).extend(values)
    rng = np.random.default_rng(list(WRITTEN).index(part))

    def choose(among: Sequence[Any]) -> Any:
        return among[int(rng.integers(len(among)))]

    def word(name: str) -> str:
        third = len(words[name]) // 3
        return choose(words[name][: 2 * third] if part == "train" else words[name][third:])

    def one() -> Conversation:
        items: list[dict] = []
        phrases: list[str] = []
        for _ in range(choose([1, 2, 3])):
            quantity, _, number = word("quantity").partition("=")
            item: dict[str, Any] = {
                "product": word("product"),
                "colour": choose([word("colour")] * 3 + [None]),
                "quantity": int(number),
            }
            phrase = choose(words[f"{part} phrase"]) if item["colour"] else "{quantity} {product}s"
            phrases.append(phrase.format(**item | {"quantity": quantity}))
            items.append(item)
        sentence = choose(words[f"{part} sentence"])
        order: dict[str, Any] = {"customer": word("customer"), "city": word("city"), "items": items, "due": word("due")}
        *most, last = phrases
        text = sentence.format(**order | {"items": f"{', '.join(most)} and {last}" if most else last})
        order["due"] = order["due"] if "{due}" in sentence else None
        answer = json.dumps(order, ensure_ascii=False, separators=(",", ":"))
        roles = {"system": INSTRUCTION, "user": text, "assistant": answer}
        return [{"role": role, "content": content} for role, content in roles.items()]

    return [one() for _ in range(WRITTEN[part])]


def fields_of(order: Any) -> dict[str, Any] | None:
    """Return {field: value} of an order, those of its items by number; None if it has other keys than the format's."""
    if not isinstance(order, dict) or set(order) != FIELDS or not isinstance(order["items"], list):
        return None
    if any(not isinstance(item, dict) or set(item) != OF_ITEMS for item in order["items"]):
        return None
    fields = {name: order[name] for name in sorted(FIELDS - {"items"})}
    return fields | {f"{name} {i}": value for i, item in enumerate(order["items"]) for name, value in item.items()}


def judge(answer: str, expected: str) -> tuple[bool, bool, float]:
    """Return whether the answer is JSON with the format's keys, whether it is right, and the share of right fields."""
    try:
        fields = fields_of(parse_json(answer.encode(), "the answer"))
    except FormatError:
        fields = None
    wanted = fields_of(json.loads(expected)) or {}
    right = [fields is not None and name in fields and fields[name] == value for name, value in wanted.items()]
    return fields is not None, fields == wanted, float(np.mean(right))


def judged(answers: Sequence[str], orders: Sequence[Conversation]) -> dict:
    """Return the shares of orders that are valid and exact and of fields that are right, and per order what it was."""
    pairs = [(answer, response_of(one)) for answer, one in zip(answers, orders, strict=True)]
    valid, exact, fields = (np.array(column) for column in zip(*(judge(*pair) for pair in pairs), strict=True))
    numbers: dict[str, Any] = {
        "valid": float(valid.mean()),
        "exact": float(exact.mean()),
        "fields": float(fields.mean()),
    }
    numbers |= {"valid_items": np.packbits(valid).tobytes().hex(), "exact_items": np.packbits(exact).tobytes().hex()}
    return numbers | {"wrong": [pair for pair, is_right in zip(pairs, exact, strict=True) if not is_right][:3]}
