"""Feature extraction by a probe: logistic regression on the hidden states of a model that stays as it is (Alain and
Bengio 2017, "Understanding intermediate layers using linear classifier probes"), with scikit-learn.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minilora.data.batches import padded_left
from minilora.errors import MiniloraError
from minilora.tensor import no_grad
from minilora.train.answers import in_batches

STRENGTHS = 10.0 ** np.arange(-6, 3)  # of scikit-learn's C: the inverse of the penalty
FOLDS = 5


def features(model: Any, prompts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of each prompt's last hidden states, (N, C)."""

    def pooled(rows: list[np.ndarray]) -> np.ndarray:
        batch = padded_left(rows)
        with no_grad():
            hidden = model.body(batch["input_ids"], batch["attention_mask"]).numpy()  # (B, T, C)
        mask = batch["attention_mask"][..., None]
        return (hidden * mask).sum(axis=1) / mask.sum(axis=1)

    return np.array(in_batches(pooled, prompts, list(map(len, prompts)), 16, lambda n: None))


def fit(learned: np.ndarray, labels: Sequence[str], seed: int) -> Any:
    """Return a probe of features (N, C), each with mean 0 and variance 1: its `predict` gives labels.

    The penalty is the one with the least loss in cross-validation on these examples. Raises MiniloraError if
    scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise MiniloraError("the probe is fitted by scikit-learn: pip install minilora[baseline]") from error
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = StratifiedKFold(min(FOLDS, min(map(list(labels).count, set(labels)))), shuffle=True, random_state=seed)
    grid = {"logisticregression__C": STRENGTHS}
    return GridSearchCV(model, grid, scoring="neg_log_loss", cv=folds).fit(learned, labels)
