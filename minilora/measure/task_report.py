"""Report of a task's score for the terminal: the figures, the confusion table, and the wrong answers."""

from collections.abc import Sequence
from typing import Any

from minilora.data.chat import Conversation, response_of
from minilora.errors import escape, line_width, plural
from minilora.show.grids import Grid
from minilora.train.metrics import TaskScore, exact_match, json_fields, token_f1

MOST_SHOWN = 12  # labels of the confusion table
WIDEST = 20  # characters of a label
CALIBRATED = "less each label's mean over all prompts"


def score_lines(score: TaskScore) -> list[str]:
    """Format the score with its interval, the trivial baseline, and the cost of a query."""
    spread = f"in brackets: 95 % interval for {plural(score.count, 'conversation')}"
    if score.kind == "answers":
        lines = [f"exact match {share_with_interval(score.exact, score.exact_interval)}"]
        lines.append(f"F1 {100 * (score.f1 or 0):.1f} %")
        if score.f1_error is not None:
            lines[-1] += f" ± {100 * score.f1_error:.1f}"
            spread += "; after ±: standard error"
        if score.json is not None:
            parsed, equal = (f"{100 * score.json[name]:.1f} %" for name in ("parsed", "equal"))
            lines.append(f"JSON objects: {parsed} parse, {equal} equal the expected object; by field:")
            lines += [f"  {100 * share:5.1f} %  {escape(name, 60)}" for name, share in score.json["fields"].items()]
    else:
        share = share_with_interval(score.accuracy, score.accuracy_interval)
        lines = [f"accuracy {share} among {plural(len(score.labels or []), 'label')}"]
        if score.calibrated is not None:
            lines.append(f"calibrated {share_with_interval(score.calibrated, score.calibrated_interval)}: {CALIBRATED}")
        lines.append(f"always answering the most frequent label: {100 * (score.majority or 0):.1f} %")
    return [*lines, spread, f"{score.prompt_tokens:,.0f} tokens and {1000 * score.seconds:,.0f} ms per query"]


def share_with_interval(share: float | None, interval: tuple[float, float] | None) -> str:
    """Format a share and its 95 % interval in percent: "87.5 % (73.9 to 94.5)"."""
    low, high = interval or (0, 1)
    return f"{100 * (share or 0):.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def confusion_grid(score: TaskScore) -> Grid:
    """Tabulate the confusion matrix, expected by predicted, for the labels that are expected most often."""
    labels, counts = score.labels or [], score.confusion or []
    shown = sorted(sorted(range(len(labels)), key=lambda i: -sum(counts[i]))[:MOST_SHOWN])
    first = min(max(map(len, ("expected", *labels))), WIDEST)
    width = max(3, (line_width() - first) // len(shown) - 2)
    rows = [(escape(labels[i], first), *(str(counts[i][j]) for j in shown)) for i in shown]
    header = ("expected", *(escape(labels[j], width) for j in shown))
    left_out = len(labels) - len(shown)
    note = f"Not shown: {plural(left_out, 'label')} expected less often." if left_out else ""
    return Grid("Predicted:", header, rows, note)


def wrong_answers(
    score: TaskScore, conversations: Sequence[Conversation], instruction: str | None = None
) -> list[dict[str, Any]]:
    """List the wrong answers: for labels the most confident first, for free answers the lowest F1 first.

    A free answer is wrong if it is not an exact match, or, if a JSON object is expected, not the same object.
    instruction: text in front of each question, which is left out.
    """
    errors: list[dict[str, Any]] = []
    for i, (messages, predicted) in enumerate(zip(conversations, score.predicted, strict=True)):
        text, expected = messages[-2]["content"].removeprefix(f"{instruction}\n\n"), response_of(messages)
        confidence = (
            {"probability": score.probabilities[i]} if score.probabilities else {"f1": token_f1(predicted, expected)}
        )
        right = predicted == expected if score.kind == "labels" else exact_match(predicted, expected)
        if score.json:
            right = json_fields(predicted) == json_fields(expected)
        if not right:
            errors.append({"text": text, "expected": expected, "predicted": predicted} | confidence)
    return sorted(errors, key=lambda error: error["f1"] if "f1" in error else -error["probability"])


def error_lines(errors: Sequence[dict[str, Any]], most: int, count: int) -> list[str]:
    """Format the first `most` of the wrong answers, each in a line. count: of all answers."""
    shown, width = errors[:most], line_width()
    if not shown:
        return [f"all {count:,} answers are right"]
    order = "the most confident first" if "probability" in shown[0] else "the lowest F1 first"
    part = f"; {len(shown):,} of them" if len(shown) < len(errors) else ""
    lines = [f"{len(errors):,} of {count:,} answers are wrong{part}, {order}:"]
    for error in shown:
        sure = f" ({100 * error['probability']:.0f} % sure)" if "probability" in error else ""
        lines.append(f"  {escape(error['text'], width - 2)}")
        lines.append(f"    expected  {escape(error['expected'], width - 14)}")
        lines.append(f"    predicted {escape(error['predicted'], width - 14 - len(sure))}{sure}")
    return lines
