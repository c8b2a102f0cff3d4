"""Names of before the house was rebuilt: for one version they work, and warn.

`install` makes modules importable by the paths they had; `names_of` gives the names that have left a module.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, cast

MODULES = {
    "fsljax.data.annotation_xml": "fsljax.detection.data.annotations.voc_xml",
    "fsljax.data.augment": "fsljax.data.augmentation",
    "fsljax.data.cache": "fsljax.data.io.cache",
    "fsljax.data.coco": "fsljax.detection.data.sets.coco",
    "fsljax.data.decode": "fsljax.data.io.decode",
    "fsljax.data.detection_batches": "fsljax.detection.data.photograph_batches",
    "fsljax.data.detection_episodes": "fsljax.detection.data.episode_file",
    "fsljax.data.detection_set": "fsljax.detection.data.structures",
    "fsljax.data.encoded_images": "fsljax.data.io.encoded_images",
    "fsljax.data.episodes": "fsljax.data.samplers.episodes",
    "fsljax.data.folder": "fsljax.data.sources.folder",
    "fsljax.data.given_images": "fsljax.data.user_images",
    "fsljax.data.glyphs": "fsljax.data.sources.glyphs",
    "fsljax.data.image_episodes": "fsljax.detection.data.photograph_episodes",
    "fsljax.data.image_layouts": "fsljax.data.folders.layouts",
    "fsljax.data.imagenet_loc": "fsljax.detection.data.sets.imagenet_loc",
    "fsljax.data.neighbourhoods": "fsljax.data.samplers.neighbourhoods",
    "fsljax.data.omniglot": "fsljax.data.sources.omniglot",
    "fsljax.data.padded_images": "fsljax.detection.data.padded_images",
    "fsljax.data.photo_changes": "fsljax.data.photographic_augmentation",
    "fsljax.data.scene_drawings": "fsljax.detection.data.scenes.drawings",
    "fsljax.data.scene_episodes": "fsljax.detection.data.scenes.episodes",
    "fsljax.data.scene_ink": "fsljax.detection.data.scenes.ink",
    "fsljax.data.scenes": "fsljax.detection.data.scenes.composition",
    "fsljax.data.streaming": "fsljax.data.io.streaming",
    "fsljax.data.tfds_source": "fsljax.data.io.tfds_source",
    "fsljax.data.tiny_imagenet": "fsljax.data.sources.tiny_imagenet",
    "fsljax.data.voc": "fsljax.detection.data.sets.voc",
    "fsljax.detection.anchors": "fsljax.detection.ops.anchors",
    "fsljax.detection.boxes": "fsljax.detection.ops.boxes",
    "fsljax.detection.detections": "fsljax.detection.model.inference",
    "fsljax.detection.detector": "fsljax.detection.model.detector",
    "fsljax.detection.enrol": "fsljax.detection.model.enroll",
    "fsljax.detection.given": "fsljax.detection.model.regions",
    "fsljax.detection.head": "fsljax.detection.model.roi_head",
    "fsljax.detection.losses": "fsljax.detection.model.losses",
    "fsljax.detection.matching": "fsljax.detection.ops.matching",
    "fsljax.detection.nms": "fsljax.detection.ops.nms",
    "fsljax.detection.pyramid": "fsljax.detection.model.fpn",
    "fsljax.detection.region_proposals": "fsljax.detection.model.rpn",
    "fsljax.detection.roi_align": "fsljax.detection.ops.roi_align",
    "fsljax.detection.truths": "fsljax.detection.data.structures",
    "fsljax.enrolled": "fsljax.classification.enrollment",
    "fsljax.evaluation.average_precision": "fsljax.detection.evaluation.average_precision",
    "fsljax.evaluation.representatives": "fsljax.classification.representatives",
    "fsljax.evaluation.verdicts": "fsljax.detection.evaluation.verdicts",
    "fsljax.files": "fsljax.storage.replacing",
    "fsljax.methods.detector_data": "fsljax.detection.data.source",
    "fsljax.methods.detector_evaluation": "fsljax.detection.evaluation.base_classes",
    "fsljax.methods.embedder": "fsljax.classification.embedder",
    "fsljax.methods.episode_detections": "fsljax.detection.evaluation.episode_detections",
    "fsljax.methods.episode_images": "fsljax.detection.data.novel_photographs",
    "fsljax.methods.few_shot": "fsljax.classification.few_shot",
    "fsljax.methods.few_shot_detection": "fsljax.detection.evaluation.few_shot",
    "fsljax.methods.fine_grained": "fsljax.classification.task",
    "fsljax.methods.fine_grained_evaluation": "fsljax.classification.closed_set",
    "fsljax.methods.photographs": "fsljax.detection.data.photographs",
    "fsljax.methods.stored_detector": "fsljax.detection.model.stored",
    "fsljax.networks.conv4": "fsljax.networks.backbones.conv4",
    "fsljax.networks.cpu_kernels": "fsljax.networks.kernels.convolution",
    "fsljax.networks.grey_kernels": "fsljax.networks.kernels.grey",
    "fsljax.networks.inception_v3": "fsljax.networks.backbones.inception_v3",
    "fsljax.networks.lenet": "fsljax.networks.backbones.lenet",
    "fsljax.networks.mobilenet_v2": "fsljax.networks.backbones.mobilenet_v2",
    "fsljax.networks.scene_net": "fsljax.networks.backbones.scene_net",
    "fsljax.networks.winograd": "fsljax.networks.kernels.winograd",
    "fsljax.object_detector": "fsljax.detection.object_detector",
    "fsljax.reporting.classification": "fsljax.classification.report",
    "fsljax.reporting.detection": "fsljax.detection.report.detections",
    "fsljax.reporting.detection_episode": "fsljax.detection.report.episode",
    "fsljax.saved": "fsljax.training.saved_model",
    "fsljax.training.command_line": "fsljax.command_line",
    "fsljax.training.interruption": "fsljax.training.signals",
    "fsljax.training.metrics_log": "fsljax.training.logs",
    "fsljax.training.run": "fsljax.experiment",
}
# What changed its name beside its module, or left a module that stayed.
NAMES = {
    "fsljax.evaluation.episodic.embed_in_batches": "fsljax.data.batches.embed_in_batches",
    "fsljax.evaluation.episodic.sample": "fsljax.classification.episodes.sample",
    "fsljax.evaluation.episodic.check_setting": "fsljax.classification.episodes.check_setting",
    "fsljax.evaluation.episodic.write_episodes": "fsljax.classification.episode_file.write_episodes",
    "fsljax.evaluation.episodic.read_episodes": "fsljax.classification.episode_file.read_episodes",
    "fsljax.reporting.tables.Table": "fsljax.reporting.tables.ResultsTable",
    "fsljax.data.coco.load": "fsljax.detection.data.sets.coco.read_folder",
    "fsljax.data.detection_batches.DetectionBatch": "fsljax.detection.data.structures.ImageBatch",
    "fsljax.data.detection_episodes.Episodes": "fsljax.detection.data.episode_file.DetectionEpisodes",
    "fsljax.data.detection_set.Picture": "fsljax.detection.data.structures.StoredImage",
    "fsljax.data.detection_set.check_names": "fsljax.detection.data.set_operations.check_names",
    "fsljax.data.detection_set.collect": "fsljax.detection.data.set_operations.collect",
    "fsljax.data.detection_set.join": "fsljax.detection.data.set_operations.join",
    "fsljax.data.detection_set.take_classes": "fsljax.detection.data.set_operations.take_classes",
    "fsljax.data.detection_set.take_images": "fsljax.detection.data.set_operations.take_images",
    "fsljax.data.folder.load": "fsljax.data.sources.folder.load_splits",
    "fsljax.data.glyphs.load": "fsljax.data.sources.glyphs.load_splits",
    "fsljax.data.image_layouts.first_few": "fsljax.errors.first_few",
    "fsljax.data.imagenet_loc.load": "fsljax.detection.data.sets.imagenet_loc.read_folder",
    "fsljax.data.omniglot.load": "fsljax.data.sources.omniglot.load_splits",
    "fsljax.data.scenes.SceneOptions": "fsljax.detection.config.SceneOptions",
    "fsljax.data.tfds_source.download_zip": "fsljax.data.io.zip_archives.download_zip",
    "fsljax.data.tiny_imagenet.load": "fsljax.data.sources.tiny_imagenet.load_splits",
    "fsljax.data.voc.load_folder": "fsljax.detection.data.sets.voc.read_folder",
    "fsljax.data.voc.load_tfds": "fsljax.detection.data.sets.voc.read_tfds",
    "fsljax.detection.detections.Detections": "fsljax.detection.data.structures.Detections",
    "fsljax.detection.detections.find_regions": "fsljax.detection.model.inference.propose_regions",
    "fsljax.detection.detector.Detector": "fsljax.detection.model.detector.DetectorNetwork",
    "fsljax.detection.head.RoIOptions": "fsljax.detection.config.RoIOptions",
    "fsljax.detection.losses.LossOptions": "fsljax.detection.config.LossOptions",
    "fsljax.detection.region_proposals.ProposalOptions": "fsljax.detection.config.ProposalOptions",
    "fsljax.detection.truths.Truths": "fsljax.detection.data.structures.GroundTruth",
    "fsljax.enrolled.Label": "fsljax.data.labels.Label",
    "fsljax.enrolled.label_array": "fsljax.data.labels.label_array",
    "fsljax.enrolled.listed_labels": "fsljax.data.labels.listed_labels",
    "fsljax.evaluation.average_precision.ImageDetections": "fsljax.detection.data.structures.Detections",
    "fsljax.evaluation.average_precision.ImageTruths": "fsljax.detection.data.structures.GroundTruth",
    "fsljax.evaluation.average_precision.Judged": "fsljax.detection.evaluation.judging.Judged",
    "fsljax.evaluation.average_precision.judge": "fsljax.detection.evaluation.judging.judge",
    "fsljax.methods.Evaluation": "fsljax.training.method.Evaluation",
    "fsljax.methods.TrainingData": "fsljax.training.method.TrainingData",
    "fsljax.methods.fine_grained.draw_classes": "fsljax.data.samplers.batches.draw_classes",
    "fsljax.methods.fine_grained.shuffled_rows": "fsljax.data.samplers.batches.shuffled_rows",
    "fsljax.methods.stored_detector.StoredDetector": "fsljax.detection.model.trained.TrainedDetector",
    "fsljax.training.state.first_state": "fsljax.training.state.create_train_state",
    "fsljax.training.state.learning_rate": "fsljax.training.optimizer.learning_rate",
}


def install() -> None:
    """Makes the modules of `MODULES` importable by their old paths."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def names_of(module: str) -> Callable[[str], object]:
    """A `__getattr__` for a module that stayed, of the names that left it."""

    def __getattr__(name: str) -> object:
        old = f"{module}.{name}"
        if old not in NAMES:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return _moved(old, NAMES[old])

    return __getattr__


class _Finder:  # a subclass of importlib.abc's would take longer to import than all that is here
    """Finds a module of before, whose names are those of the one it has become."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        loader = cast(Any, self)
        return importlib.machinery.ModuleSpec(fullname, loader) if fullname in MODULES else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        old, new = module.__name__, MODULES[module.__name__]
        _warn(old, new)
        became = importlib.import_module(new)

        def __getattr__(name: str) -> object:
            renamed = NAMES.get(f"{old}.{name}")
            return _moved(f"{old}.{name}", renamed) if renamed else getattr(became, name)

        module.__getattr__ = __getattr__  # type: ignore[method-assign]


def _moved(old: str, new: str) -> object:
    _warn(old, new)
    module, _, name = new.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is now {new}; the old name goes with the next version.", DeprecationWarning, stacklevel=3
    )
