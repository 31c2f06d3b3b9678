"""Tables in Markdown."""

from minilora.show.grids import Grid


def markdown(grid: Grid, numbers: bool = True) -> str:
    """Return the grid as a Markdown table. numbers: align all columns but the first to the right."""
    header = [name.replace("\n", " ") for name in grid.header]
    lines = [header, ["---", *["---:" if numbers else "---"] * (len(header) - 1)], *grid.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
