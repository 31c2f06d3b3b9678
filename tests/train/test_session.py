"""Text as it is made, and a conversation that is remembered: `pytest tests/train/test_session.py`."""

import os

import numpy as np
import pytest

from minilora.data.tokenizer import train_tokenizer
from minilora.errors import MiniloraError
from minilora.models.llama import LlamaModel
from minilora.peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from minilora.train import load
from minilora.train.answers import ChatSession, Continuation, end_token_ids
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host
BYTES = train_tokenizer(["no pair occurs twice"], 257)  # a token is a byte
END = 0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session") / "model"
    return tiny_chat.save(folder, ["What is it? It is so. And that?"], initializer_range=0.5)


class Says:
    """Stand-in for a model that generates the given tokens, then an end token."""

    def __init__(self, tokens):
        self.tokens = [*tokens, END]

    def generate_stream(self, ids, max_new_tokens, **settings):
        return (np.array([token]) for token in self.tokens[:max_new_tokens])


def continuation(text, most: int = 99) -> Continuation:
    tokens = BYTES.encode(text) if isinstance(text, str) else text
    return Continuation(Says(tokens), BYTES, np.array([1]), most, [END])


def test_pieces_are_whole_characters():
    made = continuation("a€é😀b")
    assert list(made) == ["a", "€", "é", "😀", "b"]
    assert made.text == "a€é😀b" and not made.is_cut and END not in made.tokens


def test_a_character_that_never_ends_is_shown_at_the_end_or_before_what_follows():
    a, first, *_, b = BYTES.encode("a€b")
    assert list(continuation([a, first])) == ["a", "\ufffd"]
    assert list(continuation([a, first, b])) == ["a", "\ufffdb"]
    cut = continuation("a€", most=3)
    assert list(cut) == ["a", "\ufffd"] and cut.is_cut


@pytest.mark.parametrize("most, is_cut", [(2, True), (3, True), (4, False)])
def test_it_is_cut_where_nothing_ended_it(most, is_cut):
    made = continuation("abc", most)
    assert "".join(made) == "abc"[:most] and made.is_cut == is_cut


# Conversations


def loaded(place, config=None):
    model, tokenizer = load.load_model(str(place))
    if config is not None:
        model = get_peft_model(model, config)
        for p in model.parameters():
            if p.requires_grad:
                p.data = np.random.default_rng(1).normal(size=p.shape).astype("float32")
    return model, tokenizer


def answer_to(session: ChatSession, question: str) -> str:
    return "".join(session.ask(question))


ADAPTERS = [None, LoraConfig(r=2), PromptTuningConfig(num_virtual_tokens=3), PrefixTuningConfig(num_virtual_tokens=3)]


@pytest.mark.parametrize("config", ADAPTERS, ids=lambda config: getattr(config, "peft_type", "base"))
def test_each_turn_is_answered_as_if_all_were_read_anew_and_only_the_new_is_read(place, config, monkeypatch):
    model, tokenizer = loaded(place, config)
    session = ChatSession(model, tokenizer, "Be kind.", max_new_tokens=12, temperature=0)
    messages, read, known = [{"role": "system", "content": "Be kind."}], [], ()
    forward = LlamaModel.forward

    def counted(self, ids=None, *arguments, inputs_embeds=None, **named):
        read.append((ids if inputs_embeds is None else inputs_embeds).shape[1])
        return forward(self, ids, *arguments, inputs_embeds=inputs_embeds, **named)

    monkeypatch.setattr(LlamaModel, "forward", counted)
    for question in ("What is it?", "And that?", "Why?"):
        messages.append({"role": "user", "content": question})
        ids = session._format.encode(tokenizer, messages, add_generation_prompt=True)[0]
        read.clear()
        answer = answer_to(session, question).strip()
        first_read = read[0]
        alone = model.generate(ids[None], 12, temperature=0, eos_token_id=end_token_ids(tokenizer, model.config))
        assert answer == tokenizer.decode(alone[0, len(ids) :]).strip() != ""
        if known:
            assert first_read == len(ids) - len(os.path.commonprefix([known, tuple(ids)]))
        known = tuple(alone[0, :-1])  # the last one drawn was not read
        messages.append({"role": "assistant", "content": answer})
    session.reset()
    assert answer_to(session, "What is it?").strip() == messages[2]["content"]


def test_a_question_that_got_no_word_can_be_asked_again(place):
    model, tokenizer = loaded(place)
    session = ChatSession(model, tokenizer, max_new_tokens=5, temperature=0)
    expected, ends = answer_to(session, "What?"), session._ends
    session.reset()
    session._ends = list(range(model.config.vocab_size))  # the first token ends the answer
    assert answer_to(session, "What?") == ""
    session._ends = ends
    assert answer_to(session, "What?") == expected and len(session._turns) == 1


def test_an_answer_that_was_broken_off_is_remembered_as_far_as_it_came(place):
    model, tokenizer = loaded(place)
    session = ChatSession(model, tokenizer, max_new_tokens=20, temperature=0)
    answer = session.ask("What?")
    pieces = iter(answer)
    first = next(pieces) + next(pieces)
    session.ask("Why?")
    assert [turn["content"] for turn in session._turns] == ["What?", first.strip(), "Why?"]
    session.ask("How?")  # the answer before had no word
    assert [turn["content"] for turn in session._turns] == ["What?", first.strip(), "How?"]


def test_a_conversation_that_is_full_is_refused_until_it_is_reset(place):
    model, tokenizer = loaded(place)
    session = ChatSession(model, tokenizer, "Be kind.", max_new_tokens=10, context=150, temperature=0)
    with pytest.raises(
        MiniloraError,
        match="has 1[0-9][0-9] tokens, .* no room for an answer in the context of 150: reset it, or shorten",
    ):
        for index in range(12):
            answer_to(session, f"What is {index}?")
            assert session._cache.length <= 150
    assert len(session._turns) >= 4 and session._turns[-1]["role"] == "assistant"  # what was said stays
    session.reset()
    assert answer_to(session, "What is 0?")
    with pytest.raises(MiniloraError, match="empty"):
        session.ask(" ")
