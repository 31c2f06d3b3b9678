"""The family of errors that are the reader's to mend, and how they show the value that was wrong."""


class MiniloraError(ValueError):
    """Something that was asked for cannot be done; the message is one line: what, with the value, and what to do."""


class FormatError(MiniloraError):
    """A file is not what its name promises; the message says which file and where."""


def escape(value: object, limit: int = 80) -> str:
    """`value` as text for an error message: one line, control characters escaped, at most `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
