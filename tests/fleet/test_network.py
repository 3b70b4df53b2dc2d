"""The networks that a GPU trains are those of Keras."""

from dataclasses import asdict

import numpy as np
import pytest
import tensorflow as tf

from larq_seresnet import models
from larq_seresnet.architecture import Architecture
from training.fleet import jobs

torch = pytest.importorskip("torch")
gpu_network = pytest.importorskip("training.fleet.gpu.network")

NETWORKS = {
    "1-bit weights": {"model": "binary", "attention_scale": True},
    "FMB": {"model": "binary", "fmb": True, "attention_scale": True},
    "FMB to the letter": {"model": "binary", "fmb": True, "gradient": "cut"},
    "tanh": {"model": "binary", "gate": "tanh", "attention_scale": True},
    "tanh, FMB": {"model": "binary", "gate": "tanh", "fmb": True},
    "hard_tanh": {"model": "binary", "gate": "hard_tanh", "attention_scale": True},
    "no attention": {"model": "binary", "gate": "none"},
    "fully binary": {"model": "binary", "activations": "binary"},
    "float attention": {"model": "binary", "activations": "binary", "float_attention": True},
    "reduction": {"model": "float", "reduction": 4},
    "width 8, one stage more": {"model": "float", "width": 8, "blocks": (1, 2, 1, 1)},
}


def tensors(model, values=None):
    values = model.get_weights() if values is None else values
    return {
        weight.name.removesuffix(":0"): torch.tensor(jobs.to_worker(np.asarray(value)).copy())
        for weight, value in zip(model.weights, values, strict=True)
    }


def setting(architecture):
    mean, variance = (
        torch.tensor(x)[:, None, None] for x in (architecture.mean, architecture.variance)
    )
    one = torch.ones(())
    return gpu_network.Setting(mean, variance, one, torch.tensor(architecture.fmb), one)


@pytest.mark.parametrize("arguments", NETWORKS.values(), ids=NETWORKS)
def test_outputs_and_gradients_are_those_of_keras(arguments):
    architecture = Architecture(**{"blocks": (1, 1), **arguments})
    tf.keras.utils.set_random_seed(0)
    model = models.build(architecture)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (16, 32, 32, 3)).astype(np.float32)
    labels = random.integers(0, 10, 16)
    before = tensors(model)
    with tf.GradientTape() as tape:
        answers = model(images, training=True)
        loss = tf.reduce_mean(tf.losses.sparse_categorical_crossentropy(labels, answers))
    gradients = tape.gradient(  # FMB to the letter: none comes to the attention
        loss, model.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    expected = {
        weight.name.removesuffix(":0"): jobs.to_worker(gradient.numpy())
        for weight, gradient in zip(model.trainable_variables, gradients, strict=True)
    }

    described = {**asdict(architecture), **jobs.OPTIONS}
    network = gpu_network.Network(described)
    shapes = dict(network.shapes())
    assert {**shapes, **dict(network.statistics())} == {
        k: tuple(v.shape) for k, v in before.items()
    }
    learned = {name: before[name].requires_grad_() for name in shapes}
    seen = torch.tensor(images).permute(0, 3, 1, 2)
    logits, z = network(before, seen, setting(architecture), 0.1, torch.float32)
    found = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))

    np.testing.assert_allclose(logits.softmax(1).detach(), answers, atol=1e-5)
    assert found.item() == pytest.approx(float(loss), rel=1e-5)
    for name, gradient in zip(learned, torch.autograd.grad(found, learned.values()), strict=True):
        # Sums of thousands of products in another order.
        tolerance = 1e-2 * np.abs(expected[name]).max()
        np.testing.assert_allclose(gradient, expected[name], atol=tolerance, err_msg=name)
    after = tensors(model)
    for name, _ in network.statistics():
        np.testing.assert_allclose(before[name], after[name], rtol=1e-3, atol=1e-4, err_msg=name)
    assert len(z) == (0 if architecture.gate == "none" else sum(architecture.blocks))


def test_a_sign_passes_the_gradient_within_its_window():
    x = torch.tensor([-2.0, -1.5, -1.0, 0.0, 1.0, 1.5, 2.0], requires_grad=True)
    sign = gpu_network._sign(x, torch.tensor(1.5))
    assert sign.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    assert torch.autograd.grad(sign.sum(), x)[0].tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_compiling_drops_no_gradient():
    """PyTorch 2.11 gives zeros for a `torch.autograd.Function` in a compiled function."""

    def loss(x, weight):
        return (gpu_network._sign(x) * weight).sum()

    compiled = torch.compile(loss, backend="aot_eager")
    x, weight = torch.tensor([0.5, -0.5, 3.0], requires_grad=True), torch.tensor([2.0, 3.0, 4.0])
    assert torch.autograd.grad(compiled(x, weight), x)[0].tolist() == [2, 3, 0]
