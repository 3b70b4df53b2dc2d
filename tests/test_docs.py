"""The blocks of README and docs: Python is run, of shell commands the flags are checked.

A block that neither is done with has a comment above it that says why:
<!-- not run: needs a Raspberry Pi -->. Python blocks of a page run one after the other, in a folder
that has what its text speaks of: model.keras, model.tflite, photo.jpg.
"""

import argparse
import re
import runpy
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from larq_seresnet.models import SEResNet14Bin
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?P<note><!-- not run: .+? -->\n+)?```(?P<language>\w*)\n(?P<text>.*?)```", re.S
)


def blocks(page, language):
    found = [block for block in BLOCK.finditer(page.read_text()) if not block["note"]]
    return [block["text"] for block in found if block["language"] == language]


def commands():
    return [
        pytest.param(line, id=f"{page.stem}: {line}"[:100])
        for page in PAGES
        for text in blocks(page, "sh")
        for line in text.replace("\\\n", "").splitlines()
        if line.strip() and not line.startswith("#")
    ]


class FlagsAreRight(Exception):  # noqa: N818
    """A command would begin its work now."""


@pytest.mark.parametrize("line", commands())
def test_a_shell_command_has_flags_that_there_are(line, monkeypatch):
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        return
    assert words[:2] == ["python", "-m"], "say above the block why it is not run"
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser, arguments=None, namespace=None):
        parse(parser, arguments, namespace)
        raise FlagsAreRight

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    monkeypatch.setattr(sys, "argv", words[2:])
    with pytest.raises(FlagsAreRight):
        runpy.run_module(words[2], run_name="__main__")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=str)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    Image.fromarray(images[0]).resize((50, 40)).save(tmp_path / "photo.jpg")
    SEResNet14Bin(width=4).save(tmp_path / "model.keras")
    shipped = ROOT / "tflite_models" / "seresnet14_bin_cifar10_litert.tflite"
    (tmp_path / "model.tflite").write_bytes(shipped.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["program", "model.tflite", "photo.jpg"])
    namespace = {"__name__": "program", "images": images}

    for text in blocks(page, "python"):
        exec(compile(text, page.name, "exec"), namespace)


def test_every_block_says_what_it_is():
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text()):
            assert block["language"], f"{page.name}: {block['text'][:60]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_that_there_are(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 8000
