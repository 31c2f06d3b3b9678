"""Text to learn from: the documentation of Python and of the libraries installed with it, or a text of your own.

Three corpora are on every machine that runs minilora. `python-docs` is general software English: the docstrings of the
standard library and the reference manual that `help()` shows. `numpy-docs` and `matplotlib-docs` are domains with their
own jargon and a strict format. All are parsed from source files with `ast`; no module is imported and no code runs.

A corpus is a sequence of documents. Each documented object (module, class, function or method) is one document, and so
is each topic of the manual. `load` reads, `split` splits into train, validation and test, `take` draws a small part.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import os
import re
import sysconfig
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple, NoReturn

from minilora.errors import FormatError, MiniloraError, did_you_mean, first_few
from minilora.formats.atomic import read_bytes, show_path

SIZE_LIMIT = 256 * 2**20  # bytes of a user's text; text, pieces and token ids take about six times that in memory
SHORTEST = 40  # characters; a shorter docstring mostly repeats the object's name
SHINGLE = 8  # words; a common run of this length is copied text, not chance
OVERLAP = 1 / 3  # a document with more than this share of its shingles seen before is a near-duplicate
EXAMPLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")  # rows, not running text: `data.examples` reads them
CONVERSATION = re.compile(r'[\s\[]*\{\s*"(prompt|instruction|messages|response|completion|output|conversations)"\s*:')
_CELL = r'(?=([^\n]*[,;\t|])? *"?({})"? *[,;\t|\n])'
TABLE = re.compile(  # the first line of a table, whose columns have the usual names
    _CELL.format("prompt|instruction|text|question|input") + _CELL.format("response|completion|output|label|answer"),
    re.IGNORECASE,
)
HELD_OUT = 0.1  # share of the groups in the validation part, and also in the test part

# Tests are not documentation, site-packages belongs to other projects, and the others depend on the version of Python
# and on the packages of the operating system.
EXCLUDED = frozenset(
    "test tests site-packages dist-packages idlelib lib2to3 tkinter turtledemo distutils ensurepip pydoc_data".split()
)


class Document(NamedTuple):
    """One text. `group` names the texts that must stay in the same part of a split (empty: only this one)."""

    name: str
    text: str
    group: str = ""


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order."""

    name: str
    documents: tuple[Document, ...]
    notes: tuple[str, ...] = ()  # for the user, about files that were left out

    @property
    def characters(self) -> int:
        return sum(len(document.text) for document in self.documents)

    @cached_property
    def sha256(self) -> str:
        """The hash of the texts: runs with equal hashes saw the same text."""
        return hashlib.sha256("\0".join(document.text for document in self.documents).encode()).hexdigest()


class Splits(NamedTuple):
    """Documents, or conversations (`chat`), for training, for choosing settings and for measuring."""

    train: list
    validation: list
    test: list


def load(source: str | os.PathLike[str]) -> Corpus:
    """Read the corpus called `source`, or the text of a file, or of all text files in a folder.

    A corpus takes precedence over a file of the same name; ./name is always the file. A user's text is cut into
    documents by `pieces`. Hidden files, and files of a folder that are not text, are left out; a note names the latter.
    Raises MiniloraError for an unknown name and for text that is empty, binary, not UTF-8 or larger than SIZE_LIMIT,
    and FormatError if something cannot be read, or is neither file nor folder.
    """
    name = os.fspath(source)
    if name in CORPORA:
        return _documentation(name)
    texts, skipped = _read_texts(name)
    examples = [title for title, text in texts.items() if CONVERSATION.match(text) or TABLE.match(text)]
    if name.lower().endswith(EXAMPLES) or examples:
        path = Path(name, *examples[:1]) if os.path.isdir(name) else name
        raise MiniloraError(f"{show_path(path)} holds examples, not running text: give finetune a .csv or .jsonl file")
    size = min(max(sum(map(len, texts.values())) // 40, 200), 2000)
    documents = tuple(
        Document(f"{title}:{number}", piece)
        for title, text in texts.items()
        for number, piece in enumerate(pieces(text, size))
    )
    notes = (f"left out of {show_path(name)}, as they are not UTF-8 text: {first_few(skipped)}",) if skipped else ()
    if not documents:
        raise MiniloraError("; ".join([f"there is no text in {show_path(name)}", *notes]))
    return Corpus(name, documents, notes)


def split(corpus: Corpus) -> Splits:
    """Split into train, validation and test documents: about 80, 10 and 10 of every 100 groups.

    The hash of its name decides a group's part (`place`: below 0.1 test, below 0.2 validation), so that it stays there
    even if another version of Python adds or removes documents. The group of a docstring is the top-level class or
    function that it belongs to, because the methods of a class explain each other. After near-duplicates are removed,
    1 to 2 % of the held-out runs of 10 words also occur in the train part (numpy-docs: 8 %, mostly phrases that its
    parameter lists share); if the full text is split document by document, 16 to 29 % do.

    Each part gets at least one group. Raises MiniloraError if there are fewer than three.
    """
    groups: dict[str, list[Document]] = {}
    for document in corpus.documents:
        groups.setdefault(document.group or document.name, []).append(document)
    if len(groups) < 3:
        raise MiniloraError(
            f"{show_path(corpus.name)} has {corpus.characters:,} characters, too few to divide into train, validation "
            f"and test; give at least 2,000"
        )
    places = sorted((place(name), name) for name in groups)
    names = [name for _, name in places]
    n_test = min(max(1, sum(at < HELD_OUT for at, _ in places)), len(names) - 2)
    n_held_out = min(max(n_test + 1, sum(at < 2 * HELD_OUT for at, _ in places)), len(names) - 1)
    return parted(groups, names[:n_test], names[n_test:n_held_out])


def parted(groups: dict[str, list], test: Iterable[str], validation: Iterable[str]) -> Splits:
    """Put each group's members, in order, into the part that lists its name, or into train if none does."""
    part_of = dict.fromkeys(test, "test") | dict.fromkeys(validation, "validation")
    parts = Splits([], [], [])
    for name, members in groups.items():
        getattr(parts, part_of.get(name, "train")).extend(members)
    return parts


def take(documents: Sequence[Document], characters: int, seed: int) -> list[Document]:
    """Draw documents in random order until they have `characters` characters, cutting the last one to fit.

    With the same seed, fewer characters give a prefix of what more give, so that a curve over the amount of text only
    ever adds text. Returns all of the text if there is not enough.
    """
    if characters < 1:
        raise MiniloraError(f"cannot take {characters} characters of text; take at least 1")
    import numpy as np  # imported here so that --help, which lists the corpora, does not wait for it

    chosen: list[Document] = []
    for i in np.random.default_rng(seed).permutation(len(documents)):
        if characters > 0:
            chosen.append(documents[i]._replace(text=documents[i].text[:characters]))
            characters -= len(chosen[-1].text)
    return chosen


def place(name: str) -> float:
    """Hash `name` to a number in [0, 1), evenly spread. (Python's own hash differs between runs.)"""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8], "big") / 2**64


# Documentation


@lru_cache
def _documentation(name: str) -> Corpus:
    return Corpus(name, tuple(without_near_duplicates(every_document(name))))


@lru_cache
def every_document(name: str) -> tuple[Document, ...]:
    """Return all documents of a corpus, sorted by name, including the short and the repetitive ones."""
    return tuple(sorted(CORPORA[name](), key=lambda d: (d.name, d.text)))


def _standard_library() -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    if not (root / "os.py").exists():  # Pyodide has the library in an archive, without the manual
        root = Path(os.__file__).parent
    yield from docstrings(root)
    manual = root / "pydoc_data" / "topics.py"  # one assignment: topics = {name: text, ...}
    if manual.exists():
        assignment = next(node for node in ast.parse(manual.read_bytes()).body if isinstance(node, ast.Assign))
        for topic, text in ast.literal_eval(assignment.value).items():
            yield Document(f"pydoc_data.topics.{topic}", inspect.cleandoc(text))


def _package(name: str) -> Iterator[Document]:
    spec = importlib.util.find_spec(name)  # finds a top-level package without importing it
    if spec is None or not spec.origin:
        raise MiniloraError(f"{name}-docs needs {name}: pip install {name}")
    return docstrings(Path(spec.origin).parent, name)


CORPORA: dict[str, Callable[[], Iterator[Document]]] = {
    "python-docs": _standard_library,
    "numpy-docs": lambda: _package("numpy"),
    "matplotlib-docs": lambda: _package("matplotlib"),
}


def docstrings(root: Path, package: str = "") -> Iterator[Document]:
    """Yield the docstrings in the Python files under `root`, a folder or a zip archive.

    Each is named after its object: "json.decoder.JSONDecoder.decode". `package` is the import name of `root` itself,
    empty if its files are top-level modules. Objects inside functions are left out, as no documentation shows them.
    """
    for path, source in _sources(root):
        parts = path.with_suffix("").parts
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old docstrings have invalid escapes such as "\d"
                tree = ast.parse(source)
        except SyntaxError:  # a template, or code for another version of Python
            continue
        yield from _documented(tree, ".".join([package] * bool(package) + [p for p in parts if p != "__init__"]), "")


def _sources(root: Path) -> Iterator[tuple[PurePath, bytes]]:
    """Yield (path relative to `root`, content) of the Python files under `root`."""
    if root.is_file():
        with zipfile.ZipFile(root) as archive:
            for path in map(PurePosixPath, archive.namelist()):
                if path.suffix == ".py" and EXCLUDED.isdisjoint(path.parts):
                    yield path, archive.read(str(path))
    else:
        for file in _files(root, EXCLUDED):
            if file.suffix == ".py":
                yield file.relative_to(root), file.read_bytes()


FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
DEFINITION = FUNCTION | ast.ClassDef


def _documented(node: ast.AST, name: str, group: str) -> Iterator[Document]:
    """Yield the docstrings of a module, class or function and of its members. group: its group, or "" for a module."""
    if isinstance(node, DEFINITION | ast.Module) and (text := ast.get_docstring(node)):
        yield Document(name, text, group or name)
    for child in () if isinstance(node, FUNCTION) else ast.iter_child_nodes(node):
        if isinstance(child, DEFINITION):
            inner = f"{name}.{child.name}"
            yield from _documented(child, inner, group or inner)
        elif isinstance(child, ast.If | ast.Try | ast.With | ast.For | ast.ExceptHandler):
            yield from _documented(child, name, group)
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            yield from _added(child.value)


def _added(call: ast.Call) -> Iterator[Document]:
    """Yield the documentation of NumPy's objects in C: add_newdoc(module, name, text), with one (attribute, text)
    pair or several instead of the text for the members of a class."""
    if not (isinstance(call.func, ast.Name) and call.func.id == "add_newdoc" and len(call.args) >= 3):
        return
    try:
        home, name, added = map(ast.literal_eval, call.args[:3])
    except ValueError:  # not a literal: computed at import
        return
    group = f"{home}.{name}"
    for attribute, text in [("", added)] if isinstance(added, str) else [added] if isinstance(added, tuple) else added:
        yield Document(f"{group}.{attribute}".rstrip("."), inspect.cleandoc(text), group)


def without_near_duplicates(documents: Iterable[Document]) -> list[Document]:
    """Sort `documents` by name, and drop those that are short or mostly repeat others.

    A shingle is a run of 8 words. From the longest document to the shortest, one is dropped if more than a third of its
    shingles occur in documents kept so far. Lee et al. 2021, "Deduplicating Training Data Makes Language Models Better"
    (arXiv 2107.06499), found that models memorise such copies, and that test sets with copies give too good a score.
    """
    distinct: list[Document] = []
    seen: set[tuple[str, ...]] = set()
    for document in sorted(documents, key=lambda d: (-len(d.text), d.name, d.text)):
        if len(document.text) < SHORTEST:
            break
        words = document.text.split()
        shingles = {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
        if len(shingles & seen) <= OVERLAP * len(shingles):
            seen |= shingles
            distinct.append(document)
    return sorted(distinct, key=lambda d: (d.name, d.text))


# A user's own text


def pieces(text: str, size: int) -> Iterator[str]:
    """Cut `text` into documents of `size` / 2 to `size` characters (the last may be shorter).

    The cut is at the last blank line in that range, else at the last line end, else at the last space, else at `size`.
    Blank lines around a piece are dropped.
    """
    start = 0
    while start < len(text):
        window = text[start : start + size]
        stop = len(window)
        if start + size < len(text):
            breaks = (window.rfind(separator) for separator in ("\n\n", "\n", " "))
            stop = next((end for end in breaks if end > size // 2), size)
        start += stop
        piece = window[:stop].strip("\n")
        if piece and not piece.isspace():
            yield piece


def _read_texts(name: str) -> tuple[dict[str, str], list[str]]:
    """Return {path: text} of a file, or of the files of a folder, and the files of the folder that are not text."""
    if not os.path.lexists(name):
        hint = did_you_mean(name, CORPORA) or f"the corpora are {', '.join(CORPORA)}"
        raise MiniloraError(f"no corpus, file or folder is called {show_path(name) or repr(name)}; {hint}")
    if not os.path.isdir(name):
        return {os.path.basename(name): decode(read_bytes(name, SIZE_LIMIT), show_path(name))}, []
    texts, skipped, total = {}, [], 0
    for path in filter(Path.is_file, _files(Path(name))):  # follows links to files, and skips FIFOs and devices
        title, raw = path.relative_to(name).as_posix(), read_bytes(path, SIZE_LIMIT)
        try:
            texts[title] = decode(raw, title)
            total += len(raw)
        except MiniloraError:
            skipped.append(title)
        if total > SIZE_LIMIT:
            raise MiniloraError(f"{show_path(name)} has more than {SIZE_LIMIT:,} bytes of text; give a part of it")
    return texts, skipped


def _files(root: Path, excluded: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield the files under `root`, sorted, without hidden files and without the folders named in `excluded`."""

    def fail(error: OSError) -> NoReturn:
        raise FormatError(f"cannot read {show_path(error.filename)}: {error.strerror}") from error

    for folder, inner, names in os.walk(root, onerror=fail):
        inner[:] = sorted(name for name in inner if name not in excluded and not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def decode(raw: bytes, where: str) -> str:
    """Decode UTF-8 text, with \\n for every line end. Raises MiniloraError, which begins with `where`, if it is not."""
    if (offset := raw.find(b"\0")) >= 0:
        raise MiniloraError(
            f"{where} is binary, with a zero byte at offset {offset:,}; give UTF-8 text, or a spreadsheet as CSV"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        byte = f"byte 0x{raw[error.start]:02x} at offset {error.start:,}"
        raise MiniloraError(f"{where} is not UTF-8: {byte}; save it as UTF-8 (a table as CSV UTF-8)") from error
    return re.sub("\r\n?", "\n", text.removeprefix("\ufeff"))  # a byte order mark is not text
