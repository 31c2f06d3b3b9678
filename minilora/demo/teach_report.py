"""Report of teaching the jargon: a table and sentences for runs with different seeds, and samples of one run."""

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from rich.console import Console

from minilora.demo import page
from minilora.errors import escape
from minilora.measure.results import Column, table
from minilora.show.grids import Grid, Spread, drawn, seeds_in_words, show_bytes, show_count, show_share
from minilora.train.metrics import token_f1

ROWS = {"before": "as it came", "few-shot": "few-shot prompt", "open book": "open book", "after": "fine-tuned"}
PROMPTED = {"few-shot": "other answers in the prompt", "open book": "the glossary's line in the prompt"}


def tell(results: dict, console: Console) -> str:
    """Print one question, three numbers, a chart, the table and more, and return the same as an HTML page."""
    say, grid, numbers = partial(console.print, markup=False), scores_grid([results]), three_numbers(results)
    test = results["samples"][0]["test"]
    scores = {words: results["rows"][row]["scores"][test]["f1"] for row, words in ROWS.items()}
    first, *others = "\n".join(sample_lines(results)).strip().split("\n\n")
    question = f"{first}\n\n{judgement(results)}"
    say(f"\n{question}\n")
    chart = f"F1 on {test}, asked in {len(ROWS)} ways", scores, lambda f1: f"{100 * f1:.0f} %"
    page.tell(console, numbers, *chart)
    console.print(drawn(grid))
    findings, samples = "\n".join(f"- {sentence}" for sentence in claims([results])), "\n\n".join(others)
    say(f"{findings}\n\n{samples}")
    flags = ["--model", results["model"], "--adapter", results["adapter"]]
    prompt = " ".join(results["samples"][0]["question"].split())
    command = shlex.join(["minilora", "generate", *flags, "--chat", "--prompt", prompt])
    say(f"\nAsk it yourself: {command}")
    texts = [("In words", findings), ("The next questions of each test", samples), ("Ask it yourself", command)]
    lead = re.sub(r"^  (\w+) +", r"\1\t", question, flags=re.MULTILINE)  # aligned in any font
    return page.page(f"Teaching {results['subject']}", lead, numbers, page.chart(*chart), grid, texts)


def three_numbers(results: dict) -> list[tuple[str, str]]:
    """Return three numbers with their explanations: what the model learned, what that took, what it forgot."""
    training, (before, after) = results["training"], (results["rows"][name] for name in ("before", "after"))
    test, score = next(iter(after["scores"].items()))
    share = show_share(training["trainable"] / results["parameters"])
    return [
        (
            f"{100 * before['scores'][test]['f1']:.0f} → {100 * score['f1']:.0f} %",
            f"F1 on {score['count']} held-out {test}",
        ),
        (
            show_bytes(training["adapter_bytes"]),
            f"in the adapter, {share} as many numbers as the model has, trained for {training['seconds']:.0f} seconds",
        ),
        (f"{before['quiz']} → {after['quiz']}", f"of {results['quiz_questions']} questions of a general quiz right"),
    ]


def judgement(results: dict) -> str:
    """Say how the answers to all questions of the first test changed, since the question shown is only its first."""
    of_test = [sample for sample in results["samples"] if sample["test"] == results["samples"][0]["test"]]
    gains = [token_f1(s["after"], s["expected"]) - token_f1(s["before"], s["expected"]) for s in of_test]
    better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    return (
        f"This is the test's first question, not its best. Of {len(gains)} answers, {better} became better "
        f"and {worse} worse (F1)."
    )


def mean(values: Iterable[float], digits: int = 0) -> str:
    """Format the mean over runs, with ± unless the runs agree."""
    return Spread.of(values).show(digits).removesuffix(f" ± {0:.{digits}f}")


def percent(runs: Sequence[dict], row: str, test: str, what: str = "f1") -> str:
    """Format the mean score of a row over the runs, in percent."""
    return f"{mean(100 * run['rows'][row]['scores'][test][what] for run in runs)} %"


def scores_grid(runs: Sequence[dict]) -> Grid:
    """Tabulate the scores, one row for each way to ask."""
    one = runs[0]

    def number(name: str, digits: int) -> Callable[[str], str]:
        return lambda row: mean((r["rows"][row][name] for r in runs), digits) if name in one["rows"][row] else ""

    def score(test: str, what: str) -> Column:
        header = f"{test}\n{what.upper() if what == 'f1' else what}"
        return Column(header, partial(percent, runs, test=test, what=what))

    return table(
        f"What the model knows of {one['subject']}",
        [
            *(score(test, what) for test in one["rows"]["before"]["scores"] for what in ("f1", "exact")),
            Column(f"quiz\n(of {one['quiz_questions']})", number("quiz", 0)),
            Column("other\ntext", number("other_text", 3)),
            Column("prompt\ntokens", number("prompt_tokens", 0)),
            Column("s", number("seconds", 2)),
        ],
        {words: (name,) for name, words in ROWS.items()},
        "F1: how many words an answer shares with the expected one (as in SQuAD); exact: all of them. The few-shot "
        f"prompt begins with {one['shots']} other questions and their answers, the open book with {one['shots']} lines "
        "of the glossary, one of which has the answer. Prompt tokens and seconds (s) are per question. Two columns "
        "show what was forgotten: right answers to a general quiz, and bits per character on other text (Python's "
        f"documentation). {seeds_in_words([len(runs)])}",
        first="",
    )


def claims(runs: Sequence[dict]) -> list[str]:
    """Return the findings as sentences."""
    one, number = runs[0], lambda row, name, digits: mean((run["rows"][row][name] for run in runs), digits)
    training = one["training"]
    share = show_share(training["trainable"] / one["parameters"])
    seconds = mean(run["training"]["seconds"] for run in runs)
    sentences = [
        f"{show_count(training['trainable'])} parameters were trained, {share} of the model's, in "
        f"{seconds} seconds; the adapter has {show_bytes(training['adapter_bytes'])}."
    ]
    for test, score in one["rows"]["after"]["scores"].items():
        reached = {row: percent(runs, row, test) for row in ROWS}
        beside = "".join(f", {reached[row]} with {words}" for row, words in PROMPTED.items())
        before = f"{score['count']} held-out {test}: {reached['before']} F1 before training"
        sentences.append(f"{before}{beside}; {reached['after']} after fine-tuning.")
    quiz, text = ([number(row, *name) for row in ("before", "after")] for name in (("quiz", 0), ("other_text", 3)))
    sentences.append(
        f"Forgetting: {quiz[0]} of {one['quiz_questions']} quiz questions right before and {quiz[1]} after; "
        f"other text takes {text[0]} bits per character before and {text[1]} after."
    )
    return sentences


def sample_lines(results: dict, count: int = 3) -> list[str]:
    """Return sample questions with their answers before and after, for the terminal."""
    lines = []
    for sample in first_samples(results, count):
        shown = {name: escape(" ".join(text.split()), 400) for name, text in sample.items()}
        lines += ["", f"“{shown['question']}”"]
        lines += [f"  {name:<9} {shown[name]}" for name in ("expected", "before", "after") if name in shown]
    return lines


def first_samples(results: dict, count: int) -> list[dict]:
    """Return the first `count` samples of each test."""
    tests = dict.fromkeys(sample["test"] for sample in results["samples"])
    return [s for test in tests for s in [s for s in results["samples"] if s["test"] == test][:count]]
