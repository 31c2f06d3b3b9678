"""From text to batches: corpora, examples, a tokenizer, batches and a jargon, all without a model."""


def __getattr__(name: str):
    if name == "load_examples":  # imported here because it needs NumPy, which --help does not
        from minilora.data.examples import load_examples

        return load_examples
    raise AttributeError(f"module 'minilora.data' has no attribute {name!r}")
