"""Model families: `llama`, the one that people use today, and `gpt2`."""
