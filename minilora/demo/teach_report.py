"""What teaching the jargon came to: a table, sentences and samples, all functions of the results dictionary."""

import shlex
from functools import partial

from rich.console import Console

from minilora.errors import escape
from minilora.measure.results import Column, table
from minilora.show.grids import Grid, drawn, show_bytes, show_count, show_share

ROWS = {"before": "as it came", "few-shot": "few-shot prompt", "open book": "open book", "after": "fine-tuned"}
PROMPTED = {"few-shot": "other answers in the prompt", "open book": "the glossary's line in the prompt"}


def tell(results: dict, console: Console) -> None:
    """Say on the terminal what it came to, and how to ask the model that was taught."""
    say = partial(console.print, markup=False)
    say("\n".join([*sample_lines(results), ""]))
    console.print(drawn(scores_grid(results)))
    for sentence in claims(results):
        say(f"- {sentence}")
    named = ["--model", results["model"], "--adapter", results["adapter"]]
    asked = " ".join(results["samples"][0]["question"].split())
    say(f"\nAsk it yourself: {shlex.join(['minilora', 'generate', *named, '--chat', '--prompt', asked])}")


def scores_grid(results: dict) -> Grid:
    """Tabulate the scores, a row for each way to ask."""
    rows = results["rows"]

    def score(test: str, what: str) -> Column:
        header = f"{test}\n{what.upper() if what == 'f1' else what}"
        return Column(header, lambda row: f"{100 * row['scores'][test][what]:.0f} %")

    return table(
        f"What the model knows of {results['subject']}",
        [
            *(score(test, what) for test in rows["before"]["scores"] for what in ("f1", "exact")),
            Column(f"quiz\n(of {results['quiz_questions']})", lambda row: row.get("quiz", "")),
            Column("other\ntext", lambda row: f"{row['other_text']:.3f}" if "other_text" in row else ""),
            Column("prompt\ntokens", lambda row: f"{row['prompt_tokens']:.0f}"),
            Column("s", lambda row: f"{row['seconds']:.2f}"),
        ],
        {ROWS[name]: (row,) for name, row in rows.items()},
        "F1: words shared with the expected answer (SQuAD's measure); exact: all of them. Few-shot: "
        f"{results['shots']} other questions with their answers come first, none with the expected one. "
        f"Open book: {results['shots']} lines of the glossary, the one that is asked for among them. "
        "Tokens and seconds are a question's. Other text: bits per character. Quiz and other text, from "
        "Python's documentation, have nothing to do with the subject.",
        first="",
    )


def claims(results: dict) -> list[str]:
    """Return what the numbers say, in sentences."""
    before, after, training = results["rows"]["before"], results["rows"]["after"], results["training"]
    share = show_share(training["trainable"] / results["parameters"])
    sentences = [
        f"{show_count(training['trainable'])} parameters were trained, {share} of the model's, in "
        f"{training['seconds']:.0f} seconds; the adapter has {show_bytes(training['adapter_bytes'])}."
    ]
    for test, score in after["scores"].items():
        rows = {name: f"{100 * row['scores'][test]['f1']:.0f} %" for name, row in results["rows"].items()}
        beside = "".join(f", {rows[name]} with {words}" for name, words in PROMPTED.items() if name in rows)
        asked = f"{score['count']} {test} that it was not trained on: {rows['before']} F1"
        sentences.append(f"{asked}{beside}; {rows['after']} after fine-tuning.")
    quiz = f"{before['quiz']} of {results['quiz_questions']} quiz questions before and {after['quiz']} after"
    text = f"{before['other_text']:.3f} bits per character before and {after['other_text']:.3f} after"
    return [*sentences, f"What it knew besides: {quiz}; other text takes {text}."]


def sample_lines(results: dict, count: int = 3) -> list[str]:
    """Return questions with the answers before and after, for the terminal."""
    lines = []
    for sample in first_samples(results, count):
        shown = {name: escape(" ".join(text.split()), 400) for name, text in sample.items()}
        lines += ["", f"“{shown['question']}”"]
        lines += [f"  {name:<9} {shown[name]}" for name in ("expected", "before", "after") if name in shown]
    return lines


def first_samples(results: dict, count: int) -> list[dict]:
    """Return the first so many of each test."""
    tests = dict.fromkeys(sample["test"] for sample in results["samples"])
    return [s for test in tests for s in [s for s in results["samples"] if s["test"] == test][:count]]
