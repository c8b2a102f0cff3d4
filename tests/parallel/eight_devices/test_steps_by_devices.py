"""A step that several devices share is the step of one."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from fsljax.data.samplers.episodes import class_table
from fsljax.data.samplers.neighbourhoods import ClusterIndex, draw_neighbourhood
from fsljax.errors import UserError
from fsljax.losses import repmet_loss
from fsljax.losses.divided_repmet import divided_repmet_loss
from fsljax.parallel import shares
from fsljax.parallel.devices import DIVIDED, WHOLE, Devices, chosen
from fsljax.training.steps import placed, sharing
from tests.parallel.trajectories import built, relative_distance, train

ROWS = np.arange(48)


def shared(function, devices: Devices, *arguments, episodes: int = 1, specs=WHOLE, out=DIVIDED):
    """What each device makes of the arguments, one after another."""
    mapped = jax.shard_map(
        function, mesh=devices.mesh(episodes), in_specs=specs, out_specs=out, check_vma=False
    )
    return jax.jit(mapped)(*arguments)


@pytest.mark.parametrize(("count", "episodes"), [(2, 1), (8, 1), (8, 8), (8, 2), (4, 6), (6, 4)])
def test_shares_of_a_batch_are_all_of_it_and_come_together_again(count, episodes):
    devices = chosen(count)
    own = np.asarray(shared(partial(shares.share, episodes=episodes), devices, ROWS, episodes=episodes))
    assert sorted(own) == ROWS.tolist()
    np.testing.assert_array_equal(own, ROWS[devices.share(len(ROWS), episodes)])

    def back(rows: jax.Array) -> jax.Array:
        return shares.gathered(shares.share(rows, episodes=episodes), episodes=episodes)

    across, along = devices.mesh(episodes).devices.shape
    of_all = np.asarray(shared(back, devices, ROWS, episodes=episodes)).reshape(across, along, -1)
    for of_episodes in of_all:  # those that share episodes have all of them
        np.testing.assert_array_equal(of_episodes, np.broadcast_to(of_episodes[0], of_episodes.shape))
    np.testing.assert_array_equal(of_all[:, 0].reshape(-1), ROWS)


def test_who_takes_whole_episodes_and_who_shares_them():
    assert chosen(8).mesh(16).devices.shape == (8, 1)
    assert chosen(8).mesh(1).devices.shape == (1, 8)
    assert chosen(8).mesh(6).devices.shape == (2, 4)


def test_all_take_what_the_first_has():
    values = np.arange(8, dtype=np.float32), np.arange(8) % 2 == 0, np.arange(8, dtype=np.int32) - 3
    found = shared(shares.of_first, chosen(8), values, specs=(DIVIDED,))
    for ours, given in zip(found, values, strict=True):
        np.testing.assert_array_equal(ours, np.full(8, given[0]))
        assert ours.dtype == given.dtype


def test_moments_of_shares_are_those_of_all():
    values = np.random.default_rng(0).normal(100, 1, (64, 5)).astype(np.float32)

    def of_share(own: jax.Array) -> jax.Array:
        return jnp.stack(shares.moments(jnp.mean(own, 0), jnp.var(own, 0)))[None]

    found = np.asarray(shared(of_share, chosen(8), values, specs=DIVIDED))
    for mean, variance in found:
        np.testing.assert_allclose(mean, values.astype(np.float64).mean(0), rtol=1e-6)
        np.testing.assert_allclose(variance, values.astype(np.float64).var(0), rtol=1e-4)


def test_means_of_many_arrays_are_those_of_each_to_the_bit(monkeypatch):
    monkeypatch.setattr(shares, "_JOINED_UP_TO", 6)
    generator = np.random.default_rng(0)
    shapes = {"a": (8, 2, 3), "b": (8,), "c": (8, 7), "d": (8, 0), "e": (8, 1)}
    trees = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    trees |= {"f": trees["a"].astype(jnp.bfloat16), "g": np.arange(8, dtype=np.int32)}

    def of_device(own: dict[str, jax.Array], function) -> dict[str, jax.Array]:
        return function(jax.tree.map(lambda rows: rows[0], own))

    found, wanted = (
        shared(partial(of_device, function=function), chosen(8), trees, specs=DIVIDED, out=WHOLE)
        for function in (shares.mean, partial(jax.lax.pmean, axis_name=shares.AXES))
    )
    for name in trees:
        assert found[name].dtype == wanted[name].dtype
        np.testing.assert_array_equal(found[name], wanted[name])


def test_rows_of_divided_data_are_found_wherever_they_lie():
    devices, data = chosen(8), np.random.default_rng(0).integers(0, 256, (80, 3, 2), dtype=np.uint8)
    rows = np.random.default_rng(1).integers(0, 80, 48)
    found = shared(shares.rows_of_divided, devices, data, rows, specs=(DIVIDED, WHOLE))
    np.testing.assert_array_equal(found, data[rows])


FORMS = [("v1", False), ("v2", False), ("margin", False), ("margin", True)]


@pytest.mark.parametrize("classes", [8, 13])
@pytest.mark.parametrize(("version", "squared"), FORMS)
def test_representatives_divided_by_classes_give_the_loss_and_its_gradients(version, squared, classes):
    generator = np.random.default_rng(0)
    embeddings, labels = generator.normal(size=(16, 5)), generator.integers(0, classes, 16)
    representatives = generator.normal(size=(classes, 3, 5))
    form = {"version": version, "squared": squared, "alpha": 0.5}
    devices = chosen(8)
    padded = np.concatenate([representatives, np.zeros((-classes % 8, 3, 5))])

    def whole(embeddings, representatives, sigma):
        return repmet_loss(embeddings, labels, representatives, sigma=sigma, **form)

    def of_device(embeddings, representatives, sigma):
        output = divided_repmet_loss(
            embeddings, labels, representatives, classes=classes, sigma=sigma, **form
        )
        return output.loss, output

    def step(embeddings, representatives, sigma):
        gradients, output = jax.grad(of_device, argnums=(0, 1, 2), has_aux=True)(
            embeddings, representatives, sigma
        )
        of_embeddings, of_representatives, of_sigma = gradients
        return output, shares.mean((of_embeddings, of_sigma)), of_representatives / shares.count()

    ours, (of_embeddings, of_sigma), of_representatives = shared(
        step, devices, embeddings, padded, 0.7, specs=(WHOLE, DIVIDED, WHOLE), out=(WHOLE, WHOLE, DIVIDED)
    )
    theirs = whole(embeddings, representatives, 0.7)
    wanted = jax.grad(lambda *given: whole(*given).loss, argnums=(0, 1, 2))(embeddings, representatives, 0.7)
    np.testing.assert_allclose(ours.example_losses, theirs.example_losses, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours.right, np.argmax(theirs.posteriors, 1) == labels)
    np.testing.assert_allclose(of_embeddings, wanted[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of_representatives[:classes], wanted[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(of_representatives[classes:], 0)
    np.testing.assert_allclose(of_sigma, wanted[2], rtol=1e-4, atol=1e-6)


def test_far_from_everything_the_divided_loss_is_large_and_finite():
    embeddings = np.full((8, 4), 1e3, np.float32)
    representatives = np.random.default_rng(0).normal(size=(8, 1, 4)).astype(np.float32)

    def of_device(representatives):
        return divided_repmet_loss(embeddings, np.arange(8), representatives, classes=8, version="v2").loss

    loss = shared(of_device, chosen(8), representatives, specs=DIVIDED, out=PartitionSpec())
    wanted = repmet_loss(embeddings, np.arange(8), representatives, version="v2").loss
    np.testing.assert_allclose(loss, wanted, rtol=1e-4)  # squares of 4e6 in float32


@pytest.mark.parametrize("clusters", [12, 16])
def test_clusters_divided_by_classes_give_the_same_neighbourhood(clusters):
    generator = np.random.default_rng(0)
    assignments = np.concatenate([np.arange(clusters), generator.integers(0, clusters, 84)]).astype(np.int32)
    table = class_table(assignments)
    index = ClusterIndex(
        centroids=generator.normal(size=(clusters, 3)).astype(np.float32),
        classes=(np.arange(clusters) // 4).astype(np.int32),
        counts=table.counts,
        assignments=assignments,
        order=np.argsort(assignments, kind="stable").astype(np.int32),
        losses=generator.uniform(size=len(assignments)).astype(np.float32),
        seen=np.ones(len(assignments), bool),
        variance=np.float32(1),
    )
    padded = np.concatenate([index.centroids, np.zeros((-clusters % 8, 3), np.float32)])
    draw = partial(draw_neighbourhood, clusters=5, examples=2, largest_cluster=int(table.counts.max()))

    def of_device(centroids, key):
        return draw(key, jax.tree.map(jnp.asarray, index)._replace(centroids=centroids))

    for seed in range(4):
        key = jax.random.key(seed)
        ours = shared(of_device, chosen(8), padded, key, specs=(DIVIDED, WHOLE), out=WHOLE)
        jax.tree.map(np.testing.assert_array_equal, ours, draw(key, jax.tree.map(jnp.asarray, index)))


METHODS = ["protonet", "softmax", "triplet", "magnet", "repmet"]


@pytest.mark.parametrize("name", METHODS)
def test_the_first_steps_are_those_of_one_device(name):
    method, config = built(name, {})
    first, of_first = train(method, config, 1, 5)
    state, metrics = train(method, config, 8, 5)
    np.testing.assert_allclose(metrics["loss"], of_first["loss"], rtol=1e-5)
    assert relative_distance(state, first) < 1e-3


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("protonet", {"train.episodes_per_step": 6}),  # two episodes to two devices each
        ("softmax", {"data.device_budget_gb": 1e-5}),  # a part of the images on each device
        ("magnet", {"mesh.divide_classes": True, "train.clusters_per_class": 3}),
        ("repmet", {"mesh.divide_classes": True, "train.ema": 0.9}),
    ],
)
def test_other_ways_to_divide_a_step(name, fields):
    method, config = built(name, fields)
    first, of_first = train(method, config, 1, 5)
    state, metrics = train(method, config, 4, 5)
    np.testing.assert_allclose(metrics["loss"], of_first["loss"], rtol=1e-5)
    np.testing.assert_allclose(metrics.get("movement", 0), of_first.get("movement", 0), rtol=1e-3, atol=1e-6)
    assert relative_distance(state, first) < 1e-3


def test_data_that_do_not_fit_on_a_device_are_divided_over_all():
    method = built("softmax", {})[0]
    state = jax.jit(method.init)(jax.random.key(0))
    data = method.training_data(state.inference_variables())
    size = data.inputs.nbytes / 1e9
    inputs = placed(data, size / 3, chosen(4)).inputs
    assert isinstance(inputs, jax.Array) and not inputs.is_fully_replicated
    assert inputs.addressable_shards[0].data.nbytes <= 1e9 * size / 3
    assert isinstance(placed(data, size / 5, chosen(4)).inputs, np.ndarray)  # streamed
    assert placed(data, 1.01 * size, chosen(4)).inputs.is_fully_replicated


@pytest.mark.parametrize(
    ("name", "fields", "count", "fewer", "said"),
    [
        ("softmax", {"train.examples": 3}, 5, 4, "24 images, which 5 devices cannot share equally"),
        ("protonet", {"train.episodes_per_step": 3}, 7, 6, "3 episodes of 24 images, which 7 devices"),
    ],
)
def test_a_batch_that_the_devices_do_not_divide_is_refused(name, fields, count, fewer, said):
    method = built(name, fields)[0]
    state = jax.jit(method.init)(jax.random.key(0))
    index = method.training_data(state.inference_variables()).index
    with pytest.raises(UserError, match=said):
        sharing(method, state, index, chosen(count))
    # Where nobody asked for so many, fewer take part.
    assert len(sharing(method, state, index, chosen(count), asked=False)) == fewer


def test_more_devices_than_there_are():
    with pytest.raises(UserError, match="there are 8 devices here: set it to 8 at most"):
        chosen(9)
    assert len(chosen(0)) == 8 and len(chosen(-1)) == 1
