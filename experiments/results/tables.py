"""Tables as the documentation has them."""

from minilora.show.grids import Grid


def markdown(grid: Grid, numbers: bool = True) -> str:
    """The grid for a page. numbers: whether the columns after the first hold numbers, which stand at the right."""
    header = [name.replace("\n", " ") for name in grid.header]
    lines = [header, ["---", *["---:" if numbers else "---"] * (len(header) - 1)], *grid.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
