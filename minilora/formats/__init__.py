"""File formats: safetensors, Hugging Face folders, GGUF. Input is not trusted; files are written atomically."""
