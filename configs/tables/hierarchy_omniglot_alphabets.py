"""Alphabets of Omniglot as classes, and the characters recovered; Magnet goes on from softmax."""

from fsljax.reproduce import Row, Table

MERGED = ("--config.data.merge=alphabets",)
SETTING = "hierarchy_recovery"


def get_table() -> Table:
    whole = (*MERGED, "--config.train.steps=3000")
    start = Row("softmax", "softmax_omniglot_2_12_4", SETTING, (*MERGED, "--config.train.steps=2000"))
    rest = (
        *MERGED, "--config.train.steps=1000", "--config.train.clusters=24", "--config.train.examples=2",
        "--config.train.refresh_every=200", "--config.train.clusters_per_class=32",
        "--config.eval.clusters_per_class=32",
    )  # fmt: skip
    return Table(
        (
            Row("softmax", "softmax_omniglot_2_12_4", SETTING, whole),
            Row("triplet", "triplet_omniglot_2_12_4", SETTING, whole),
            Row("magnet after softmax, k = 32", "magnet_omniglot_2_12_4", SETTING, rest, start),
        )
    )
