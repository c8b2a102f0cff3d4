"""Conv-4 against the four operations it is made of."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.networks import Conv4
from fsljax.networks.backbones.conv4 import EPSILON
from fsljax.networks.kernels.pooling import max_pool

KERNELS = ["cpu", "xla"]
FILTERS, BLOCKS, MOMENTUM = 5, 2, 0.9


def make(
    *leading: int, size: tuple[int, int] = (12, 12), channels: int = 1, kernels: str = "auto"
) -> tuple[Conv4, dict[str, Any], np.ndarray]:
    """A network, its variables (scales of both signs, averages that are not 0 and 1), and images."""
    network = Conv4(FILTERS, BLOCKS, MOMENTUM, kernels)
    generator = np.random.default_rng(0)
    images = generator.uniform(size=(*leading, *size, channels)).astype(np.float32)
    variables = jax.device_get(
        jax.jit(network.init, static_argnames="running_average")(
            jax.random.key(0), images[..., :1, :, :, :], running_average=True
        )
    )
    for block in range(BLOCKS):
        parameters, statistics = (variables[part][f"block_{block}"] for part in ("params", "batch_stats"))
        parameters["scale"] = np.float32([1.5, -0.7, 0.4, -2.0, 1.0])
        parameters["shift"] = generator.normal(size=FILTERS).astype(np.float32)
        statistics["mean"] = generator.normal(size=FILTERS).astype(np.float32)
        statistics["variance"] = generator.uniform(0.5, 2, size=FILTERS).astype(np.float32)
    return network, variables, images


def embed(
    network: Conv4, variables: dict[str, Any], images: np.ndarray, *, running_average: bool
) -> jax.Array:
    apply = jax.jit(network.apply, static_argnames="running_average")
    return apply(variables, images, running_average=running_average)


def plainly(
    variables: dict[str, Any], images: np.ndarray, *, running_average: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    """Embeddings of one episode in float64, and the mean and variance of each block's responses."""
    x = images.astype(np.float64)
    moments = {}
    for block in variables["params"]:
        p, averages = variables["params"][block], variables["batch_stats"][block]
        _, height, width, _ = x.shape
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = sum(
            padded[:, u : u + height, v : v + width] @ p["kernel"][u, v].astype(np.float64)
            for u in range(3)
            for v in range(3)
        )
        moments[block] = {"mean": x.mean(axis=(0, 1, 2)), "variance": x.var(axis=(0, 1, 2))}
        used = averages if running_average else moments[block]
        x = (x - used["mean"]) / np.sqrt(used["variance"] + EPSILON) * p["scale"] + p["shift"]
        x = np.maximum(x, 0)[:, : height // 2 * 2, : width // 2 * 2]
        x = x.reshape(len(x), height // 2, 2, width // 2, 2, -1).max(axis=(2, 4))
    return x.reshape(len(x), -1), moments


class Linen(nn.Module):
    """The same network from Flax's own layers."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for block in range(BLOCKS):
            x = nn.Conv(FILTERS, (3, 3), use_bias=False, name=f"conv_{block}")(x)
            x = nn.BatchNorm(use_running_average=False, epsilon=EPSILON, name=f"norm_{block}")(x)
            x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
        return x.reshape(len(x), -1)


def linen_parameters(params: dict[str, Any]) -> dict[str, Any]:
    renamed = {}
    for block in range(BLOCKS):
        ours = params[f"block_{block}"]
        renamed[f"conv_{block}"] = {"kernel": ours["kernel"]}
        renamed[f"norm_{block}"] = {"scale": ours["scale"], "bias": ours["shift"]}
    return renamed


def assert_close(ours: Any, expected: Any, tolerance: float = 1e-4) -> None:
    """Every array within `tolerance` of the other's largest value."""
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("channels", "size"), [(1, (12, 12)), (1, (13, 10)), (3, (7, 15))])
def test_embeddings_by_running_averages_are_those_of_plain_numpy(
    kernels: str, channels: int, size: tuple[int, int]
):
    network, variables, images = make(6, size=size, channels=channels, kernels=kernels)
    embeddings = embed(network, variables, images, running_average=True)
    expected, _ = plainly(variables, images, running_average=True)
    assert embeddings.shape == (6, FILTERS * (size[0] // 4) * (size[1] // 4))
    assert_close(embeddings, expected)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("channels", "size"), [(1, (12, 12)), (1, (13, 10)), (3, (7, 15))])
def test_embeddings_by_batch_statistics_are_those_of_plain_numpy(
    kernels: str, channels: int, size: tuple[int, int]
):
    network, variables, images = make(6, size=size, channels=channels, kernels=kernels)
    embeddings = embed(network, variables, images, running_average=False)
    expected, _ = plainly(variables, images, running_average=False)
    assert_close(embeddings, expected)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("leading", [(3, 6), (2, 2, 4)])
def test_every_episode_is_normalised_by_itself_and_running_averages_move_by_the_mean(
    kernels: str, leading: tuple[int, ...]
):
    network, variables, images = make(*leading, kernels=kernels)
    brightness = np.linspace(0.2, 1.0, int(np.prod(leading[:-1]))).reshape(*leading[:-1], 1, 1, 1, 1)
    images = np.float32(images * brightness)
    apply = jax.jit(partial(network.apply, running_average=False, mutable=["batch_stats"]))
    embeddings, changed = apply(variables, images)
    episodes = [
        plainly(variables, episode, running_average=False)
        for episode in images.reshape(-1, *images.shape[len(leading) - 1 :])
    ]
    assert embeddings.shape[:-1] == leading
    assert_close(embeddings.reshape(-1, *embeddings.shape[-2:]), np.stack([e for e, _ in episodes]))
    mean_moments = jax.tree.map(lambda *values: np.mean(values, axis=0), *(m for _, m in episodes))
    expected = jax.tree.map(
        lambda before, now: MOMENTUM * before + (1 - MOMENTUM) * now, variables["batch_stats"], mean_moments
    )
    assert_close(changed["batch_stats"], expected)


@pytest.mark.parametrize("kernels", KERNELS)
def test_running_averages_embed_an_image_the_same_in_any_company(kernels: str):
    network, variables, images = make(2, 3, kernels=kernels)
    together = embed(network, variables, images, running_average=True)
    alone = network.apply(variables, images[1, 2:], running_average=True)
    np.testing.assert_allclose(together[1, 2], alone[0], rtol=1e-4, atol=1e-5)


def test_evaluation_leaves_running_averages_alone():
    network, variables, images = make(4)
    _, changed = network.apply(variables, images, running_average=True, mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_are_those_of_flax_layers(kernels: str, channels: int):
    network, variables, images = make(7, channels=channels, kernels=kernels)
    direction = np.random.default_rng(1).normal(size=(7, FILTERS * 9))

    def ours(params: Any) -> jax.Array:
        statistics = {"batch_stats": variables["batch_stats"]}
        embeddings = network.apply({"params": params, **statistics}, images, running_average=False)
        return jnp.sum(embeddings * direction)

    def theirs(params: Any) -> jax.Array:
        embeddings, _ = Linen().apply({"params": linen_parameters(params)}, images, mutable=["batch_stats"])
        return jnp.sum(embeddings * direction)

    assert_close(
        *(jax.jit(jax.value_and_grad(f))(variables["params"]) for f in (ours, theirs)), tolerance=1e-4
    )


@pytest.mark.parametrize("running_average", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_both_kernels_agree_in_value_and_gradient(channels: int, running_average: bool):
    _, variables, images = make(2, 11, size=(13, 14), channels=channels)
    images[:, :4] = 0  # blank pictures: every response of a window is equal
    images[:, 4:8, 5:] = 0

    def loss(params: Any, kernels: str) -> jax.Array:
        network = Conv4(FILTERS, BLOCKS, MOMENTUM, kernels)
        statistics = {"batch_stats": variables["batch_stats"]}
        embeddings = network.apply({"params": params, **statistics}, images, running_average=running_average)
        return jnp.sum(jnp.sin(embeddings))

    both = [jax.jit(jax.value_and_grad(loss), static_argnums=1)(variables["params"], k) for k in KERNELS]
    assert_close(*both)


def test_auto_takes_the_kernels_of_the_backend():
    network, variables, images = make(4)
    backend = "cpu" if jax.default_backend() == "cpu" else "xla"
    np.testing.assert_array_equal(
        embed(network, variables, images, running_average=False),
        embed(Conv4(FILTERS, BLOCKS, MOMENTUM, backend), variables, images, running_average=False),
    )


@pytest.mark.parametrize(("trainable", "moving"), [("last_stage", {"block_1"}), ("head", set())])
def test_what_is_not_trained_is_normalised_by_running_averages_that_stay(trainable: str, moving: set[str]):
    network, variables, images = make(4)
    frozen = Conv4(FILTERS, BLOCKS, MOMENTUM, trainable=trainable)

    def loss(params: Any) -> tuple[jax.Array, Any]:
        embeddings, changed = frozen.apply(
            variables | {"params": params}, images, running_average=False, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.sin(embeddings)), changed["batch_stats"]

    gradients, statistics = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    for block, before in variables["batch_stats"].items():
        assert np.array_equal(statistics[block]["mean"], before["mean"]) == (block not in moving)
    if trainable == "last_stage":
        assert {block for block in gradients if np.any(gradients[block]["kernel"])} == moving
    else:
        np.testing.assert_array_equal(
            embed(frozen, variables, images, running_average=False),
            embed(network, variables, images, running_average=True),
        )


def test_a_blank_batch_has_finite_embeddings_and_gradients():
    network, variables, images = make(4)

    def loss(params: Any) -> jax.Array:
        statistics = {"batch_stats": variables["batch_stats"]}
        return jnp.sum(network.apply({"params": params, **statistics}, 0 * images, running_average=False))

    assert all(
        np.isfinite(leaf).all()
        for leaf in jax.tree.leaves(jax.jit(jax.value_and_grad(loss))(variables["params"]))
    )


def test_half_precision_images_give_half_precision_embeddings():
    network, variables, images = make(4)
    for running_average in (True, False):
        exact = embed(network, variables, images, running_average=running_average)
        half = embed(network, variables, jnp.bfloat16(images), running_average=running_average)
        assert half.dtype == jnp.bfloat16
        assert_close(half.astype(np.float32), exact, tolerance=0.1)


def test_the_published_network_turns_28_pixels_into_64_numbers():
    images = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    embeddings, variables = jax.eval_shape(
        partial(Conv4().init_with_output, running_average=True), jax.random.key(0), images
    )
    assert embeddings.shape == (2, 64)
    kernels = [block["kernel"].shape for block in variables["params"].values()]
    assert kernels == [(3, 3, 1, 64), *[(3, 3, 64, 64)] * 3]


def test_images_too_small_to_pool_are_refused():
    with pytest.raises(ValueError, match=r"15×20; 4 poolings need at least 16×16"):
        Conv4().init(jax.random.key(0), jnp.zeros((1, 15, 20, 1)), running_average=True)


def test_max_pool_is_flax_max_pool_where_no_two_are_equal():
    x = jax.random.normal(jax.random.key(0), (3, 7, 8, 2))
    weights = jax.random.normal(jax.random.key(1), (3, 3, 4, 2))

    def theirs(x: jax.Array) -> jax.Array:
        return nn.max_pool(x, (2, 2), (2, 2))

    np.testing.assert_array_equal(max_pool(x), theirs(x))
    gradients = [jax.grad(lambda x, pool=pool: jnp.sum(pool(x) * weights))(x) for pool in (max_pool, theirs)]
    np.testing.assert_allclose(*gradients, rtol=1e-6)


def test_equal_maxima_share_the_gradient_that_flax_gives_to_the_first():
    x = jnp.array([[1.0, 1.0, 2.0, 3.0], [1.0, 0.0, 3.0, 3.0]])[None, :, :, None]

    def gradient_of(pool) -> np.ndarray:
        return np.asarray(jax.grad(lambda x: jnp.sum(pool(x)))(x))[0, :, :, 0]

    third = 1 / 3
    np.testing.assert_allclose(gradient_of(max_pool), [[third, third, 0, third], [third, 0, third, third]])
    first_alone = gradient_of(lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    np.testing.assert_allclose(first_alone, [[1, 0, 0, 1], [0, 0, 0, 0]])


@pytest.mark.gpu
@pytest.mark.parametrize("running_average", [True, False])
def test_a_gpu_gives_what_the_cpu_gives(running_average: bool):
    network, variables, images = make(2, 6, channels=3, kernels="xla")
    embeddings = []
    for platform in ("gpu", "cpu"):
        with jax.default_device(jax.devices(platform)[0]), jax.default_matmul_precision("highest"):
            embeddings.append(np.asarray(embed(network, variables, images, running_average=running_average)))
    assert_close(*embeddings)
