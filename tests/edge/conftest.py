from pathlib import Path

import pytest

from larq_seresnet.edge.errors import RuntimeMissingError
from larq_seresnet.edge.native_library import native_library


@pytest.fixture(scope="session")
def library() -> Path:
    """The native delegate; without it the test is skipped."""
    try:
        return native_library()
    except RuntimeMissingError:
        pytest.skip("needs the native delegate: make edge-library")


@pytest.fixture(scope="session")
def lce_interpreter():
    """Larq Compute Engine's own interpreter."""
    module = pytest.importorskip("larq_compute_engine.tflite.python.interpreter")
    return module.Interpreter


@pytest.fixture(scope="session")
def tensorflow_files() -> dict[str, bytes]:
    """Models as users convert them; TensorFlow is imported once for all tests that need it."""
    return pytest.importorskip("tests.edge.tensorflow_files").files()
