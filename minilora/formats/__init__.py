"""Files in and out: safetensors and Hugging Face folders, read as untrusted input and written whole or not at all."""
