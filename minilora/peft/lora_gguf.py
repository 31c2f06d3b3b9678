"""A LoRA adapter alone as a GGUF file, which llama.cpp's tools take beside the base's as --lora.

    general.type "adapter", adapter.type "lora", general.architecture as of the base
    adapter.lora.alpha       of all updates: each is scaled by alpha / r, where r is the number of B's columns
    NAME.weight.lora_a       A (r, in); NAME is the module's in the base's file
    NAME.weight.lora_b       B (out, r), its rows in the order of the base's

As convert_lora_to_gguf.py of llama.cpp writes it and src/llama-adapter.cpp reads it. rsLoRA's scaling is written as
another alpha; where modules differ in it, B is multiplied by what alpha does not say.
"""

from functools import partial

import numpy as np

from minilora.backend import to_numpy
from minilora.errors import MiniloraError, first_few
from minilora.formats.gguf import GGUF
from minilora.formats.stored import StoredTensor
from minilora.models.llama_gguf import WRITTEN, check_family, gguf_place
from minilora.peft.lora import LoraConfig, LoraLinear
from minilora.peft.method import method_of
from minilora.peft.model import PeftModel


def lora_gguf(adapted: PeftModel) -> GGUF:
    """The adapter, in float32. MiniloraError for a method other than plain LoRA, and for modules that such a file has
    no words for.
    """
    check_family(adapted.base_model)
    config = adapted.peft_config
    if not isinstance(config, LoraConfig) or config.use_dora or config.is_pissa:
        label = method_of(config).label
        raise MiniloraError(f"llama.cpp's --lora does not know {label}: only plain LoRA can be written so")
    homeless = list(config.modules_to_save or [])
    alpha = config.scaling * config.r
    with adapted.disable_adapter():
        is_tied = adapted.config.tie_word_embeddings  # the head is in the base's file under the embeddings' name alone
    tensors: dict[str, np.ndarray] = {}
    for path, layer in adapted.base_model.named_modules():
        if isinstance(layer, LoraLinear):
            name, order = gguf_place(path, adapted.config)
            if name is None or (path == "lm_head" and is_tied):
                homeless.append(path)
                continue
            a, b = to_numpy(layer.lora_A.weight.data), to_numpy(layer.lora_B.weight.data)
            factor = layer.scaling * len(a) / alpha
            tensors[f"{name}.weight.lora_a"] = a
            tensors[f"{name}.weight.lora_b"] = order(b if factor == 1 else b * b.dtype.type(factor))
    if homeless:
        raise MiniloraError(
            f"{first_few(homeless)} cannot be in an adapter for llama.cpp's --lora: merge it into its base"
        )
    metadata: dict[str, object] = {
        "general.type": "adapter",
        "general.architecture": WRITTEN[adapted.config.model_type],
        "adapter.type": "lora",
        "adapter.lora.alpha": float(alpha),
        "general.file_type": 0,  # all F32
    }
    stored = {name: StoredTensor(array.shape, partial(np.asarray, array), "F32") for name, array in tensors.items()}
    return GGUF(metadata, stored)
