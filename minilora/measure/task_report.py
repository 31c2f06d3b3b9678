"""A task's score for the terminal: its figures in lines, and the confusion table."""

from minilora.errors import escape
from minilora.show.grids import WIDTH, Grid
from minilora.train.metrics import TaskScore

MOST_SHOWN = 12  # labels of the confusion table
WIDEST = 20  # characters of a label
CALIBRATED = "less each label's mean over all prompts"


def score_lines(score: TaskScore) -> list[str]:
    """Format what was reached, how far chance reaches, and what a query cost."""
    spread = f"in brackets the 95 % interval that {score.count:,} conversations leave"
    if score.kind == "answers":
        lines = [f"exact match {share_with_interval(score.exact, score.exact_interval)}"]
        lines.append(f"F1 {100 * (score.f1 or 0):.1f} %")
        if score.f1_error is not None:
            lines[-1] += f" ± {100 * score.f1_error:.1f}"
            spread += ", after ± the standard error"
    else:
        share = share_with_interval(score.accuracy, score.accuracy_interval)
        lines = [f"accuracy {share} among {len(score.labels or [])} labels"]
        if score.calibrated is not None:
            lines.append(f"calibrated {share_with_interval(score.calibrated, score.calibrated_interval)}: {CALIBRATED}")
        lines.append(f"the most frequent label alone {100 * (score.majority or 0):.1f} %")
    return [*lines, spread, f"{score.prompt_tokens:,.0f} tokens and {1000 * score.seconds:,.0f} ms per query"]


def share_with_interval(share: float | None, interval: tuple[float, float] | None) -> str:
    """Format a share of 1 and its 95 % interval in percent: "87.5 % (73.9 to 94.5)"."""
    low, high = interval or (0, 1)
    return f"{100 * (share or 0):.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def confusion_grid(score: TaskScore) -> Grid:
    """Tabulate counts, expected x predicted, of the labels expected most often; predictions of others are not shown."""
    labels, counts = score.labels or [], score.confusion or []
    shown = sorted(sorted(range(len(labels)), key=lambda i: -sum(counts[i]))[:MOST_SHOWN])
    first = min(max(map(len, ("expected", *labels))), WIDEST)
    width = (WIDTH - first) // len(shown) - 2
    rows = [(escape(labels[i], first), *(str(counts[i][j]) for j in shown)) for i in shown]
    header = ("expected", *(escape(labels[j], width) for j in shown))
    left_out = len(labels) - len(shown)
    return Grid("Predicted:", header, rows, f"Not shown: {left_out} labels expected less often." if left_out else "")
