"""`minilora predict`: the rows of a file, with a model's answer beside each, in another file."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
from argparse import Namespace
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from minilora.commands import common
from minilora.commands.common import add_flag, load_model
from minilora.errors import MiniloraError, Stopped, escape, first_few, print_notes
from minilora.formats.atomic import show_path, write_atomic

DELIMITERS = {".csv": ",", ".tsv": "\t", ".jsonl": ""}  # by the suffix of --out
AT_ONCE = 8  # batches between two writes: rows of about one length share a batch


def add(parser: common.Parser) -> None:
    parser.epilog = (
        "If the adapter has learned labels, the prediction is the likeliest of them, and `probability` is the softmax "
        "over the log-likelihoods of these labels; else the prediction is the greedy answer.\n\n"
        "example: minilora predict --adapter runs/mine --data new.csv --out answers.csv"
    )
    flags = parser.add_argument_group("flags")
    common.add_model(flags)
    add_flag(flags, "--data", "rows to answer (.csv, .tsv, .jsonl, .json)", required=True)
    add_flag(flags, "--out", "their columns and `prediction` (.csv, .tsv, .jsonl)", required=True)
    add_flag(flags, "--max-new-tokens", f"where a free answer is cut {common.DEFAULT}", common.whole(1), 512)
    add_flag(flags, "--batch-size", "rows per batch (default: %(default)s)", default=16)
    common.add_columns(flags)
    again = flags.add_mutually_exclusive_group()
    add_flag(again, "--resume", "go on after the rows that are in --out")
    add_flag(again, "--overwrite")
    common.add_flags(flags, "--json")


def run(arguments: Namespace) -> None:
    from minilora.data.examples import read_examples, read_questions
    from minilora.data.rows import spelling
    from minilora.measure.held_out import learned_from
    from minilora.peft.config import is_list_of_names
    from minilora.train.progress import progress_bar

    out, where = Path(arguments.out), show_path(arguments.out)
    if (suffix := out.suffix.lower()) not in DELIMITERS:
        raise MiniloraError(f"--out {where} ends in none of {', '.join(DELIMITERS)}")
    is_there = out.exists() and out.stat().st_size > 0
    if is_there and not (arguments.resume or arguments.overwrite):
        raise MiniloraError(f"{where} exists; go on with it by --resume, or --overwrite it")
    trainings, columns = common.read_trainings(arguments)
    listed = [one.get("labels") for one in trainings]
    labels = next((one for one in listed if is_list_of_names(one) and len(one) > 1), None)
    rows, questions = read_questions(arguments.data, columns)
    if is_there and out.samefile(arguments.data):
        raise MiniloraError(f"--out {where} is the file of --data: give it another name")
    added = ["prediction", "probability"] if labels else ["prediction"]
    # A .csv is for the spreadsheet program that wrote --data.
    delimiter, mark = spelling(arguments.data) if suffix == ".csv" else (DELIMITERS[suffix], "")
    table = Table(out, rows, added, delimiter, mark)
    answers = table.read() if is_there and arguments.resume else []
    parts = [learned_from(training) or learned_from(training, arguments.data) or () for training in trainings]
    known = {json.dumps(messages[:-1]) for part in parts for messages in part}
    if seen := sum(json.dumps(question) in known for question in questions):
        print_notes([f"{seen:,} of {len(rows):,} rows were trained on: how they are answered tells little of new ones"])
    with suppress(MiniloraError):  # there are no answers
        read_examples(arguments.data, columns)
        print_notes(["the answers in --data are not read; `minilora evaluate` measures how many the model gives"])
    if len(answers) < len(rows):
        model, tokenizer = load_model(arguments)
        _check_lengths(model, tokenizer, questions, labels, arguments.max_new_tokens)
        at_once = AT_ONCE * arguments.batch_size
        answers = answers[: len(answers) // at_once * at_once]  # so that rows share the batches of an unbroken run
        write_atomic(out, table.encode(0, answers))
        try:
            with open(out, "ab") as file, progress_bar("answers", len(rows)) as advance:
                advance(len(answers))
                while (start := len(answers)) < len(rows):
                    chosen = questions[start : start + at_once]
                    asked = [question for question in chosen if not isinstance(question, str)]
                    made = iter(_answer(model, tokenizer, asked, labels, arguments, advance) if asked else ())
                    advance(len(chosen) - len(asked))
                    more = [dict.fromkeys(added) if isinstance(one, str) else next(made) for one in chosen]
                    size = file.tell()
                    try:
                        file.write(table.encode(start, more))
                        file.flush()
                    except OSError:  # a full disk: no half row is left, so that --resume can go on
                        os.truncate(out, size)
                        raise
                    answers += more
        except (KeyboardInterrupt, Stopped) as error:
            words = f"{len(answers):,} of {len(rows):,} rows are answered; go on with --resume"
            raise Stopped(getattr(error, "signum", signal.SIGINT), words) from error
    if failed := [question for question in questions if isinstance(question, str)]:
        print_notes([f"no prediction for {len(failed):,} of {len(rows):,} rows: {first_few(failed, separator='; ')}"])
    counts = Counter(answer["prediction"] for answer in answers if labels and answer["prediction"]).most_common()
    facts = {
        "out": str(out),
        "rows": len(rows),
        "failed": sum(not answer["prediction"] for answer in answers),
        "labels": dict(counts),
    }
    by_label = first_few([f"{label} {count:,}" for label, count in counts], 8)
    common.print_result(arguments, facts, f"{len(rows):,} rows in {where}{': ' if counts else ''}{by_label}")


def _check_lengths(model: Any, tokenizer: Any, questions: list, labels: list[str] | None, new_tokens: int) -> None:
    """Replace questions that are too long by words that say so. MiniloraError if none is left."""
    from minilora.train.answers import check_prompts

    answer = max(len(tokenizer.encode(label)) + 2 for label in labels) if labels else new_tokens
    for i, question in enumerate(questions):
        try:
            if not isinstance(question, str):
                check_prompts(model, tokenizer, [question], answer)
        except MiniloraError as error:
            questions[i] = f"row {i + 1:,}: {error}"
    if all(isinstance(question, str) for question in questions):
        raise MiniloraError(f"no row can be answered; {questions[0]}")


def _answer(
    model: Any, tokenizer: Any, asked: list, labels: list[str] | None, arguments: Namespace, advance: Any
) -> list[dict[str, Any]]:
    """Answer questions: for each, the columns that are added to its row."""
    from minilora.train.answers import answers, label_probabilities, label_scores

    if labels is None:
        texts = answers(model, tokenizer, asked, arguments.max_new_tokens, arguments.batch_size, advance)
        return [{"prediction": text} for text in texts]
    shares = label_probabilities(label_scores(model, tokenizer, asked, labels, arguments.batch_size, advance)[0])
    return [{"prediction": labels[row.argmax()], "probability": round(float(row.max()), 4)} for row in shares]


class Table:
    """The file of answers: the rows of the input, each with the columns that are added to it."""

    def __init__(self, path: Path, rows: list[dict[str, Any]], added: list[str], delimiter: str, mark: str):
        """delimiter: "" for JSON lines. mark: what stands before the header."""
        self.path, self.rows, self.added, self.delimiter, self.mark = path, rows, added, delimiter, mark
        self.names = list(dict.fromkeys(name for row in rows for name in row))
        if taken := [name for name in self.names if name.strip().lower() in added]:
            raise MiniloraError(f"--data has a column {escape(taken[0])} already: rename it, or leave it out")

    def encode(self, start: int, answers: list[dict[str, Any]]) -> bytes:
        """Return the lines of the file for answers to the rows from `start` on; before the first one, the header."""
        rows = [row | answer for row, answer in zip(self.rows[start : start + len(answers)], answers, strict=True)]
        if not self.delimiter:
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")
        text = io.StringIO()
        writer = csv.DictWriter(text, self.names + self.added, delimiter=self.delimiter, lineterminator="\n")
        if rows and start == 0:
            text.write(self.mark)
            writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})
        return text.getvalue().encode("utf-8", "replace")

    def read(self) -> list[dict[str, Any]]:
        """Read the answers that are there. MiniloraError if anything but them is not what `encode` writes."""
        from minilora.data.rows import read_rows

        answers = [{name: row.get(name) for name in self.added} for _, row in read_rows(self.path)]
        if len(answers) > len(self.rows) or self.encode(0, answers) != self.path.read_bytes():
            words = "has other rows than --data, or was changed: choose another --out, or --overwrite it"
            raise MiniloraError(f"{show_path(self.path)} {words}")
        return answers


def _cell(value: Any) -> Any:
    """Return what a CSV's cell has of a value of a JSON file: lists and objects as JSON, and one kind of line end."""
    if isinstance(value, (bool, list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return re.sub("\r\n?", "\n", value) if isinstance(value, str) else value
