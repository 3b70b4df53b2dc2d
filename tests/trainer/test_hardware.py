import os

import pytest
import tensorflow as tf

from larq_seresnet.models import SEResNet14Bin
from training import processor
from training.trainer import hardware


@pytest.mark.parametrize(
    ("cores", "batch_size", "shards"),
    [(1, 128, 1), (2, 128, 2), (2, 31, 1), (8, 128, 8), (16, 128, 1)],
)
def test_every_core_gets_a_shard_unless_it_would_be_tiny(cores, batch_size, shards, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert hardware.shards(batch_size) == shards


@pytest.mark.parametrize(
    ("features", "onednn", "precision"),
    [
        ({"avx2", "avx512f"}, True, "float32"),
        ({"avx512f", "avx512_bf16"}, True, "mixed_bfloat16"),
        ({"avx512f", "amx_bf16"}, True, "mixed_bfloat16"),
        ({"avx512f", "avx512_bf16"}, False, "float32"),  # Eigen's bfloat16 is slow
    ],
)
def test_bfloat16_where_the_cpu_multiplies_it(features, onednn, precision, monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: frozenset(features))
    monkeypatch.setattr(processor, "onednn", lambda: onednn)
    assert hardware.precision("auto") == precision
    assert hardware.precision("float32") == "float32"


@pytest.mark.parametrize(
    ("capability", "precision"), [((9, 0), "mixed_bfloat16"), ((7, 5), "float32")]
)
def test_a_gpu_gets_the_precision_that_it_multiplies_and_xla(capability, precision, monkeypatch):
    monkeypatch.setattr(hardware, "gpus", lambda: ["a GPU"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert hardware.precision("auto") == precision
    assert hardware.kernels_to_use("auto") == "keras"
    assert hardware.with_xla(SEResNet14Bin(width=16))
    assert not hardware.with_xla(SEResNet14Bin(width=8))  # its shortcuts begin with max pooling


@pytest.mark.slow
def test_xla_compiles_what_is_trained():
    """As on a GPU; here for the CPU."""
    model = SEResNet14Bin(width=16, blocks=(1, 1), fmb=True)
    tf.config.experimental.enable_op_determinism()
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=True)
    images, labels = tf.random.uniform((16, 32, 32, 3), 0, 255), tf.range(16) % 10
    losses = model.fit(images, labels, batch_size=16, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_without_kernels_the_network_is_fitted_itself():
    model = SEResNet14Bin(width=2)
    assert hardware.learner(model, "keras", 128) is model


def test_threads_cannot_be_changed_any_more():
    tf.constant(1)  # TensorFlow works already
    hardware.share_cores("fused", 128)


def test_the_profile_lists_the_operators_of_a_step(tmp_path, capsys):
    from training.benchmark import profile

    flags = ["--kernels", "keras", "--width", "2", "--batch-size", "8", "--steps", "2"]
    profile.main([*flags, "--csv", str(tmp_path / "profile.csv")])

    lines = (tmp_path / "profile.csv").read_text().splitlines()
    assert lines[0] == "operator,times_a_step,milliseconds_a_step"
    assert lines[1].startswith("(the step),1.0,")
    assert any(line.split(",")[0].endswith("Conv2DBackpropFilter") for line in lines)
    assert "(all operators)" in capsys.readouterr().out
