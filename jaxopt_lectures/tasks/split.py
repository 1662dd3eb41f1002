"""One way to split data that comes in one piece: results of different machines and days are of the same parts."""

import numpy as np

SEED = 0  # one split for everyone


def in_three(x: np.ndarray, y: np.ndarray, *, stratify: bool = False) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets, 60 % to train, 20 % to validate, 20 % to test; `stratify`: equal shares of every label."""
    from sklearn.model_selection import train_test_split

    x, x_rest, y, y_rest = train_test_split(x, y, train_size=0.6, stratify=y if stratify else None, random_state=SEED)
    x_validation, x_test, y_validation, y_test = train_test_split(
        x_rest, y_rest, train_size=0.5, stratify=y_rest if stratify else None, random_state=SEED
    )
    return [(x, y), (x_validation, y_validation), (x_test, y_test)]
