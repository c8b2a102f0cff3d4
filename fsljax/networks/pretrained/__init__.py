"""Published weights by name, downloaded if necessary, and the settings they specify."""

from fsljax.networks.pretrained.filling import as_begun, described, located, without_gaps
from fsljax.networks.pretrained.finding import Pretrained, identity, resolve
from fsljax.networks.pretrained.table import KNOWN, Entry

__all__ = [
    "KNOWN",
    "Entry",
    "Pretrained",
    "as_begun",
    "described",
    "identity",
    "located",
    "resolve",
    "without_gaps",
]
