"""The walk-through notebooks: made from the py:percent sources beside this file, run, and kept with their pictures.

    python -m notebooks.make          makes each notebooks/NN_name.ipynb from NN_name.py
    python -m notebooks.make 08       just this one
    python -m notebooks.make --check  runs them, and names those that are not what is committed

Needs the extra `notebooks`. The same source, library and machine give the same bytes: cells have fixed names, nothing
says when it ran, and sliders, which a page cannot show without a kernel, leave their place to the picture beside them.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic

FOLDER = Path(__file__).parent
SECONDS = 120  # for one cell; a whole notebook takes under 60 s on two idle cores
WIDGET = "application/vnd.jupyter.widget-view+json"


def sources(numbers: list[str], folder: Path = FOLDER) -> list[Path]:
    """Return the sources in `folder`, or those with these numbers. Raises MiniloraError if there is none."""
    paths = sorted(folder.glob("[0-9][0-9]_*.py"))
    if unknown := [
        n for n in numbers if not any(path.name.startswith(f"{n}_") for path in paths)
    ]:
        stems = ", ".join(path.stem for path in paths)
        raise MiniloraError(
            f"no notebook {escape(', '.join(unknown))} in {escape(str(folder))}; there are: {stems}"
        )
    return [path for path in paths if not numbers or path.name[:2] in numbers]


def made(source: Path) -> Any:
    """Run the notebook of a source from top to bottom.

    Raises nbclient's CellExecutionError if a cell fails, MiniloraError if a slider's function does.
    """
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    notebook = jupytext.read(source)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem.replace('_', '-')}-{number:02d}"
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": source.parent}},
    )
    client.execute()
    for widget in client.comm_objects.values():
        for output in getattr(widget, "outputs", []):
            if output["output_type"] == "error":
                raise MiniloraError(
                    f"{source.stem}: a slider fails: {output['ename']}: {escape(output['evalue'])}"
                )
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {}
        )  # without times, and what jupytext notes about blank lines
        if cell.cell_type == "code":
            cell.outputs = _kept(cell.outputs)
    return notebook


def _kept(outputs: list) -> list:
    """Return the outputs without sliders, with consecutive prints joined into one."""
    shown: list[Any] = []
    for output in outputs:
        if WIDGET in output.get("data", {}):
            continue
        if (
            shown
            and output.output_type == "stream" == shown[-1].output_type
            and output.name == shown[-1].name
        ):
            shown[-1].text += output.text
        else:
            shown.append(output)
    return shown


def content(notebook: Any) -> bytes:
    """Return the bytes of the notebook's file."""
    import nbformat

    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


def contents(notebook: Any) -> list[tuple]:
    """Return what must be equal on every machine: sources, texts, and the number of pictures (pixels depend on fonts)."""
    cells = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        texts = ["".join(output.get("text", "")) for output in outputs]
        texts += [
            output.data.get("text/plain", "") for output in outputs if "data" in output
        ]
        pictures = sum("text/html" in output.get("data", {}) for output in outputs)
        cells.append((cell.id, cell.cell_type, cell.source, *texts, pictures))
    return cells


def is_stale(source: Path, notebook: Any) -> bool:
    """Return True if the committed notebook differs from `notebook`, which was just made."""
    import nbformat

    target = source.with_suffix(".ipynb")
    return not target.is_file() or not alike(
        repr(contents(nbformat.read(target, as_version=4))), repr(contents(notebook))
    )


def alike(some: str, other: str) -> bool:
    """Return True if the texts are equal, with numbers within 5 %, since processors round differently.

    Numbers below 0.00001 are alike: they are what rounding left of a zero.
    """
    (words, numbers), (words_now, numbers_now) = _apart(some), _apart(other)
    return words == words_now and all(
        abs(a - b) <= max(0.05 * max(abs(a), abs(b)), 1e-5)
        for a, b in zip(numbers, numbers_now, strict=True)
    )


def _apart(text: str) -> tuple[str, list[float]]:
    """Return the text with its numbers left out, and the numbers."""
    pattern = r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
    return re.sub(pattern, "#", text), [
        float(n.replace(",", "").rstrip(".")) for n in re.findall(pattern, text)
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", nargs="*", metavar="NN")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if one is stale"
    )
    arguments = parser.parse_args(argv)
    try:
        chosen = sources(arguments.numbers)
    except MiniloraError as error:
        print(error, file=sys.stderr)
        return 2
    stale = []
    for source in chosen:
        print(source.stem, end=" … ", flush=True)
        notebook = made(source)
        if arguments.check:
            stale += [source.stem] * is_stale(source, notebook)
            print("stale" if source.stem in stale else "as committed")
        else:
            write_atomic(source.with_suffix(".ipynb"), content(notebook))
            print("made")
    if stale:
        print(
            f"stale: {', '.join(stale)}; update with python -m notebooks.make",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
