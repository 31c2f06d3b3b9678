# %% [markdown]
# # Lesson 05: pretraining
#
# Six tasks: the loss, the learning rate, the optimizer, the loop that uses all three, and then writing: which token
# comes next, and the one after. The reading is README.md beside this file, and sampling.md for tasks 5 and 6.
# `minilora check 05` says how far you are, `minilora check 05 --hint` helps.
#
# A model is a module that you call with token ids (B, T), an array of integers, and that returns logits (B, T, V), a
# Tensor: for each place, a number for each token that could come next. What it is made of does not matter here.
#
# Shapes: B texts, T tokens, V tokens in the vocabulary.

# %%
from math import cos, pi

import numpy as np

from minilora import Tensor, nn, no_grad

# %% [markdown]
# ## Task 1: the loss
#
# The logits at place t are about the token at place t + 1. The loss is the mean of -log p(that token), in nats, over
# the T - 1 places of each text that have a next one. -log softmax(logits)[i] is logsumexp(logits) - logits[i], and
# Tensors have `logsumexp(axis)`. They take index arrays as NumPy's arrays do.


# %%
def next_token_loss(logits: Tensor, ids: np.ndarray) -> Tensor:
    """logits (B, T, V), ids (B, T) -> one number, a Tensor of shape ()."""
    ### BEGIN SOLUTION task 1: compare with the next token
    predictions, targets = logits[:, :-1], ids[:, 1:]
    row, place = np.indices(targets.shape)
    chosen = predictions[row, place, targets]  # (B, T - 1)
    return (predictions.logsumexp(axis=-1) - chosen).mean()
    ### END SOLUTION


# %% [markdown]
# ## Task 2: the learning rate
#
# Up in a straight line, then down in half a cosine. At step 0 the rate is already peak / warmup; at step warmup - 1 it
# is the peak, and at step warmup as well. The last step is steps - 1; the check also asks for step = steps, where the
# formula gives floor · peak.


# %%
def learning_rate(step: int, steps: int, warmup: int, peak: float, floor: float = 0.1) -> float:
    """The rate at `step`, which counts from 0. warmup may be 0."""
    ### BEGIN SOLUTION task 2: warm up, then cool down
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / (steps - warmup)
    return peak * (floor + (1 - floor) * (1 + cos(pi * progress)) / 2)
    ### END SOLUTION


# %% [markdown]
# ## Task 3: the optimizer
#
# Two running means, one of the gradient, one of its square; both are corrected for having begun at zero. The decay of
# the weights is a thing of its own: it does not pass through the means.


# %%
def adamw_step(
    p: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step of AdamW on a parameter p with gradient g; returns the new (p, m, v), all of p's shape, as new arrays.

    step counts from 1. m and v are zeros at the first step.
    """
    ### BEGIN SOLUTION task 3: one step of AdamW
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    corrected_m = m / (1 - betas[0] ** step)
    corrected_v = v / (1 - betas[1] ** step)
    p = p - lr * weight_decay * p - lr * corrected_m / (np.sqrt(corrected_v) + eps)
    return p, m, v
    ### END SOLUTION


# %% [markdown]
# ## Task 4: the loop
#
# `model.parameters()` gives the model's Tensors. A Tensor's array is `p.data`, which may be assigned; after
# `loss.backward()` its gradient is `p.grad`, an array, to which the next backward adds unless it is set to None. Frozen
# ones have `p.requires_grad == False` and get no gradient. `loss.item()` is the loss as a number. Weight decay is for
# matrices, those with two axes; vectors, such as the weights of norms, have none.


# %%
def train(
    model: nn.Module, batches: list[np.ndarray], steps: int, peak: float, warmup: int, weight_decay: float = 0.1
) -> list[float]:
    """Train the model in place, by the functions above; returns each step's loss, from before its update.

    batches: arrays of ids (B, T), one per step, again from the first when all have been used. Each call begins anew,
    at step 0 and with m and v of zeros.
    """
    ### BEGIN SOLUTION task 4: the training loop
    learning = [p for p in model.parameters() if p.requires_grad]
    moments = [(np.zeros_like(p.data), np.zeros_like(p.data)) for p in learning]
    losses = []
    for step in range(steps):
        ids = batches[step % len(batches)]
        loss = next_token_loss(model(ids), ids)
        loss.backward()
        losses.append(loss.item())
        lr = learning_rate(step, steps, warmup, peak)
        for i, p in enumerate(learning):
            decay = weight_decay if p.ndim > 1 else 0.0
            p.data, *moments[i] = adamw_step(p.data, p.grad, *moments[i], step + 1, lr, weight_decay=decay)
            p.grad = None
    return losses
    ### END SOLUTION


# %% [markdown]
# ## Task 5: which token comes next?
#
# Dividing the logits by a temperature below 1 makes the likely tokens likelier, above 1 it evens things out. Top-k
# forbids all but the k likeliest.


# %%
def next_token_probabilities(logits: np.ndarray, temperature: float = 1.0, top_k: int | None = None) -> np.ndarray:
    """logits (V,) -> probabilities (V,), which add up to 1.

    temperature 0: all on the likeliest token. top_k: tokens beyond the k likeliest get 0; None: all may come.
    """
    ### BEGIN SOLUTION task 5: temperature and top-k
    if temperature == 0:
        top_k, temperature = 1, 1.0
    weights = np.exp((logits - logits.max()) / temperature)
    if top_k is not None:
        weights[np.argsort(-logits)[top_k:]] = 0
    return weights / weights.sum()
    ### END SOLUTION


# %% [markdown]
# ## Task 6: and the one after
#
# Ask the model about the text so far, draw one token, append it, ask again. `rng.choice(V, p=...)` draws one of
# 0 … V - 1. No gradients are needed: `with no_grad():` keeps the model from remembering how it computed.


# %%
def generate(
    model: nn.Module, prompt: np.ndarray, count: int, temperature: float = 1.0, top_k: int | None = None, seed: int = 0
) -> np.ndarray:
    """prompt (T,) -> ids (T + count,): the prompt and `count` tokens that were drawn one after the other.

    The model sees all of the text, however long.
    """
    rng = np.random.default_rng(seed)
    ### BEGIN SOLUTION task 6: write token by token
    ids = prompt.tolist()
    with no_grad():
        for _ in range(count):
            logits = model(np.array([ids])).numpy()[0, -1]  # (1, T, V) -> (V,)
            probabilities = next_token_probabilities(logits.astype("float64"), temperature, top_k)
            ids.append(rng.choice(len(probabilities), p=probabilities))
    return np.array(ids)
    ### END SOLUTION
