"""Flowers on frozen features: losses under the same budget, and baselines on the features alone."""

from fsljax.reproduce import Row, Table

ON_BOTH = ("--config.data.train_on=train_and_validation",)
SOFTMAX = "softmax_flowers_mnv2F_1_12_4"


def get_table() -> Table:
    half = Row("softmax", SOFTMAX, "softmax", (*ON_BOTH, "--config.train.steps=600"))
    return Table(
        (
            Row("logistic regression", SOFTMAX, "logistic_regression", ON_BOTH),
            Row("nearest class mean", SOFTMAX, "nearest_class_mean", ON_BOTH),
            Row("softmax", SOFTMAX, "softmax", ON_BOTH),
            Row("triplet", "triplet_flowers_mnv2F_1_12_4", "nearest_cluster", ON_BOTH),
            Row("magnet", "magnet_flowers_mnv2F_1_12_4", "nearest_cluster", ON_BOTH),
            Row("magnet after softmax", "magnet_flowers_mnv2F_1_24_2", "nearest_cluster", ON_BOTH, half),
        )
    )
