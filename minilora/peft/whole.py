"""Training the model's own weights: all of them, or only the head on a frozen body (feature extraction)."""

from typing import Any

from minilora.models.llama import LlamaForSequenceClassification
from minilora.nn import Linear
from minilora.palette import PINK
from minilora.peft.method import Counts, Trainable, register


def train_head(model: Any) -> None:
    """Freeze everything but the head, in place. A head that is tied to the embeddings becomes a separate copy."""
    model.requires_grad_(False)
    if isinstance(model, LlamaForSequenceClassification):
        model.score.requires_grad_(True)
        return
    if model.config.tie_word_embeddings:  # the head trains, the embeddings do not
        model.lm_head = Linear.from_arrays(model.lm_head.weight.data.copy())
        model.config.tie_word_embeddings = False
    model.lm_head.requires_grad_(True)


def plan_all(shape: Any, options: Any) -> Trainable:
    norm = shape.hidden * (1 + shape.norm_biases)
    counts = Counts(
        head=shape.in_embedding,
        block=(shape.in_linears + shape.in_biases) // shape.layers + 2 * norm,
        down=shape.hidden * shape.intermediate,
        embedding=(0 if shape.tied else shape.in_embedding) + shape.positions * shape.hidden,
        norm=norm,
    )
    return Trainable(counts, is_base=True, embedding=True, norms=True, reads=frozenset(shape.linears))


register(
    name="feature-extraction",
    label="feature extraction",
    description="the head alone, on a frozen body",
    family="own weights",
    color=PINK,
    marker="D",
    linestyle="-.",
    lr=9e-3,
    large_lr=9e-4,
    plan=lambda shape, options: Trainable(Counts(head=shape.in_embedding), is_base=not shape.tied),
    make_trainable=train_head,
    other_names=("feature_extraction",),
)
register(
    name="full",
    label="full",
    description="every weight",
    family="own weights",
    marker="o",
    linestyle="-",
    lr=1.5e-3,
    large_lr=5e-5,
    plan=plan_all,
    make_trainable=lambda model: model.requires_grad_(True),
    other_names=("full-fine-tuning",),
)
