"""Default settings of a training run: `pytest tests/train/test_defaults.py`."""

import numpy as np
import pytest

from minilora.data.chat import ChatTokens
from minilora.data.tokenizer import TokenStream
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import METHODS
from minilora.train import defaults
from minilora.train.text import Chats, Text, num_examples, sample

pytestmark = pytest.mark.host

SMALL = {"vocab_size": 50, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
MODEL = LlamaForCausalLM(LlamaConfig(**SMALL, max_position_embeddings=64), seed=0)


def chats(*lengths: int) -> Chats:
    rows = [(np.arange(n), np.arange(n) > n // 2) for n in lengths]
    tokens = ChatTokens(rows, [n for n in range(len(rows))])
    return Chats("x.jsonl", "", tokens, ChatTokens(rows[:1], [3]), ChatTokens(rows[:1], [3]))


def text(tokens: int) -> Text:
    return Text("x", "", *[TokenStream(np.arange(tokens), tokens)] * 3)


def test_length_and_steps_follow_the_data():
    few, many = chats(5, 30, 9), chats(*[100] * 9000)
    assert (defaults.seq_len_for(MODEL, few), defaults.seq_len_for(MODEL, many)) == (30, 64)  # 64 positions
    assert defaults.seq_len_for(MODEL, text(999)) == 64
    assert defaults.steps_for(few, 8, 30) == defaults.LEAST_STEPS
    assert defaults.steps_for(many, 8, 64) == defaults.MOST_STEPS
    assert defaults.steps_for(chats(*[9] * 512), 8, 9) == 128  # two epochs
    assert defaults.steps_for(chats(*[9] * 512), 8, 9, epochs=0.5) == 32
    assert defaults.steps_for(text(999), 8, 64) == defaults.TEXT_STEPS
    assert defaults.steps_for(text(6400), 10, 64, epochs=2) == 20
    assert defaults.steps_for(few, 8, 30, epochs=0) == 1


def test_what_is_given_wins_and_the_rest_follows():
    config = defaults.finetune_config(MODEL, METHODS["lora-plus"], chats(5, 9), batch_size=4, peak_lr=None)
    assert (config.steps, config.warmup, config.lora_plus) == (defaults.LEAST_STEPS, 3, 16.0)
    assert config.peak_lr == METHODS["lora-plus"].lr
    config = defaults.finetune_config(
        MODEL, METHODS["lora"], chats(*[9] * 512), epochs=1, accumulate=4, warmup=0, peak_lr=0.5, eval_every=3
    )
    assert (config.steps, config.warmup, config.peak_lr, config.eval_every) == (16, 0, 0.5, 3)


@pytest.mark.parametrize("steps, batch_size", [(10, 1), (60, 8), (192, 8), (600, 32), (1, 1)])
def test_evaluations_are_a_small_share(steps, batch_size):
    config = defaults.train_config(batch_size, steps=steps)
    examples = defaults.eval_examples(config, batch_size)
    evaluated = examples * (1 + steps // config.eval_every)
    assert evaluated <= max(steps * batch_size / 3, 2 * defaults.LEAST_EXAMPLES)
    assert examples >= defaults.LEAST_EXAMPLES and 1 <= steps // config.eval_every <= defaults.EVALUATIONS


def test_a_sample_is_of_whole_examples_and_always_the_same():
    documents = tuple((n, 10 * n) for n in range(1, 60))
    stream = TokenStream(np.repeat(np.arange(1, 60), range(1, 60)), sum(c for _, c in documents), documents)
    part = sample(stream, 5, 40)
    assert 100 < len(part.ids) <= 200 and num_examples(part, 40) <= 5
    assert part.characters == 10 * len(part.ids)
    assert all((part.ids == n).sum() in (0, n) for n in range(1, 60)) and (np.diff(part.ids) >= 0).all()
    assert (sample(stream, 5, 40).ids == part.ids).all() and sample(stream, 99, 40) is stream
    rows = chats(*range(2, 30)).train
    part = sample(rows, 4, 99)
    assert len(part.rows) == 4 and part.characters == sum(len(ids) - 2 for ids, _ in part.rows)
    assert len(sample(rows, 99, 99).rows) == 28
