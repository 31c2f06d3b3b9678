"""Settings of their own for some of the modules, as PEFT's rank_pattern and alpha_pattern have them.

A pattern is a dictionary from names to values. A name means every target whose path is the name or ends with it, cut
at a dot: "v_proj", "layers.0.self_attn.v_proj", "model.layers.0.self_attn.v_proj". PEFT, which reads the name as the
end of a regular expression, finds the same; where two names mean one module, it takes the first, and sorts them when
it saves. Here they may not differ.
"""

import re
from typing import Any

from minilora.errors import did_you_mean, escape
from minilora.fields import Kind


def value_at(path: str, pattern: dict, default):
    """What the pattern says for the module at `path`; the default where no name means it."""
    return next((value for name, value in pattern.items() if means(name, path)), default)


def pattern_problems(option: str, pattern: Any, kind: Kind) -> list[str]:
    """What is wrong with the values of a pattern, all of a kind."""
    values = pattern.items() if isinstance(pattern, dict) else ()
    return [p for name, value in values for p in kind.problems(f"{option}[{escape(repr(name))}]", value)]


def target_problems(option: str, pattern: dict, targets: list[str]) -> list[str]:
    """Names in the pattern that mean none of the targets (paths), and targets for which two names differ."""
    last_names = sorted({path.rpartition(".")[2] for path in targets})
    meant: dict[str, str] = {}  # target -> the first name that means it
    problems = []
    for name, value in pattern.items():
        paths = [path for path in targets if means(name, path)]
        if not paths and not re.fullmatch(r"[\w.-]*", name):
            problems.append(f"{option}: {escape(repr(name))} is not a name (regular expressions are not read)")
        elif not paths:
            hint = did_you_mean(name, last_names) if len(problems) < 10 else ""
            hint = hint or f"there are: {escape(', '.join(last_names), 400)}"
            problems.append(f"{option}: {escape(repr(name))} is none of the targets, {hint}")
        for path in paths:
            first = meant.setdefault(path, name)
            if pattern[first] != value:
                problems.append(f"{option}: {escape(repr(first))} and {escape(repr(name))} differ for {path}")
    return problems


def means(name: str, path: str) -> bool:
    """Whether `name` is the path, or the end of it, cut at a dot."""
    return f".{path}".endswith(f".{name}")
