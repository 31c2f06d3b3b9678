"""pytest tests/parity/test_chat_parity.py: conversations give the ids of transformers' apply_chat_template.

transformers runs the template; minilora recognises it and writes the conversation down itself. The templates, in
chat_templates/, are those that the families publish.
"""

import json
from pathlib import Path

import pytest

from minilora.data import chat
from minilora.data.tokenizer import Tokenizer, train_tokenizer

transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.parity, pytest.mark.host]

TEMPLATES = {path.stem: path.read_bytes().decode() for path in (Path(__file__).parent / "chat_templates").iterdir()}
CHATML, QWEN25 = TEMPLATES["chatml"], TEMPLATES["qwen25"]
MATH = "Don\\'t guess: reason, and put your {answer} into \\\\boxed{}."
IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
HEADERS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
SMOLLM2 = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
FAMILIES = {  # template, special tokens, bos, eos
    "smollm2": (CHATML.replace("SYSTEM", SMOLLM2), IM, 2, 2),
    "qwen2": (CHATML.replace("SYSTEM", "You are a helpful assistant."), IM, None, 2),
    "qwen2.5": (QWEN25, IM, None, 2),
    "qwen2.5-math": (
        QWEN25.replace("You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", MATH),
        IM,
        None,
        2,
    ),
    "llama3": (TEMPLATES["llama3"], HEADERS, 0, 4),
    "llama3.1": (TEMPLATES["llama31"], HEADERS, 0, 4),
}
PREPEND = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
PREFIXES = {"none": {}, "prepend": {"normalizer": PREPEND, "pre_tokenizer": None}}
TEXTS = [f"user\nWhat is {i}?  [INST] It is the answer. [/INST] <|user|>\nassistant\n\nSo it is." for i in range(30)]


def tokenizer_json(special: tuple[str, ...], prefix: str) -> dict:
    model = json.loads(train_tokenizer([t.replace(" ", "▁") for t in TEXTS] + TEXTS, 400).to_json())
    vocab = sorted(model["model"]["vocab"], key=model["model"]["vocab"].get)[1:]
    if prefix != "none":  # characters for tokens, and what is not among them in bytes
        vocab = ["▁", *(chr(i) for i in range(32, 127)), "▁t", "he", "▁the", "is", "▁is", "▁▁", "]▁"]
        vocab += [f"<0x{i:02X}>" for i in range(256)]
        vocab = [*dict.fromkeys(vocab)]
        merges = "▁ t,h e,▁t he,i s,▁ is,▁ ▁,] ▁"
        model["model"]["merges"] = [merge.split() for merge in merges.split(",")]
        model["model"] |= {"byte_fallback": True}
        replace = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
        model["decoder"] = {"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"}, {"type": "Fuse"}]}
    names = [*special, *vocab]
    model["model"]["vocab"] = {name: index for index, name in enumerate(names)}
    settings = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    model["added_tokens"] = [{"id": i, "content": name, **settings} for i, name in enumerate(special)]
    return model | PREFIXES[prefix]


def message(role: str, content: str) -> dict:
    return {"role": role, "content": content}


SYSTEM = message("system", " Be brief\nalways. ")
QUESTION, MORE = message("user", "  What is\n\nthe 日 12? "), message("user", "the\n")
ANSWER, LAST = message("assistant", " It is the.  "), message("assistant", "\nthe  é👍 the")
CONVERSATIONS = [
    [QUESTION],
    [QUESTION, ANSWER],
    [QUESTION, ANSWER, MORE],
    [QUESTION, ANSWER, MORE, LAST],
    [MORE, LAST, QUESTION, ANSWER],
    [SYSTEM, QUESTION],
    [SYSTEM, QUESTION, ANSWER],
    [SYSTEM, QUESTION, ANSWER, MORE, LAST],
    [SYSTEM, QUESTION, LAST, QUESTION, ANSWER, MORE],
    [message("system", ""), MORE, ANSWER],
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_the_template(family, prefix, tmp_path):
    template, special, bos, eos = FAMILIES[family]
    content = tokenizer_json(special, prefix)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    names = {"eos_token": special[eos], "bos_token": None if bos is None else special[bos]}
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), **names)
    theirs.chat_template = template
    ours = Tokenizer.from_json(json.dumps(content), special[eos], bos_token=names["bos_token"], chat_template=template)
    chat_format = chat.find_format(ours)
    for messages in CONVERSATIONS:
        for generating in (False, True):
            if generating and messages[-1]["role"] == "assistant":
                continue
            ids, mask = chat_format.encode(ours, messages, generating)
            expected = theirs.apply_chat_template(messages, add_generation_prompt=generating, return_dict=False)
            assert ids.tolist() == expected, (messages, theirs.apply_chat_template(messages, tokenize=False))
            text = theirs.apply_chat_template(messages, add_generation_prompt=generating, tokenize=False)
            assert ours.apply_chat_template(messages, add_generation_prompt=generating) == expected
            assert ours.apply_chat_template(messages, tokenize=False, add_generation_prompt=generating) == text
            assert ours(text).input_ids == theirs(text).input_ids == expected
            answers = [m["content"] for m in messages if m["role"] == "assistant"]
            edges = (mask[1:] & ~mask[:-1]).sum() + mask[:1].sum()
            assert edges == len(answers)
            # What is learned are the answers and their ends, and nothing else. (A token across the edge is no answer.)
            learned = ours.decode(ids[mask]).replace("\ufffd", "")
            assert "".join(learned.split()) == "".join("".join(answers).split())
            assert (ids[mask] == ours.special_ids[chat_format.end]).sum() == len(answers)
            assert mask.any() == bool(answers) and not (answers and generating and mask[-1])
