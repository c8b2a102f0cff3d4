"""Flowers on frozen features: RepMet's losses beside the methods of the table `flowers`."""

from fsljax.reproduce import Row, Table, read_table

SETTINGS = {"margin": "nearest_representative", "v1": "soft_posterior", "v2": "soft_posterior"}


def get_table() -> Table:
    rows = [
        Row(
            f"RepMet {version}, k = {k}",
            f"repmet_flowers_mnv2F_{k}_12_4",
            setting,
            ("--config.data.train_on=train_and_validation", f"--config.loss.version={version}"),
        )
        for version, setting in SETTINGS.items()
        for k in (1, 3)
    ]
    return Table((*read_table("flowers").rows, *rows))
