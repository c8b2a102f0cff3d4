"""Embedding networks (Flax linen)."""

from fsljax.networks.backbones.conv4 import Conv4
from fsljax.networks.backbones.inception_v3 import InceptionV3
from fsljax.networks.backbones.lenet import LeNet
from fsljax.networks.backbones.mobilenet_v2 import MobileNetV2
from fsljax.networks.backbones.scene_net import SceneNet
from fsljax.networks.building import StagedBackbone, build, build_backbone, check_head, last_stage
from fsljax.networks.embedding import Embedding, trainable_mask
from fsljax.networks.layers import EPSILON, Settings
from fsljax.networks.resnet import ResNet
from fsljax.networks.weights import Variables, content_hash, has_folded_norm, load_weights

__all__ = ["EPSILON", "Conv4", "Embedding", "InceptionV3", "LeNet", "MobileNetV2", "ResNet", "SceneNet",
           "Settings", "StagedBackbone", "Variables", "build", "build_backbone", "check_head", "content_hash",
           "has_folded_norm", "last_stage", "load_weights", "trainable_mask"]  # fmt: skip
