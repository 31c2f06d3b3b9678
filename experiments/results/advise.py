"""Fine-tune or prompt? Six questions, and an answer whose reasons cite what was measured.

Each answer speaks for one side with a weight of 1 or 2; the heavier side wins, and a tie means to prompt first. The
method to fine-tune by is the one that trained the fewest parameters among those as good as the best of the comparison
on SmolLM2.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from experiments.compare_model import PROMPTED, row_of
from experiments.compare_model_report import ModelResult
from experiments.results.founding import Founding
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import show_path
from minilora.measure import curve as curve_records
from minilora.measure.curve_report import CurveResult
from minilora.measure.records import Records
from minilora.peft import METHODS
from minilora.show.grids import IN_SENTENCES, Spread

RECORDS = Path(__file__).parents[1] / "records"  # that the advice cites
FEW, MANY, VERY_MANY = 16, 100, 1000  # examples
RARE = 100  # queries per day
ADAPTERS = tuple(name for name, method in METHODS.items() if method.config is not None)


@dataclass(frozen=True)
class Situation:
    """The answers."""

    examples: int  # of what is wanted, at hand
    queries: int  # a day
    jargon: bool  # the language or the knowledge is special to a field
    strict_format: bool  # each answer has one exact format
    changes: bool  # what is wanted changes from week to week
    prototype: bool  # what is wanted is still being found out

    def __post_init__(self):
        for name in ("examples", "queries"):
            if not 0 <= getattr(self, name) <= 10**12:
                raise MiniloraError(f"--{name} must be a number from 0 on, not {escape(getattr(self, name))}")


@dataclass(frozen=True)
class Reason:
    """towards: "prompt" or "fine-tune"; weight: 1 or 2."""

    towards: str
    weight: int
    text: str


@dataclass(frozen=True)
class Advice:
    choice: str  # "prompt" or "fine-tune"
    close: bool  # the sides weigh the same
    method: str  # to fine-tune by, if so
    reasons: list[Reason]
    notes: list[str]


def curve_file(task: str) -> str:
    """Return the record of `minilora curve` on that task, on a real pretrained model."""
    return f"curve-{task}.jsonl"


class OnText(NamedTuple):
    """What a method came to on the text of a domain; None where it was not measured."""

    trainable: int
    domain: Spread  # bits per character
    forgot: float | None  # points of a quiz of general knowledge
    seconds: float | None  # of training


def on_text(result: ModelResult) -> dict[str, OnText]:
    """Return {method, "base" or the prompt: what a comparison on a published model measured of it}."""
    found = {"base": OnText(0, Spread.of([result.base["bits"]]), None, None)}
    if any(result.records.of("prompt")):
        found[PROMPTED] = OnText(0, result.reached(PROMPTED), None, None)
    for method in METHODS:
        if (row := row_of(method)) in result.rows:
            cost = result.records.rows.get(("cost", row))
            seconds = cost["step_seconds"] * result.settings["text_steps"] if cost else None
            trainable = next(result.records.of("trained", row))["trainable"]
            found[method] = OnText(trainable, result.reached(row), -result.forgot(row, "quiz", 100).mean, seconds)
    return found


def own_curve(folder: Path) -> CurveResult:
    """Return the records in a curve's folder. Raises FormatError, and MiniloraError if it is half measured."""
    result = CurveResult(Records.read(folder / curve_records.RECORDS, curve_records.KIND))
    if any(cell not in result.records for cell in curve_records.cells_of(result.settings)):
        raise MiniloraError(f"the curve in {show_path(folder)} is half measured; minilora curve --resume goes on")
    return result


class Measured:
    """What the package's own records say, in half sentences that name the model; "" where something was not measured.

    curve: the folder of the reader's own (`minilora curve`), which speaks in place of the package's film reviews.
    """

    def __init__(self, folder: Path, curve: Path | None = None):
        self.curve = None if curve is None else own_curve(curve)
        reviews = folder / curve_file("reviews")
        self.reviews = CurveResult(Records.read(reviews, curve_records.KIND)) if reviews.is_file() else None
        text = Founding(folder).results.get("numpy-docs")
        self.methods = on_text(text) if text and text.rows else {}
        self.model = text.settings["model"] if text else ""

    def best_adapter(self) -> str:
        """The best of the curve; else of the adapters level with the best on the domain, the one that trains the fewest
        parameters.
        """
        if self.curve is not None:
            return self.curve.best_trained()[0]
        found = {name: self.methods[name] for name in ADAPTERS if name in self.methods}
        if not found:
            return "lora"
        best = min(found.values(), key=lambda one: one.domain.mean)
        level = {name: one for name, one in found.items() if one.domain.overlaps(best.domain)}
        return min(level, key=lambda name: level[name].trainable)

    def jargon(self) -> str:
        if not {"base", "lora", "few-shot"} <= self.methods.keys():
            return ""
        base, trained, prompted = (self.methods[name].domain.mean for name in ("base", "lora", "few-shot"))
        return (
            f": on numpy-docs, {self.model} gained {base - trained:.2f} bits/character by LoRA, and by the "
            f"best prompt of the domain's own text {base - prompted:.2f}"
        )

    def examples(self) -> str:
        """What examples brought, in the prompt and trained; of the reader's own there is a reason by itself."""
        if self.curve is not None or self.reviews is None:
            return ""
        return f" ({self.reviews.where}: {self.reviews.figures()})"

    def cost(self) -> str:
        """What a query takes at the best of each way, and when training has paid off."""
        curve = self.curve or self.reviews
        if curve is None:
            return ""
        best, trained = curve.best_prompt(), curve.best_trained()
        if not (queries := curve.crossover(*trained[:2])):
            return ""
        prompted, adapted = (curve.cost(*kind)["milliseconds"] for kind in (("prompt", best[0]), trained[:1]))
        return (
            f": for {curve.where}, the best prompt takes {prompted:,.0f} ms per query, the adapted model "
            f"{adapted:,.0f} ms, and training is paid for after {queries:,} queries"
        )

    def retraining(self) -> str:
        lora = self.methods.get("lora")
        if lora is None or lora.seconds is None:
            return ""
        return f" (LoRA took {lora.seconds:.0f} s on {self.model})"

    def forgetting(self) -> str:
        lost = {name: one.forgot for name, one in self.methods.items() if one.forgot is not None}
        if not {"full", "lora"} <= lost.keys() or max(lost["full"], lost["lora"]) <= 0:
            return ""
        costs = f"full cost {self.model} {lost['full']:.0f} points, LoRA {lost['lora']:.0f} points"
        return f"Fine-tuning forgets: on a quiz of general knowledge, {costs}. An adapter can be switched off."


def advise(situation: Situation, measured: Measured) -> Advice:
    """Return the advice for a situation, with a reason for each answer that speaks for a side."""
    prompt = lambda weight, text: reasons.append(Reason("prompt", weight, text))  # noqa: E731
    tune = lambda weight, text: reasons.append(Reason("fine-tune", weight, text))  # noqa: E731
    reasons: list[Reason] = []
    compared_at = measured.examples()
    if measured.curve is not None:
        (tune if measured.curve.outcome() == "fine-tune" else prompt)(
            2, f"{measured.curve.where}: {measured.curve.figures()}"
        )
    if situation.examples < FEW:
        prompt(2, f"{situation.examples} examples are few to train on, and fit into a prompt{compared_at}")
    elif situation.examples >= MANY:
        weight = 2 if situation.examples >= VERY_MANY else 1
        tune(weight, f"{situation.examples:,} examples are enough to train on, and too many for a prompt{compared_at}")
    if situation.queries < RARE:
        prompt(1, f"{situation.queries} queries per day do not pay for training")
    else:
        tune(2, f"{situation.queries:,} queries per day each pay for the prompt again{measured.cost()}")
    if situation.jargon:
        tune(2, f"a special language is learned by training{measured.jargon()}")
    else:
        prompt(1, "a general task is one that the model knows from pretraining")
    if situation.strict_format:
        tune(1, "training makes a format a habit, where a prompt only asks for it (not measured here)")
    if situation.changes:
        prompt(1, f"a prompt is changed in a minute, an adapter is trained again{measured.retraining()}")
    if situation.prototype:
        prompt(2, "while you find out what you want, a prompt costs nothing to throw away")
    weights = {side: sum(r.weight for r in reasons if r.towards == side) for side in ("prompt", "fine-tune")}
    choice = "fine-tune" if weights["fine-tune"] > weights["prompt"] else "prompt"
    notes = [note for note in (measured.forgetting(),) if note and choice == "fine-tune"]
    return Advice(choice, weights["fine-tune"] == weights["prompt"], measured.best_adapter(), reasons, notes)


def in_words(advice: Advice) -> str:
    """Return the advice for a terminal of 80 columns."""
    from textwrap import fill

    name = IN_SENTENCES[advice.method]
    lines = {
        ("fine-tune", False): f"Fine-tune, by {name}.",
        ("prompt", False): "Prompt.",
        ("prompt", True): f"It is close: prompt first, and fine-tune (by {name}) when the prompt is not enough.",
    }
    said = [lines[advice.choice, advice.close], ""]
    for side in ("fine-tune", "prompt"):
        mine = [reason for reason in advice.reasons if reason.towards == side]
        if mine:
            said.append(f"For {'fine-tuning' if side == 'fine-tune' else 'prompting'}:")
            said += [
                fill(f"{'+' * reason.weight:<2} {reason.text}", 80, initial_indent="  ", subsequent_indent="     ")
                for reason in mine
            ]
    said += [fill(note, 80) for note in advice.notes]
    return "\n".join(said)
