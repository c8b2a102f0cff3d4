"""Alphabets of Omniglot as classes: RepMet by the number of representatives."""

from fsljax.reproduce import Row, Table


def get_table() -> Table:
    merged = ("--config.data.merge=alphabets",)
    rows = [Row(f"RepMet, k = {k}", f"repmet_omniglot_{k}_48_4", "soft_posterior", merged) for k in (1, 3, 5)]
    return Table(tuple(rows), seeds=(0,), beside=("nearest_representative", "purity"))
