"""Model families: `llama`, the architecture of most open models today (Mistral and Qwen2 too), and `gpt2`."""
