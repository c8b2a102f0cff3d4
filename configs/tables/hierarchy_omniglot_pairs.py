"""Pairs of Omniglot's characters as classes, and the characters recovered."""

from fsljax.reproduce import Row, Table


def get_table() -> Table:
    pairs = ("--config.data.merge=pairs",)
    methods = ("softmax", "triplet", "magnet")
    return Table(
        tuple(Row(method, f"{method}_omniglot_2_12_4", "hierarchy_recovery", pairs) for method in methods)
    )
