"""Modules and layers, under PyTorch's names: `Module` is in module.py, the layers in layers.py."""

from minilora.nn.layers import (
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    RMSNorm,
    RowGenerators,
    active_dropouts,
    dropout_rng,
    dropout_twice,
    manual_seed,
    row_generators,
)
from minilora.nn.module import Module, Parameter, adapted_modules

__all__ = [
    "Dropout", "Embedding", "LayerNorm", "Linear", "Module", "Parameter", "RMSNorm", "RowGenerators",
    "active_dropouts", "adapted_modules", "dropout_rng", "dropout_twice", "manual_seed", "row_generators",
]  # fmt: skip
