"""Parameter-efficient fine-tuning, in the names and files of Hugging Face's PEFT.

A method is one file beside this one (a configuration and the layer that it puts in place) and one line in METHODS;
`model.py` does everything that is the same for all of them.
"""

from .lora import LoraConfig
from .model import METHODS, AdapterLayer, PeftConfig, PeftModel, base_fingerprint, get_peft_model

METHODS["LORA"] = LoraConfig

__all__ = ["METHODS", "AdapterLayer", "LoraConfig", "PeftConfig", "PeftModel", "base_fingerprint", "get_peft_model"]
