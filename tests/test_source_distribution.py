"""What a source distribution holds: its tests find all that they import."""

import subprocess
import sys
import tarfile

from tests.conftest import ROOT


def test_its_tests_can_be_collected(tmp_path):
    build = [sys.executable, "-m", "build", "--sdist", "--outdir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path)
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())

    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only"],
        cwd=source,
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stdout + result.stderr
