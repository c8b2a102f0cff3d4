"""Five minutes on a laptop: glyphs rendered from fonts, tested on scripts never seen in training."""

from ml_collections import ConfigDict

from fsljax.methods import protonet


def get_config() -> ConfigDict:
    config = protonet.default_config()
    config.name = "quickstart"
    config.data.name = "glyphs"
    config.train.update({"steps": 600, "way": 30, "shot": 1, "queries": 5, "support_turns": 6})
    config.train.update({"learning_rate": 2e-3, "warmup_steps": 50})
    config.checkpoint.every = 200
    config.validation.update({"way": 5, "shot": 1, "queries": 15})
    config.eval.episodes = 2_000
    return config
