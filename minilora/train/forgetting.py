"""Forgetting while a model learns something else: a quiz of general knowledge before and after, and replay.

The quiz is the one in `data.jargon`, for chat models. Replay mixes rows like the base's training text into batches. If
that text is not available, the base generates them itself (Robins 1995, "Catastrophic forgetting, rehearsal and
pseudorehearsal").
"""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from inspect import cleandoc
from math import comb
from typing import Any

import numpy as np

from minilora.data import chat, corpora
from minilora.data.batches import ChatBatches, LanguageModelBatches
from minilora.data.chat import Conversation
from minilora.data.jargon import QuizQuestion, load_quiz
from minilora.data.tokenizer import Tokenizer, encode_documents
from minilora.errors import MiniloraError
from minilora.peft import PeftModel
from minilora.train.answers import answers
from minilora.train.catalog import BASE
from minilora.train.metrics import answered, contains, wilson
from minilora.train.progress import progress_bar

BASE_DATA = "python-docs"  # what the base that comes with minilora was trained on
QUIZ_TOKENS = 14  # limit of an answer
FEW = 20  # quiz questions for a short training run
COST = 140  # cost of a question, in tokens of a forward pass that take as long: SmolLM2, 20 questions on two cores
REPLAY_TOKENS, MOST_WINDOWS = 24, 64  # most tokens of a generated answer, most windows of generated text


def question(text: str) -> Conversation:
    return [{"role": "user", "content": text}]


def as_base(model: Any) -> AbstractContextManager:
    """Return a context manager within which an adapted model is its base."""
    return model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()


def is_chat_model(tokenizer: Tokenizer) -> bool:
    try:
        return bool(chat.find_format(tokenizer))
    except MiniloraError:
        return False


def ask(model: Any, tokenizer: Tokenizer, texts: Sequence[str], max_new_tokens: int, bar: str) -> list[str]:
    """Return the model's likeliest answer to each question. bar: the text of the progress bar."""
    with progress_bar(bar, len(texts)) as advance:
        return answers(model, tokenizer, [question(text) for text in texts], max_new_tokens, advance=advance)


# The quiz


def quiz_size(choice: str, tokenizer: Tokenizer, tokens: float) -> int:
    """Return the number of quiz questions to ask before and after a training run that reads `tokens` tokens.

    choice: "on" asks all questions and "off" none. "auto" asks all, else FEW, else none, so that both times together
    take less than a tenth of the training, which costs three forward passes per token. Raises MiniloraError if the
    choice is "on" but the model has no chat format for the questions.
    """
    if choice == "on":
        chat.find_format(tokenizer)
    if choice == "off" or not is_chat_model(tokenizer):
        return 0
    all_questions = len(load_quiz().questions)
    return next((size for size in (all_questions, FEW) if choice == "on" or 2 * size * COST < 3 * tokens / 10), 0)


def answer_quiz(
    model: Any, tokenizer: Tokenizer, questions: Sequence[QuizQuestion], bar: str, max_new_tokens: int = QUIZ_TOKENS
) -> list[bool]:
    """Return for each question whether the model's answer contains an accepted one."""
    texts = ask(model, tokenizer, [q.text for q in questions], max_new_tokens, bar)
    return [contains(text, q.answers) for text, q in zip(texts, questions, strict=True)]


def quiz_facts(before: Sequence[bool], after: Sequence[bool]) -> dict[str, float]:
    """Count the right answers before and after, those lost and those gained.

    quiz_p is the exact two-sided p-value of McNemar's test (1947): the probability of a change at least as uneven by
    chance, if a question is as likely to be lost as gained.
    """
    pairs = list(zip(before, after, strict=True))
    lost, gained = pairs.count((True, False)), pairs.count((False, True))
    tail = sum(comb(lost + gained, i) for i in range(min(lost, gained) + 1)) / 2 ** (lost + gained)
    counts = {"asked": len(pairs), "before": sum(before), "after": sum(after), "lost": lost, "gained": gained}
    return {f"quiz_{name}": value for name, value in counts.items()} | {"quiz_p": min(1.0, 2 * tail)}


def learned_and_forgot(facts: dict, unit: str) -> list[str]:
    """Describe in lines the test result before and after, and the change in the quiz, as far as they were measured."""
    lines = []
    if "test_accuracy_before" in facts:
        before, after, count = facts["test_accuracy_before"], facts["test_accuracy"], facts["test_examples"]
        low, high = wilson(round(after * count), count)
        interval = f"({100 * low:.1f} to {100 * high:.1f})"
        lines.append(f"learned: test accuracy {100 * before:.1f} → {100 * after:.1f} % {interval} of {count}")
    elif "test_before" in facts:
        lines.append(f"learned: test {facts['test_before']:.3f} → {facts['test']:.3f} {unit}")
    if "quiz_asked" in facts:
        lost, gained, p = facts["quiz_lost"], facts["quiz_gained"], facts["quiz_p"]
        words = f"forgot: {lost or 'none'} of the {facts['quiz_before']} quiz answers that it knew"
        words += f" (and {gained} new right)" if gained else ""
        words += f": {facts['quiz_before']} → {facts['quiz_after']} of {facts['quiz_asked']}"
        chance = f", {'more than chance explains' if p < 0.05 else 'which may be chance'} (p = {p:.2g})"
        lines.append(words + (chance if lost or gained else ""))
    return lines


# Replay


def own_answers(model: Any, tokenizer: Tokenizer, questions: Sequence[str]) -> list[Conversation]:
    """Return the questions, each with the first sentence of the model's own answer, if that sentence is complete."""
    texts = map(first_sentence, ask(model, tokenizer, questions, REPLAY_TOKENS, "its own answers"))
    pairs = zip(questions, texts, strict=True)
    return [answered(question(prompt), text) for prompt, text in pairs if text.endswith((".", "!", "?"))]


def first_sentence(text: str) -> str:
    """Return the first sentence of `text` on one line: up to a full stop before a capital letter, or to the end of the
    paragraph.
    """
    paragraph = " ".join(cleandoc(text).split("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) (?=[A-Z])", paragraph, maxsplit=1)[0]


def replayed(
    model: Any, tokenizer: Tokenizer, name: str, rows: int, seq_len: int, seed: int
) -> tuple[LanguageModelBatches | ChatBatches, str]:
    """Return a source of rows to replay, and their description in words.

    For a chat model, the rows are its own answers to general questions (not those of the quiz); for the base that comes
    with minilora, its training text; for any other model, text that it generates from the beginning-of-text token.
    name: the model's. rows: how many rows will be drawn.
    """
    model.eval()
    with as_base(model):
        if is_chat_model(tokenizer):
            conversations = own_answers(model, tokenizer, load_quiz().general[:rows])
            if not conversations:
                raise MiniloraError("the model completed none of its answers for the replay: leave --replay out")
            tokens = chat.encode_conversations(tokenizer, chat.find_format(tokenizer), conversations)
            longest = max(len(ids) for ids, _ in tokens.rows)  # so that no row is cut
            words = f"{len(conversations)} of its own answers to general questions"
            return ChatBatches(tokens, 1, longest, seed), words
        if name == BASE:
            ids = encode_documents(tokenizer, corpora.split(corpora.load(BASE_DATA)).train).ids
            return LanguageModelBatches(ids, 1, seq_len, seed), BASE_DATA
        windows, start = min(rows, MOST_WINDOWS), tokenizer.bos_token_id
        begin = np.full((windows, 1), tokenizer.eos_token_id if start is None else start)
        ids = model.generate(begin, seq_len - 1, eos_token_id=[], seed=[seed + i for i in range(windows)])
    return LanguageModelBatches(ids.reshape(-1), 1, seq_len, seed), f"{windows} windows of its own text"
