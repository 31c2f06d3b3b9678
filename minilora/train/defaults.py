"""The defaults of a training run: its learning rate, sequence length, steps and evaluations.

`finetune_config` decides on them, and `fit` trains; `minilora finetune` and `minilora curve` use both.

model, tokenizer = load.load_model("smollm2")
data = text.read_data("mine.jsonl", tokenizer)
model = methods.adapt(model, "lora")
history = fit(model, data, finetune_config(model, METHODS["lora"], data))
"""

from math import ceil
from typing import Any

from minilora.data.chat import LEAST_CHOICE, ChatTokens
from minilora.data.tokenizer import TokenStream
from minilora.peft import Method, PeftModel
from minilora.train.config import TrainConfig
from minilora.train.load import count_parameters
from minilora.train.loop import History, train
from minilora.train.metrics import TaskScore, evaluator, measure_task
from minilora.train.text import Chats, Text, check_length, longest, num_examples, sample, training_batches
from minilora.train.world import World

BATCH_SIZE = 8
TEXT_LENGTH = 128  # tokens per sequence of a text
LONGEST = 512  # tokens; the default length to which longer conversations are cut
TEXT_STEPS = 200
EPOCHS = 2  # for conversations
LEAST_STEPS, MOST_STEPS = 60, 600  # limits of this default
EVALUATIONS = 10  # most evaluations, besides those at the start and at the end
EVALUATION_SHARE = 4  # rows that are trained for each row that is evaluated
EXAMPLES = 32  # examples per evaluation; a shorter run has fewer evaluations before it has fewer examples in each
LEAST_EXAMPLES = 8  # examples per evaluation in the shortest run
TEST_EXAMPLES = 100  # fewest examples in the final test, unless that is more than half of the trained rows
EVALUATION_BATCH = 4  # fewest rows at a time; without gradients, they take little memory


def finetune_config(
    model,
    method: Method,
    data: Text | Chats,
    *,
    batch_size: int = BATCH_SIZE,
    seq_len: int | None = None,
    epochs: float | None = None,
    **settings: Any,
) -> TrainConfig:
    """Return the settings with which `minilora finetune` trains `model` on `data`. The model may be adapted or not.

    settings: fields of TrainConfig that replace the defaults; None keeps the default.
    """
    if settings.get("steps") is None:
        per_step = batch_size * (settings.get("accumulate") or 1)
        settings["steps"] = steps_for(data, per_step, seq_len or seq_len_for(model, data), epochs)
    if settings.get("peak_lr") is None:
        settings["peak_lr"] = method.rate(base_size(model))
    return train_config(batch_size, **{"lora_plus": method.lora_plus} | settings)


def fit(
    model,
    data: Text | Chats,
    config: TrainConfig,
    *,
    batch_size: int = BATCH_SIZE,
    seq_len: int | None = None,
    examples: int | None = None,
    batches=None,
    world: World | None = None,
    **training: Any,
) -> History:
    """Train `model`, adapted in place, on the training part of `data`.

    A sample of the validation part is evaluated, and the best weights are kept: those with the most right answers if
    the responses are labels (the later ones in a tie), else those with the fewest bits per character. The last weights
    are kept if the sample is too small to choose by (see `chooses`), or if there is no validation part.

    examples: number of examples per evaluation; None: `eval_examples`. batches: a source of batches whose notes the
    caller shows itself; None: `text.training_batches`, whose notes become the first of the history's. world: the ranks
    that train together. training: further arguments of `loop.train`, whose errors are raised. Also raises MiniloraError
    if sequences are longer than the model's positions.
    """
    seq_len = seq_len or seq_len_for(model, data)
    notes: list[str] = []
    if batches is None:
        check_length(model, data, seq_len)
        batches = training_batches(data.train, batch_size, seq_len, config.seed)
        notes += getattr(batches, "notes", [])
    if data.validation.characters:
        validation = sample(data.validation, examples or eval_examples(config, batch_size), seq_len)
        at_once = max(batch_size, EVALUATION_BATCH)
        training["evaluate"] = evaluator(model, validation, seq_len, at_once, world=world)
        if not chooses(data, validation):
            training["keep"] = "last"
        elif isinstance(data, Chats) and data.has_labels:
            ranks = world or World()
            training["accuracy"] = lambda: ranks.broadcast(score(model, data, validation).accuracy)
    history = train(model, batches, config, world=world, **training)
    history.notes = [*notes, *history.notes]
    return history


def chooses(data: Text | Chats, validation: TokenStream | ChatTokens) -> bool:
    """Return True if the evaluated part is good enough to choose the best step by.

    On a handful of conversations, chance decides more than training does; and the test part must not choose at all.
    """
    return not isinstance(data, Chats) or (data.chooses and num_examples(validation, 1) >= LEAST_CHOICE)


def score(model, data: Chats, part: Any) -> TaskScore:
    """Score the answers to a part (ChatTokens) of conversations with labels."""
    assert data.tokenizer is not None  # the caller has checked `has_labels`
    return measure_task(model, data.tokenizer, part.conversations, labels=data.labels)


def base_size(model) -> int:
    """Count the parameters of the model without its adapter."""
    trains, total = count_parameters(model)
    return total - trains if isinstance(model, PeftModel) else total


def train_config(batch_size: int, **settings: Any) -> TrainConfig:
    """Return a TrainConfig with the defaults for warmup and evaluations. settings: its fields, at least `steps`."""
    settings = {name: value for name, value in settings.items() if value is not None}
    steps = settings["steps"]
    rows = steps * batch_size * settings.get("accumulate", 1)
    evaluations = min(max(rows // (EVALUATION_SHARE * EXAMPLES), 1), EVALUATIONS)
    return TrainConfig(**{"warmup": steps // 20, "eval_every": ceil(steps / evaluations)} | settings)


def eval_examples(config: TrainConfig, batch_size: int) -> int:
    """Return the number of sequences per evaluation, such that evaluating takes a small share of the training time."""
    evaluations = 1 + config.steps // (config.eval_every or config.steps)
    rows = config.steps * batch_size * config.accumulate
    return max(LEAST_EXAMPLES, rows // (EVALUATION_SHARE * evaluations))


def seq_len_for(model, data: Text | Chats) -> int:
    """Return the tokens per sequence: as many as the longest conversation, within LONGEST and the model's positions."""
    limit = model.config.max_position_embeddings - getattr(model, "base_model", model).body.virtual_tokens
    most = longest(data, LONGEST) if isinstance(data, Chats) else TEXT_LENGTH
    return max(2, min(most, limit))


def steps_for(data: Text | Chats, per_step: int, seq_len: int, epochs: float | None = None) -> int:
    """Return the number of steps, of `per_step` sequences each, for this many epochs, or for the default."""
    if epochs is None and not isinstance(data, Chats):
        return TEXT_STEPS
    rows = len(data.train.rows) if isinstance(data, Chats) else len(data.train.ids) // seq_len
    steps = max(1, ceil((EPOCHS if epochs is None else epochs) * rows / per_step))
    return steps if epochs is not None else min(max(steps, LEAST_STEPS), MOST_STEPS)
