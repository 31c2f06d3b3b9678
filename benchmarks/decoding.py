"""Greedy decoding with SmolLM2-135M, 64 tokens for one row, in minilora and transformers, in float32.

`benchmarks.speed` runs each library in a process of its own that decodes on request. With prompt look-up, the next
tokens are guessed from the text so far, and verified in one pass.
"""

import os

import numpy as np

from benchmarks import step
from benchmarks.harness import call
from benchmarks.smollm2_checks import QUESTION

NEW_TOKENS, PROMPT_TOKENS = 64, 16
DRAFT = 10  # tokens of a draft in transformers, as in Saxena (2023), who proposed prompt look-up
EDIT = (
    "Repeat this text with every sentence on a line of its own.\n\n"
    "The river Thames rises in Gloucestershire and flows through Oxford, Reading, Windsor and London before it reaches "
    "the North Sea. It is the longest river that lies entirely in England. The tidal part begins at Teddington Lock. "
    "Its floods are held back by the Thames Barrier, which was opened in 1984."
)
QUESTIONS = {"chat": QUESTION, "edit": EDIT}
# any: random tokens, enough to time decoding without look-up, which takes as long for any text
PROMPTS = ("any", *QUESTIONS)


def prompt_ids(prompt: str) -> np.ndarray:
    """Return the token ids of a prompt: (1, T)."""
    from minilora.data import chat
    from minilora.train import load
    from minilora.train.forgetting import question

    if prompt == "any":
        return np.random.default_rng(0).integers(100, 49_000, (1, PROMPT_TOKENS))
    tokenizer, messages = load.tokenizer_of(step.file_of_model(step.PRETRAINED)), question(QUESTIONS[prompt])
    return chat.find_format(tokenizer).encode(tokenizer, messages, add_generation_prompt=True)[0][None]


def minilora_work(prompt: str, lookup: bool):
    """Return a function that decodes once."""
    from minilora.models.lookup import NUM_TOKENS

    model, ids = step.minilora_model(step.PRETRAINED, "full"), prompt_ids(prompt)
    settings = {"temperature": 0, "eos_token_id": [], "prompt_lookup_num_tokens": NUM_TOKENS if lookup else None}
    return lambda: model.generate(ids, NEW_TOKENS, **settings).shape[1]


def transformers_work(prompt: str, lookup: bool):
    import torch
    from transformers import GenerationConfig

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = step.transformers_model(step.PRETRAINED).eval()
    drafts = {"prompt_lookup_num_tokens": DRAFT} if lookup else {}
    settings = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0, **drafts)
    model.generation_config.eos_token_id = None  # generate() fills what `settings` leaves None from here
    ids = torch.from_numpy(prompt_ids(prompt))
    mask = torch.ones_like(ids)
    return lambda: model.generate(ids, attention_mask=mask, generation_config=settings).shape[1]


def arguments_of(library: str, prompt: str, lookup: bool) -> list[str]:
    """Return the arguments for a Runner that decodes."""
    return [*call(f"benchmarks.decoding.{library}_work", prompt, lookup), library, "cpu"]
