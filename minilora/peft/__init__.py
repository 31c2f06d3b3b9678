"""Parameter-efficient fine-tuning, in the names and files of Hugging Face's PEFT.

Each method is one file in this folder (its configuration, its layer and its record) and one line below. What all
methods share is in `config.py` (their interface, and finding modules by name), `method.py` (the record from which
flags, tables, plots and the planner are made), `sites.py` and `model.py` (adapting) and `files.py` (saving, loading).
"""

from minilora.elsewhere import missing
from minilora.peft.config import AdapterLayer, PeftConfig, TaskType
from minilora.peft.files import base_fingerprint
from minilora.peft.method import CONFIGS, METHODS, Method, Option, Options
from minilora.peft.model import PeftModel, get_peft_model

# One line per method, in the order of all tables.
# ruff: isort: off
from minilora.peft import whole as whole  # full fine-tuning, feature extraction
from minilora.peft.bitfit import BitFitConfig as BitFitConfig, LNTuningConfig as LNTuningConfig
from minilora.peft.ia3 import IA3Config as IA3Config
from minilora.peft.prompt import PromptTuningConfig as PromptTuningConfig
from minilora.peft.prefix import PrefixTuningConfig as PrefixTuningConfig
from minilora.peft.bottleneck import BottleneckConfig as BottleneckConfig
from minilora.peft.lora_methods import LoraConfig as LoraConfig, lora_plus_groups as lora_plus_groups
from minilora.peft.vera import VeraConfig as VeraConfig
# ruff: isort: on

__all__ = ["CONFIGS", "METHODS", "AdapterLayer", "Method", "Option", "Options", "PeftConfig", "PeftModel", "TaskType"]
__all__ += ["base_fingerprint", "get_peft_model", "lora_plus_groups"]
__all__ += [config.__name__ for config in CONFIGS.values()]


def __getattr__(name: str) -> object:
    raise missing("minilora.peft", name)
