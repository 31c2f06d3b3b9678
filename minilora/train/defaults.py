"""What a training does where nobody says otherwise: its learning rate, length, steps, and how it is evaluated.

`finetune_config` is the whole of it; `minilora finetune` and `minilora curve` train by the same defaults.
"""

from math import ceil
from typing import Any

from minilora.peft import Method
from minilora.train.answers import Chats
from minilora.train.config import TrainConfig
from minilora.train.recipes import Text, count_parameters, longest

BATCH_SIZE = 8
TEXT_LENGTH = 128  # tokens per sequence of a text
LONGEST = 512  # tokens; longer conversations are cut where no length is given
TEXT_STEPS = 200
EPOCHS = 3  # of conversations,
LEAST_STEPS, MOST_STEPS = 60, 600  # within these steps
EVALUATIONS = 10  # at most, besides those at the start and at the end
EVALUATION_SHARE = 4  # one row is evaluated for so many that are trained
LEAST_EXAMPLES = 16  # of an evaluation
TEST_EXAMPLES = 100  # at least that many are tested, where there are


def finetune_config(
    model,
    method: Method,
    data: Text | Chats,
    *,
    batch_size: int = BATCH_SIZE,
    seq_len: int | None = None,
    epochs: float | None = None,
    pack: bool = False,
    **given: Any,
) -> TrainConfig:
    """How `minilora finetune` trains `model` (adapted by `method` or not yet) on the training part of `data`.

    given: fields of TrainConfig, those that are None as if they were not there.
    """
    if given.get("steps") is None:
        per_step = batch_size * (given.get("accumulate") or 1)
        given["steps"] = steps_for(data, per_step, seq_len or seq_len_for(model, data), epochs, pack)
    if given.get("peak_lr") is None:
        given["peak_lr"] = method.rate(count_parameters(model)[1])
    return train_config(batch_size, **{"lora_plus": method.lora_plus} | given)


def train_config(batch_size: int, **given: Any) -> TrainConfig:
    """A TrainConfig with the defaults for warmup and evaluations. given: its fields, at least `steps`."""
    given = {name: value for name, value in given.items() if value is not None}
    steps = given["steps"]
    rows = steps * batch_size * given.get("accumulate", 1)
    evaluations = min(max(rows // (EVALUATION_SHARE * LEAST_EXAMPLES), 1), EVALUATIONS)
    return TrainConfig(**{"warmup": steps // 20, "eval_every": ceil(steps / evaluations)} | given)


def eval_examples(config: TrainConfig, batch_size: int) -> int:
    """How many sequences each evaluation takes, so that all of them are a small share of the training time."""
    evaluations = 1 + config.steps // (config.eval_every or config.steps)
    rows = config.steps * batch_size * config.accumulate
    return max(LEAST_EXAMPLES, rows // (EVALUATION_SHARE * evaluations))


def seq_len_for(model, data: Text | Chats) -> int:
    """Tokens per sequence: what the longest conversation has, within LONGEST and the model's positions."""
    body = getattr(model, "base_model", model).body
    limit = model.config.max_position_embeddings - body.virtual_tokens
    most = longest(data, LONGEST) if isinstance(data, Chats) else TEXT_LENGTH
    return max(2, min(most, limit))


def steps_for(data: Text | Chats, per_step: int, seq_len: int, epochs: float | None = None, pack: bool = False) -> int:
    """Steps of `per_step` sequences each: so many epochs, or the default number."""
    if epochs is None and not isinstance(data, Chats):
        return TEXT_STEPS
    rows = len(data.train.rows) if isinstance(data, Chats) and not pack else len(data.train.ids) // seq_len
    steps = max(1, ceil((epochs or EPOCHS) * rows / per_step))
    return steps if epochs else min(max(steps, LEAST_STEPS), MOST_STEPS)
