"""Pairs of Tiny ImageNet's classes, and the classes recovered; Magnet goes on from softmax."""

from fsljax.reproduce import Row, Table

MERGED = ("--config.data.merge=pairs",)
SETTING = "hierarchy_recovery"


def get_table() -> Table:
    whole = (*MERGED, "--config.train.steps=1500")
    start = Row("softmax", "softmax_tiny_imagenet_2_12_4", SETTING, (*MERGED, "--config.train.steps=750"))
    rest = (
        *MERGED, "--config.train.steps=750", "--config.train.clusters=24", "--config.train.examples=2",
        "--config.train.refresh_every=200", "--config.train.clusters_per_class=2",
        "--config.eval.clusters_per_class=2",
    )  # fmt: skip
    return Table(
        (
            Row("softmax", "softmax_tiny_imagenet_2_12_4", SETTING, whole),
            Row("triplet", "triplet_tiny_imagenet_2_12_4", SETTING, whole),
            Row("magnet after softmax, k = 2", "magnet_tiny_imagenet_2_12_4", SETTING, rest, start),
        )
    )
