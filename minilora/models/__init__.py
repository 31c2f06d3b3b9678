"""Model families; `llama` is the one that people use today."""
