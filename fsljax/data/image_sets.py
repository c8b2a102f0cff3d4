"""What must be known of a published classification data set to read it in its TFDS form."""

from __future__ import annotations

from typing import NamedTuple

from PIL.Image import Resampling

from fsljax.data.io.decode import Fitting


class ImageSet(NamedTuple):
    """A data set in TFDS, with the features "image" and "label".

    Attributes:
      tfds_name, version: there.
      test: the split that is tested on; of ImageNet's images only these have published labels.
      validation: the official split for validation; None where there is none.
      train: the split that is trained on.
      resampling: Pillow's filter, antialiased, that brings images to size.
    """

    tfds_name: str
    version: str
    test: str = "test"
    validation: str | None = None
    train: str = "train"
    resampling: Resampling = Resampling.BILINEAR

    @property
    def fitting(self) -> Fitting:
        """The centre square, then resized."""
        return Fitting(self.resampling, cut_first=True)
