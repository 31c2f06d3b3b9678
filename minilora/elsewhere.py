"""Names that users of transformers, PEFT, TRL and PyTorch may expect here, and what to use instead."""

from collections.abc import Iterable, Mapping

from minilora.errors import MiniloraError, escape, print_notes, unknown

INSTEAD = {  # what to use here -> names that it replaces
    "train.loop.train, or the command minilora finetune": "Trainer SFTTrainer",
    "train.config.TrainConfig, or the flags of minilora finetune": "TrainingArguments SFTConfig",
    "quant.quantize_model(model), before get_peft_model": "BitsAndBytesConfig prepare_model_for_kbit_training",
    "tokenizer(texts, padding=True, return_tensors='pt')": "DataCollatorForLanguageModeling default_data_collator",
    "a list of batches": "DataLoader utils",
    "AutoPeftModelForCausalLM of minilora itself": "AutoPeftModelForCausalLM",
    "data.load_examples": "load_dataset",
    "models.llama.LlamaForSequenceClassification": "AutoModelForSequenceClassification",
    "AutoModelForCausalLM, as there are only decoders": "AutoModelForSeq2SeqLM AutoModel",
    "the arguments of model.generate": "GenerationConfig",
    "model.generate_stream": "TextStreamer",
    "model.generate, or the command minilora generate": "pipeline",
    "optim.lr_scheduler": "get_cosine_schedule_with_warmup get_scheduler",
    "the seed of get_peft_model, generate and TrainConfig": "set_seed manual_seed",
    "LoraConfig with rank_pattern": "AdaLoraConfig",
    "PromptTuningConfig or PrefixTuningConfig": "PromptEncoderConfig",
    "AdamW with weight_decay=0": "Adam",
    "backend.use('cupy'), or MINILORA_BACKEND=cupy": "cuda device",
}
IDLE = {  # arguments of other libraries -> values that change nothing, because minilora does that anyway
    **dict.fromkeys(("dtype", "torch_dtype"), ("auto", "float32", "float16", "bfloat16", None)),
    **dict.fromkeys(("trust_remote_code", "use_fast"), (True, False)),
    "device_map": ("auto", "cpu", None),
    "use_cache": (True,),
    "num_beams": (1,),
}


def missing(module: str, name: str) -> Exception:
    """Return the error for a name that `module` lacks. If INSTEAD has a replacement, it is an ImportError, because
    `from … import …` would not show the message of an AttributeError.
    """
    for use, names in INSTEAD.items():
        if name in names.split():
            return ImportError(f"{module} has no {name}: use {use}")
    return AttributeError(f"module {module!r} has no attribute {name!r}")


def check_arguments(function: str, arguments: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise MiniloraError for arguments that `function` does not have, except for those that change nothing (IDLE).

    known: the arguments that it has, for the message.
    """
    for name, value in arguments.items():
        if name not in IDLE:
            raise MiniloraError(unknown(f"{function}() argument", name, known))
        if value not in IDLE[name]:
            raise MiniloraError(f"{function}() takes only {name}={IDLE[name][0]!r} here, not {escape(repr(value))}")
        if value in ("float16", "bfloat16"):
            print_notes([f"weights are float32 here, not {value}; quant.quantize_model stores them in 4 bits"])
