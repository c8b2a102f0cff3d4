"""Facts about published classification data sets, by the name that `config.data.name` gives them."""

from __future__ import annotations

from typing import NamedTuple

from PIL.Image import Resampling


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


IMAGE_SETS = {
    "oxford_flowers102": ImageSet("oxford_flowers102", "2.1.1", validation="validation"),
    "oxford_iiit_pet": ImageSet("oxford_iiit_pet", "4.0.0"),
    "stanford_dogs": ImageSet("stanford_dogs", "0.2.0"),
    "mnist": ImageSet("mnist", "3.0.1"),
    "cifar100": ImageSet("cifar100", "3.0.2"),
    "imagenet2012": ImageSet("imagenet2012", "5.1.0", test="validation"),
    "tiny_imagenet": ImageSet("tiny_imagenet_32", "1.0.0", test="validation", resampling=Resampling.BICUBIC),
}
