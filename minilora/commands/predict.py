"""`minilora predict`: answer each row of a file with a model, and write the rows with their answers to another file."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
from argparse import Namespace
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilora.commands import common
from minilora.commands.common import add_flag, load_model
from minilora.errors import MiniloraError, Stopped, escape, first_few, plural, print_notes
from minilora.formats.atomic import show_path, write_atomic

if TYPE_CHECKING:
    from minilora.data.rows import Spelling

DELIMITERS = {".csv": ",", ".tsv": "\t", ".jsonl": ""}  # by the suffix of --out
AT_ONCE = 8  # batches of labels between two writes of a large table; rows of similar length are batched together within
# them. A small table, and free answers, which take much longer, are written after every batch.


def add(parser: common.Parser) -> None:
    parser.epilog = (
        "If the adapter was trained on labels, `prediction` is the most likely label, and `probability` is the softmax "
        "over the labels' log-likelihoods. Otherwise `prediction` is the text that the model generates greedily.\n\n"
        "example: minilora predict --adapter runs/mine --data new.csv --out answers.csv"
    )
    add_flag(parser, "--data", "file of rows to answer (.csv, .tsv, .jsonl, .json)", required=True)
    words = "file to write the rows to, with a `prediction` column (.csv, .tsv, .jsonl)"
    add_flag(parser, "--out", words, required=True)
    common.add_model(parser)
    words = f"length limit of a generated answer {common.DEFAULT}"
    add_flag(parser, "--max-new-tokens", words, common.whole(1), 512)
    add_flag(parser, "--batch-size", f"rows per batch {common.DEFAULT}", default=16)
    common.add_columns(parser)
    restart = parser.add_mutually_exclusive_group()
    add_flag(restart, "--resume", "continue after the rows that are already in --out")
    add_flag(restart, "--overwrite")
    common.add_flags(parser, "--json")


def run(arguments: Namespace) -> None:
    from minilora.data.examples import read_examples, read_questions
    from minilora.data.rows import spelling
    from minilora.measure.held_out import learned_from
    from minilora.peft.config import is_list_of_names
    from minilora.train.progress import progress_bar

    out, where = Path(arguments.out), show_path(arguments.out)
    if (suffix := out.suffix.lower()) not in DELIMITERS:
        raise MiniloraError(f"--out {where} must end in one of {', '.join(DELIMITERS)}")
    has_rows = out.exists() and out.stat().st_size > 0
    if has_rows and not (arguments.resume or arguments.overwrite):
        raise MiniloraError(f"{where} exists already; --resume continues it, --overwrite starts again")
    trainings, columns = common.read_trainings(arguments)
    label_lists = [training.get("labels") for training in trainings]
    labels = next((names for names in label_lists if is_list_of_names(names) and len(names) > 1), None)
    rows, questions, places = read_questions(arguments.data, columns)
    if has_rows and out.samefile(arguments.data):
        raise MiniloraError(f"--out {where} is also the file of --data; choose another --out")
    added = ["prediction", "probability"] if labels else ["prediction"]
    # Write a .csv as --data is written, so that the same spreadsheet program opens it.
    written = spelling(arguments.data)
    if suffix != ".csv":
        written = written._replace(delimiter=DELIMITERS[suffix], mark="")
    table = Table(out, rows, added, written)
    answers = table.read() if has_rows and arguments.resume else []
    parts = [learned_from(training) or learned_from(training, arguments.data) or () for training in trainings]
    trained = {json.dumps(messages[:-1]) for part in parts for messages in part}
    if seen := sum(json.dumps(question) in trained for question in questions):
        print_notes([f"{seen:,} of {len(rows):,} rows were trained on; their answers say little about new rows"])
    with suppress(MiniloraError):  # raised if --data has no answers, which is the usual case
        read_examples(arguments.data, columns)
        print_notes(["--data has answers, which are ignored; `minilora evaluate` compares them with the model's"])
    if len(answers) < len(rows):
        model, tokenizer = load_model(arguments)
        _check_lengths(model, tokenizer, questions, places, labels, arguments.max_new_tokens)
        at_once = arguments.batch_size
        if labels and len(rows) > AT_ONCE * at_once:
            at_once *= AT_ONCE
        answers = answers[: len(answers) // at_once * at_once]  # whole groups, so that batches are those of a full run
        write_atomic(out, table.encode(0, answers))
        try:
            with open(out, "ab") as file, progress_bar("answers", len(rows)) as advance:
                advance(len(answers))
                while (start := len(answers)) < len(rows):
                    group = questions[start : start + at_once]
                    valid = [question for question in group if not isinstance(question, str)]
                    answered = iter(_answer(model, tokenizer, valid, labels, arguments, advance) if valid else ())
                    advance(len(group) - len(valid))
                    more = [dict.fromkeys(added) if isinstance(item, str) else next(answered) for item in group]
                    file.write(table.encode(start, more))
                    file.flush()
                    answers += more
        except (KeyboardInterrupt, Stopped) as error:
            words = f"stopped after {len(answers):,} of {len(rows):,} rows; --resume continues"
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
    line = f"wrote {plural(len(rows), 'row')} to {where}{': ' if counts else ''}{by_label}"
    common.print_result(arguments, facts, line)


def _check_lengths(
    model: Any, tokenizer: Any, questions: list, places: list[str], labels: list[str] | None, new_tokens: int
) -> None:
    """Replace each question that is too long by a message, in place. Raises MiniloraError if none is left."""
    from minilora.data.chat import find_format
    from minilora.train.answers import check_prompts

    find_format(tokenizer)  # raises here for a model that no row can be put to
    answer = max(len(tokenizer.encode(label)) + 2 for label in labels) if labels else new_tokens
    for i, question in enumerate(questions):
        try:
            if not isinstance(question, str):
                check_prompts(model, tokenizer, [question], answer)
        except MiniloraError as error:
            questions[i] = f"{places[i]}: {error}"
    if all(isinstance(question, str) for question in questions):
        raise MiniloraError(f"none of the rows can be answered; {questions[0]}")


def _answer(
    model: Any, tokenizer: Any, questions: list, labels: list[str] | None, arguments: Namespace, advance: Any
) -> list[dict[str, Any]]:
    """Answer questions; returns for each the columns to add to its row."""
    from minilora.train.answers import answers, label_probabilities, label_scores

    if labels is None:
        texts = answers(model, tokenizer, questions, arguments.max_new_tokens, arguments.batch_size, advance)
        return [{"prediction": text} for text in texts]
    scores = label_scores(model, tokenizer, questions, labels, arguments.batch_size, advance)[0]
    probabilities = label_probabilities(scores)
    return [{"prediction": labels[row.argmax()], "probability": round(float(row.max()), 4)} for row in probabilities]


@dataclass
class Table:
    """The file of answers: the rows of --data, each with the columns in `added`.

    Raises MiniloraError if --data has one of these columns.
    """

    path: Path
    rows: list[dict[str, Any]]
    added: list[str]
    spelling: Spelling

    def __post_init__(self) -> None:
        self.names = list(dict.fromkeys(name for row in self.rows for name in row))
        if clashes := [name for name in self.names if name.strip().lower() in self.added]:
            raise MiniloraError(f"--data already has a column {escape(clashes[0])}; rename it or leave it out")

    def encode(self, start: int, answers: list[dict[str, Any]]) -> bytes:
        """Return the file's lines for the answers to rows `start`, `start` + 1, …, with the header if `start` is 0."""
        rows = [row | answer for row, answer in zip(self.rows[start : start + len(answers)], answers, strict=True)]
        delimiter, mark, end = self.spelling
        if not delimiter:
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")
        text = io.StringIO()
        writer = csv.DictWriter(text, self.names + self.added, delimiter=delimiter, lineterminator=end)
        if rows and start == 0:
            text.write(mark)
            writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})
        return text.getvalue().encode("utf-8", "replace")

    def read(self) -> list[dict[str, Any]]:
        """Read the answers in the file. Raises MiniloraError if the rest of the file is not what `encode` writes."""
        from minilora.data.rows import read_rows

        answers = [{name: row.get(name) for name in self.added} for _, row in read_rows(self.path)]
        if len(answers) > len(self.rows) or self.encode(0, answers) != self.path.read_bytes():
            words = "has other rows than --data, or was edited; choose another --out, or add --overwrite to replace it"
            raise MiniloraError(f"{show_path(self.path)} {words}")
        return answers


def _cell(value: Any) -> Any:
    """Convert a value for a cell of a CSV file: lists and objects to JSON, all line ends to \\n."""
    if isinstance(value, (bool, list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return re.sub("\r\n?", "\n", value) if isinstance(value, str) else value
