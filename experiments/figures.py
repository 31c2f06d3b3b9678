"""Saving figures."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from minilora.formats.atomic import remove_file
from minilora.show import style


def save_all(figures: Mapping[str, Callable], measured: Any, folder: Path | str) -> list[Path]:
    """Write NAME.png for each of the figures, {NAME: function of `measured`}; return the paths.

    If a function returns None because measurements are missing, an older file of that name is removed.
    """
    written = []
    for name, draw in figures.items():
        path, figure = Path(folder) / f"{name}.png", draw(measured)
        if figure is None:
            remove_file(path)
        else:
            written.append(style.save(figure, path))
    return written
