"""How good is a model: bits per character of a text, accuracy on a labelled task."""

from math import log

import numpy as np

from minilora import backend
from minilora.tensor import no_grad
from minilora.train.parallel import Workers, rows_of, split_batch, take


def _losses_and_logits(model, batches, workers: Workers, want_logits: bool):
    """This rank's rows of each batch, and for each worker's part of them the summed loss and, if wanted, the logits."""

    def part(batch: dict):
        out = model(**batch, num_items_in_batch=1)
        logits = backend.to_numpy(out.logits.data) if want_logits else None
        return float(out.loss.item()), logits

    was_training = model.training
    model.eval()
    try:
        with no_grad():
            for batch in batches:
                mine = take(batch, workers.world.share(rows_of(batch)))
                if len(mine["input_ids"]):
                    yield mine, workers.map(part, split_batch(mine, workers.count))
    finally:
        model.train(was_training)


def bits_per_character(model, batches, characters: int, workers: Workers) -> float:
    """-log2 of the probability that a language model gives to a text, over the number of its characters.

    Comparable between tokenizers, as loss a token is not. batches: windows that hold each token as a label once
    (`data.batches.evaluation_windows`).
    """
    nats = sum(loss for _, parts in _losses_and_logits(model, batches, workers, False) for loss, _ in parts)
    return workers.world.sum(nats) / log(2) / characters


def accuracy(model, batches, workers: Workers) -> float:
    """The share of rows whose most likely class is the label."""
    right = total = 0
    for batch, parts in _losses_and_logits(model, batches, workers, True):
        predicted = np.concatenate([logits for _, logits in parts]).argmax(axis=1)
        right += int((predicted == batch["labels"]).sum())
        total += len(batch["labels"])
    return workers.world.sum(right) / workers.world.sum(total)
