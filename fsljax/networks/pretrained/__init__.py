"""Weights of published networks by name, fetched where need be, and what they say of themselves."""

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
