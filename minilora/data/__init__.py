"""Text and what becomes of it: corpora, the tokenizer, batches, and a labelled task. Knows nothing of models."""
