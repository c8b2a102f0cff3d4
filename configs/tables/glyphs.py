"""Characters of fonts, 200 classes: losses under the same budget."""

from fsljax.reproduce import Row, Table


def get_table() -> Table:
    return Table(
        (
            Row("softmax", "softmax_glyphs_2", "softmax"),
            Row("triplet", "triplet_glyphs_2", "nearest_cluster"),
            Row("magnet", "magnet_glyphs_2", "nearest_cluster"),
        )
    )
