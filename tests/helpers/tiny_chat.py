"""A small untrained chat model in a folder, for tests: a Llama whose tokenizer has ChatML's special tokens."""

import json
from collections.abc import Iterable
from pathlib import Path

from minilora.data.tokenizer import Tokenizer, train_tokenizer
from minilora.train import load
from minilora.train.save import save_model

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def add_tokens(content: dict, *names: str, special: bool = True) -> dict:
    """Add tokens, with the next free ids, to the content of a tokenizer.json, and return it."""
    settings = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    first = len(content["model"]["vocab"])
    content["added_tokens"] += [{"id": first + i, "content": name, **settings} for i, name in enumerate(names)]
    return content


def save(
    folder: Path,
    texts: Iterable[str],
    vocab_size: int = 300,
    template: str | None = CHATML,
    **sizes,
) -> Path:
    """Save the model, with a tokenizer trained on `texts`, and return its folder. sizes: override SIZES."""
    content = add_tokens(json.loads(train_tokenizer(texts, vocab_size).to_json()), "<|im_start|>", "<|im_end|>")
    tokenizer = Tokenizer.from_json(json.dumps(content), "<|im_end|>", chat_template=template)
    model = load.new_model(tokenizer, 0, **({"max_position_embeddings": 256} | SIZES | sizes))
    return save_model(model, tokenizer, folder)
