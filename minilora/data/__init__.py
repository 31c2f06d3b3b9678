"""Text and what becomes of it: corpora, the tokenizer, batches, a labelled task, a jargon. Knows nothing of models."""
