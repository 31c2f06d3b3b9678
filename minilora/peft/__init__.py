"""Parameter-efficient fine-tuning, in the names and files of Hugging Face's PEFT.

A method is one file beside this one (a configuration and the layer that it puts in place) and one line in METHODS. What
is the same for all of them is in `config.py` (what a method provides, finding modules), `model.py` (adapting them) and
`files.py` (saving and loading).
"""

from minilora.peft.bitfit import BitFitConfig, LNTuningConfig
from minilora.peft.bottleneck import BottleneckConfig
from minilora.peft.config import METHODS, AdapterLayer, PeftConfig, TrainingHook
from minilora.peft.files import adapter_quantization, base_fingerprint
from minilora.peft.ia3 import IA3Config
from minilora.peft.lora import LoraConfig
from minilora.peft.lora_plus import lora_plus_groups
from minilora.peft.model import PeftModel, get_peft_model
from minilora.peft.prefix import PrefixTuningConfig
from minilora.peft.prompt import PromptTuningConfig

METHODS["LORA"] = LoraConfig
METHODS["PREFIX_TUNING"] = PrefixTuningConfig
METHODS["PROMPT_TUNING"] = PromptTuningConfig
METHODS["BOTTLENECK"] = BottleneckConfig
METHODS["IA3"] = IA3Config
METHODS["BITFIT"] = BitFitConfig
METHODS["LN_TUNING"] = LNTuningConfig

__all__ = [
    "METHODS",
    "AdapterLayer",
    "BitFitConfig",
    "BottleneckConfig",
    "IA3Config",
    "LNTuningConfig",
    "LoraConfig",
    "PeftConfig",
    "PeftModel",
    "PrefixTuningConfig",
    "PromptTuningConfig",
    "TrainingHook",
    "adapter_quantization",
    "base_fingerprint",
    "get_peft_model",
    "lora_plus_groups",
]
