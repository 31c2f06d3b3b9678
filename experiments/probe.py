"""Feature extraction with a probe: logistic regression on the hidden states of a frozen model (Alain and Bengio 2017,
"Understanding intermediate layers using linear classifier probes"), with scikit-learn.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from minilora.data.batches import padded_left
from minilora.errors import MiniloraError
from minilora.tensor import no_grad
from minilora.train.answers import in_batches

STRENGTHS = 10.0 ** np.arange(-6, 3)  # values of scikit-learn's C, the inverse of the penalty, that are tried
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
    """Fit scikit-learn's pipeline: features (N, C) scaled to mean 0 and variance 1, then logistic regression.

    The penalty is chosen by cross-validation on these examples, with folds that the seed draws. Raises MiniloraError if
    scikit-learn is not installed, or if a label has a single example, which cross-validation cannot hold out.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise MiniloraError("the probe needs scikit-learn: pip install minilora[baseline]") from error
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    fewest = min(Counter(labels).values())
    if fewest < 2:
        raise MiniloraError("a label has one example: the probe needs two or more of each to choose its penalty")
    folds = StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    search = GridSearchCV(model, {"logisticregression__C": STRENGTHS}, scoring="neg_log_loss", cv=folds)
    return search.fit(learned, labels).best_estimator_
