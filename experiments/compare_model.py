"""Comparison of every method on a published model: on a task with labels, or on the text of a domain.

    ("base",)               the model as it is
    ("base", row)           the model as quantized for a row
    ("rate", row, rate)     a training at a learning rate, or a prompt with `rate` examples, on validation data
    ("rate", "base", 0)     the model as it is, on the same data
    ("first rate", row)     the learning rate that a row's search begins at: the default of `minilora finetune` then
    ("prompt", seed)        the task with the best number of examples in the prompt; a text with other text before it
    ("probe", seed)         the task by logistic regression on the hidden states of the model as it is (`probe`)
    ("trained", row, seed)  trained at the best rate: what it learned, what it forgot, what trains, the file, the time
    ("memory", row)         bytes of a training step by kind, measured in a process of its own
    ("cost", row)           milliseconds of a query, tokens per second, before and after merging

A row is a method with its options. It trains as `minilora finetune` does, on the first `examples` of an order that the
seed draws. The order is the same for all rows, so that rows are compared example by example. Forgetting is measured on
plain English and on a quiz of general knowledge.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from experiments.bench import SCRATCH_RATE
from experiments.costs import file_bytes, in_fresh_process, memory_of_steps, tokens_per_second
from experiments.processor import in_words
from experiments.subjects import DomainText, GeneralKnowledge, LabelledTask
from minilora import threads
from minilora.data.rows import is_rows
from minilora.errors import MiniloraError, unknown
from minilora.measure.lab import SCRATCH
from minilora.measure.lr_search import SEED, best_rate
from minilora.measure.records import Records, machine
from minilora.models.llama import LlamaForCausalLM
from minilora.peft import METHODS, Options, base_fingerprint
from minilora.train import defaults, methods, text
from minilora.train.catalog import TASKS
from minilora.train.load import count_parameters, load_model, path_of_model
from minilora.train.loop import History
from minilora.train.text import Chats

KIND = "comparison on a model"
RECORDS = "records.jsonl"
BASE, PROMPTED, PROBE = "base", "few-shot", "probe"
WARM_STEPS, TIMED_STEPS = 2, 6


class Adaptation(NamedTuple):
    """A method and its options."""

    method: str
    options: Options = Options()


ROWS = {
    SCRATCH: Adaptation("full"),
    "feature-extraction": Adaptation("feature-extraction"),
    "full": Adaptation("full"),
    "norms": Adaptation("norms"),
    "ia3": Adaptation("ia3"),
    "prompt": Adaptation("prompt"),
    "prefix": Adaptation("prefix"),
    "pfeiffer": Adaptation("bottleneck", Options(placement="pfeiffer")),
    "houlsby": Adaptation("bottleneck", Options(placement="houlsby")),
    "lora-qv": Adaptation("lora", Options(targets=["q_proj", "v_proj"])),
    "lora": Adaptation("lora"),
    "rslora": Adaptation("rslora"),
    "lora-plus": Adaptation("lora-plus"),
    "dora": Adaptation("dora"),
    "pissa": Adaptation("pissa"),
    "vera": Adaptation("vera"),
    "qlora": Adaptation("qlora"),
}


def row_of(method: str) -> str:
    """Return the row of a method with its default options. For BitFit it is "norms", since a Llama has no biases."""
    return {"bottleneck": "pfeiffer", "bitfit": "norms"}.get(method, method)


@dataclass(frozen=True)
class ModelSettings:
    """The model, the data and the sizes of a comparison."""

    model: str = "smollm2"  # as `load_model` takes it
    data: str = "reviews"  # labelled conversations, as in `CurveSettings`, or a corpus whose text is learned
    english: str = "reviews"  # data whose held-out questions serve as plain English
    rows: tuple[str, ...] = tuple(ROWS)
    examples: int = 128  # training examples
    validation_examples: int = 128  # for searches; at most a third of the training examples
    test_examples: int = 200
    shots: tuple[int, ...] = (2, 4, 8, 32, 64)  # numbers of examples that prompting tries; 64 are up to 7,000 tokens
    contexts: tuple[int, ...] = (256, 512, 1024, 2048, 4096, 6144)  # the same for a text, in tokens of the prompt
    window: int = defaults.TEXT_LENGTH  # tokens of a window, in training and measuring on text
    characters: int = 60_000  # characters of the training text
    text_steps: int = 30
    test_characters: int = 20_000  # characters of the held-out text
    validation_characters: int = 6_000  # characters of the validation text, and of plain English
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: int = 3  # learning rates that a search tries first
    most_rates: int = 7

    @property
    def has_labels(self) -> bool:
        return self.data in TASKS or is_rows(self.data)


def settings_for(model: str, data: str, chosen: str | None = None, seeds: int | None = None) -> ModelSettings:
    """Return the settings, limited to the rows in `chosen` (names with commas) and `seeds`. Raises MiniloraError."""
    rows = tuple(ROWS) if chosen is None else tuple(name.strip() for name in chosen.split(","))
    if unknown_rows := [name for name in rows if name not in ROWS]:
        raise MiniloraError(unknown("method", unknown_rows[0], ROWS))
    settings = ModelSettings(model, data, rows=rows)
    return settings if seeds is None else replace(settings, seeds=tuple(range(seeds)))


def run(out: Path, settings: ModelSettings, resume: bool = False, overwrite: bool = False) -> Records:
    """Measure the cells that out/records.jsonl lacks; return the records."""
    comparison = ModelComparison(settings)
    records = comparison.records = Records.open(Path(out) / RECORDS, KIND, comparison.facts(), resume, overwrite)
    records.complete(cells_of(settings), comparison.measure, "comparing")
    return records


def cells_of(settings: ModelSettings) -> list[tuple]:
    """Return the keys of all cells in the order of measuring; searches come with the cells that need them."""
    cells: list[tuple] = [("base",), ("rate", BASE, 0), *(("prompt", seed) for seed in settings.seeds)]
    cells += [(PROBE, seed) for seed in settings.seeds if settings.has_labels]
    for row in settings.rows:
        cells += [("base", row)] * METHODS[ROWS[row].method].is_quantized
        cells += [("trained", row, seed) for seed in settings.seeds]
        cells += [("memory", row), ("cost", row)]
    return cells


class ModelComparison:
    """Measures each cell with the method that the first part of its key names.

    The model is loaded again for each training, so that none affects another.
    """

    records: Records  # set by `run`

    def __init__(self, settings: ModelSettings):
        self.settings = settings
        path_of_model(settings.model)  # a wrong name fails before the data are needed
        self.subject = (LabelledTask if settings.has_labels else DomainText)(settings)
        self.config = self.subject.base.config
        self.general = GeneralKnowledge(settings, self.subject.tokenizer)

    def facts(self) -> dict:
        """Return the settings that a resumed run must share."""
        s = asdict(self.settings)
        del s["rows"], s["seeds"]  # more of these may be added later
        return s | {"base": base_fingerprint(self.subject.base)} | self.subject.facts()

    def measure(self, kind: str, *key: Any) -> dict:
        return getattr(self, f"measure_{kind}")(*key)

    def measure_base(self, row: str | None = None) -> dict:
        return self.quality(self.subject.base if row is None else self.load(row))

    def measure_rate(self, row: str, rate: float) -> dict:
        """Measure a training at a learning rate, or the model as it is, on validation data."""
        if row == BASE:
            return self.subject.validation(self.subject.base)
        try:
            model, history = self.train(row, rate, SEED)
        except MiniloraError as error:  # it diverged
            return {"loss": None, "error": str(error)}
        return self.subject.validation(model) | {"seconds": history.seconds}

    def measure_prompt(self, seed: int) -> dict:
        """Measure prompting with the length of prompt that is best on validation data."""
        tried = {n: ("rate", PROMPTED, n) for n in self.subject.amounts}
        losses = {
            n: self.records.measured(key, self.subject.prompted, n, SEED, True)["loss"] for n, key in tried.items()
        }
        return self.subject.prompted(min(losses, key=losses.__getitem__), seed, False)

    def measure_probe(self, seed: int) -> dict:
        assert isinstance(self.subject, LabelledTask)  # `cells_of` asks for no other
        return self.subject.probe(seed)

    def rate(self, row: str) -> float:
        """Search the learning rate with which a row does best on validation data."""

        def tried(rate: float) -> float | None:
            return self.records.measured(("rate", row, rate), self.measure_rate, row, rate)["loss"]

        start = self.records.measured(("first rate", row), self.measure_first_rate, row)["rate"]
        return best_rate(start, self.settings.rates, tried, self.settings.most_rates)

    def measure_first_rate(self, row: str) -> dict:
        """Return the rate at which a search begins today; a cell for the reason that `Bench.first_rate` gives."""
        method = METHODS[ROWS[row].method]
        return {"rate": SCRATCH_RATE if row == SCRATCH else method.rate(defaults.base_size(self.subject.base))}

    def measure_trained(self, row: str, seed: int) -> dict:
        rate = self.rate(row)
        try:
            model, history = self.train(row, rate, seed)
        except MiniloraError as error:  # it diverged
            return {"lr": rate, "error": str(error)}
        facts = {"lr": rate, "steps": len(history.steps), "seconds": history.seconds, "file_bytes": file_bytes(model)}
        return facts | self.quality(model)

    def quality(self, model: Any) -> dict:
        """Measure how much the model has learned, and how much it still knows."""
        model.eval()
        trainable, total = count_parameters(model)
        counts = {"trainable": trainable, "total": total}
        return counts | self.subject.test(model) | self.general.measure(model)

    def train(self, row: str, rate: float, seed: int, **shape: int) -> tuple[Any, History]:
        """Train a fresh model on the data that the seed draws, without evaluations. shape: what `DomainText.in_windows`
        returns, or nothing.
        """
        data = self.subject.data(seed)
        model = self.fresh(row, seed, data)
        return model, self.fit(model, row, data, seed=seed, peak_lr=rate, **(self.subject.training | shape))

    def fresh(self, row: str, seed: int, data: Chats | text.Text) -> Any:
        """Return a fresh model for a row, to be trained."""
        if row == SCRATCH:
            return LlamaForCausalLM(self.config, seed=seed)
        return methods.adapt(self.load(row), *ROWS[row], data.train.ids, seed)

    def load(self, row: str) -> Any:
        """Load the model that the row's method adapts, quantized for QLoRA."""
        method, options = ROWS[row]
        quantization = options.quantization if METHODS[method].is_quantized else None
        return load_model(self.settings.model, quantization=quantization)[0]

    @staticmethod
    def fit(model: Any, row: str, data: Chats | text.Text, **settings: Any) -> History:
        config = defaults.finetune_config(model, METHODS[ROWS[row].method], data, **settings)
        shape = {name: settings[name] for name in ("seq_len", "batch_size") if name in settings}
        return defaults.fit(model, data, config, show_progress=False, **shape)

    def measure_cost(self, row: str) -> dict:
        """Time a training step with all cores, and generation and a query on one thread."""
        data = self.subject.data(0)
        model = self.fresh(row, 0, data)
        shape = self.subject.training | {"peak_lr": 1e-6}
        self.fit(model, row, data, **shape | {"steps": WARM_STEPS})
        seconds = self.fit(model, row, data, **shape | {"steps": TIMED_STEPS}).seconds / TIMED_STEPS
        facts = {"step_seconds": seconds, "processor": in_words(machine()["processor"])}
        model.eval()
        with threads.using(1):
            facts |= tokens_per_second({"base": self.subject.base, "adapted": model}, self.subject.tokenizer, rounds=3)
            return facts | self.subject.query(model)

    def measure_memory(self, row: str) -> dict:
        return in_fresh_process(_memory_of, self.settings, row)

    def memory_here(self, row: str) -> dict:
        """Measure the memory of training in this process, which must have done nothing else."""
        data = self.subject.data(0)
        shape = {"batch_size": defaults.BATCH_SIZE, "seq_len": defaults.seq_len_for(self.subject.base, data)}
        shape |= {name: size for name, size in self.subject.training.items() if name in shape}
        batches = text.training_batches(data.train, seed=0, **shape)
        self.subject.forget_base()
        return memory_of_steps(lambda: self.fresh(row, 0, data), batches)


def _memory_of(settings: ModelSettings, row: str) -> dict:
    return ModelComparison(settings).memory_here(row)
