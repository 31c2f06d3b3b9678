"""Text and what becomes of it: corpora, examples, the tokenizer, batches, a labelled task, a jargon. Knows nothing of
models.
"""


def __getattr__(name: str):
    if name == "load_examples":  # with NumPy, which --help does without
        from minilora.data.examples import load_examples

        return load_examples
    raise AttributeError(f"module 'minilora.data' has no attribute {name!r}")
