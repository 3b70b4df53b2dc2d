import os
import subprocess
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before TensorFlow is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _fresh_keras():
    tf = sys.modules.get("tensorflow")  # the tests of the device's runtime do without
    if not tf:
        yield
        return
    tf.keras.utils.set_random_seed(0)
    yield
    tf.keras.mixed_precision.set_global_policy("float32")
    tf.keras.backend.clear_session()


@pytest.fixture
def images():
    """16 images of raw pixels."""
    return np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def tfds_dir():
    """The folder of prepared data sets; without it the test is skipped."""
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not Path(folder, "cifar10").is_dir():
        pytest.skip("needs CIFAR-10: set TFDS_DATA_DIR to a folder of tensorflow_datasets")
    return Path(folder)


@pytest.fixture
def python():
    """Runs Python in a fresh process and returns it when it has ended."""

    def run(*arguments, env=None):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
        )

    return run
