"""What training tells TensorFlow about the CPU, which it reads when it is imported."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from training import processor

ASKED = "import os, training; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'), end='')"


def run(code, **environment):
    unset = {"TF_ENABLE_ONEDNN_OPTS", processor.EMULATED, "ONEDNN_MAX_CPU_ISA"}
    clean = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-c", code]
    found = subprocess.run(
        command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True
    )
    return found.stdout or found.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing says what the CPU can do")
def test_training_uses_onednn_unless_the_user_says_otherwise():
    assert run(ASKED) == "1"
    assert run(ASKED, TF_ENABLE_ONEDNN_OPTS="0") == "0"


def test_the_package_alone_changes_nothing():
    code = ASKED.replace("training", "larq_seresnet.models", 1)
    assert run(code) == "None"


def test_an_emulated_cpu_has_avx2_and_no_more(monkeypatch, tmp_path):
    monkeypatch.setattr(
        processor,
        "Path",
        lambda _: write(tmp_path, "flags\t: fma avx2 avx512f avx512_vnni amx_bf16"),
    )
    assert processor.features() == {"fma", "avx2", "avx512f", "avx512_vnni", "amx_bf16"}
    assert processor.onednn_by_default()
    assert processor.compiler_flags() == ["-march=native", "-mprefer-vector-width=512"]
    monkeypatch.setenv(processor.EMULATED, "avx2")
    assert processor.features() == {"fma", "avx2"}
    assert not processor.onednn_by_default()
    assert processor.compiler_flags() == ["-mavx2", "-mfma"]
    monkeypatch.setenv(processor.EMULATED, "sse")
    with pytest.raises(ValueError, match="must be avx2 or unset, not sse"):
        processor.features()


def test_another_name_ends_with_a_line():
    assert run(ASKED, LARQ_SERESNET_CPU="sse") == (
        "error: LARQ_SERESNET_CPU must be avx2 or unset, not sse\n"
    )


def write(folder, text):
    path = folder / "cpuinfo"
    path.write_text(f"processor\t: 0\n{text}\n")
    return path


def test_others_train_as_tensorflow_chooses(monkeypatch):
    monkeypatch.setattr(processor, "_USERS", None)
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx2"}))
    assert processor.as_users_have_it() == {"TF_ENABLE_ONEDNN_OPTS": "0"}
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx512_vnni"}))
    assert processor.as_users_have_it() == {"TF_ENABLE_ONEDNN_OPTS": "1"}
    monkeypatch.setattr(processor, "_USERS", "0")
    assert processor.as_users_have_it() == {"TF_ENABLE_ONEDNN_OPTS": "0"}


def test_a_line_says_what_is_used(monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx2"}))
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    line = processor.describe("float32", "fused", 2)
    assert line == "avx2, oneDNN on, float32, fused kernels, 2 shards of a batch"
    for value, shown in (("True", "on"), ("false", "off")):  # TensorFlow takes words too
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value)
        assert f"oneDNN {shown}" in processor.describe("float32", "fused", 2)
