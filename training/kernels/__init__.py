"""C++ kernels for training on CPUs: what `training.fused` computes between convolutions.

They are compiled for this machine's processor when they are first used, which takes some ten
seconds, and kept in the user's cache folder.

Feature maps are (batch, height, width, channels), float32 or bfloat16; channel values are float32.
"""

import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from larq_seresnet.files import cache_folder
from training import processor

SOURCES = [Path(__file__).with_name(name) for name in ("kernels.cc", "winograd.cc")]
FLAGS = ("-std=c++17", "-shared", "-fPIC", "-O3", "-w")


class UnavailableError(Exception):
    """The kernels cannot be compiled or loaded on this machine."""


@functools.cache
def library() -> Any:
    """The kernels as TensorFlow operators, compiled if need be.

    Raises:
        UnavailableError: There is no C++ compiler, or it failed.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise UnavailableError("there is no C++ compiler (g++ or clang++)")
    # Whatever changes the result is part of the name; a CPU's flags are what -march=native reads.
    command = [
        compiler,
        *FLAGS,
        *processor.compiler_flags(),
        *tf.sysconfig.get_compile_flags(),
        *map(str, SOURCES),
    ]
    command += tf.sysconfig.get_link_flags()
    cpu = " ".join(sorted(processor.features()))
    state = "\n".join([*(x.read_text() for x in SOURCES), *command, tf.version.GIT_VERSION, cpu])
    target = cache_folder() / f"kernels-{hashlib.sha256(state.encode()).hexdigest()[:16]}.so"
    try:
        if not target.exists():
            _compile(command, target)
        return tf.load_op_library(str(target))
    except (OSError, tf.errors.NotFoundError) as error:
        raise UnavailableError(str(error).splitlines()[0]) from error


def _compile(command: Sequence[str], target: Path) -> None:
    print("compiling the training kernels for this processor", flush=True)
    draft = target.with_suffix(f".{os.getpid()}.so")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run([*command, "-o", str(draft)], capture_output=True, text=True)
        if done.returncode:
            reason = next((x for x in done.stderr.splitlines() if "error" in x), "no reason given")
            raise UnavailableError(f"{command[0]} failed: {reason}")
        draft.rename(target)
    finally:
        draft.unlink(missing_ok=True)


def channel_sums(x: tf.Tensor, *, rectify: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums over the positions of every image, of the values and of their squares.

    Args:
        x: The feature map.
        rectify: Whether to take ReLU(x) for x.

    Returns:
        (2, batch, channels), and x, which is to be used from then on in its place: so both its
        gradients are added up in one pass.
    """
    return library().larq_seresnet_channel_sums(x=x, rectify=rectify)


@tf.RegisterGradient("LarqSeresnetChannelSums")
def _channel_sums_grad(op: tf.Operation, sums: tf.Tensor, same: tf.Tensor) -> tf.Tensor:
    return library().larq_seresnet_channel_sums_grad(
        upstream=same, x=op.inputs[0], sums=sums, rectify=op.get_attr("rectify")
    )


def scale_shift(
    x: tf.Tensor,
    scale: tf.Tensor,
    shift: tf.Tensor,
    shortcuts: Sequence[tf.Tensor] = (),
    *,
    rectify: bool = False,
    relu: bool = False,
    copies: int = 1,
    padding: Sequence[int] = (),
) -> list[tf.Tensor]:
    """Compute y = scale * x + shift + shortcut, and ReLU where told.

    Args:
        x: The feature map.
        scale: (batch, channels).
        shift: (batch, channels).
        shortcuts: None, or one feature map of the shape of x.
        rectify: Whether to take ReLU(x) for x.
        relu: Whether to set negative results to 0.
        copies: How often y is returned, 1 or 2: one for each use, so that the gradients of both
            are added up in the same pass.
        padding: Where given (rows above and below, columns to the left and to the right), the
            signs of y (of 0 it is 1) are returned too, in a frame of ones. Their gradient passes
            where |y| <= 1, as `ste_sign`'s.

    Returns:
        y, as often as told, and the signs.
    """
    result = library().larq_seresnet_scale_shift(
        x=x,
        scale=scale,
        shift=shift,
        shortcut=shortcuts,
        rectify=rectify,
        relu=relu,
        copies=copies,
        padding=padding,
        framed=1 if padding else 0,
    )
    return [*result.y, *result.signs]


@tf.RegisterGradient("LarqSeresnetScaleShift")
def _scale_shift_grad(op: tf.Operation, *upstream: tf.Tensor) -> list[tf.Tensor]:
    x, scale, _, *shortcuts = op.inputs
    relu, copies = op.get_attr("relu"), op.get_attr("copies")
    passes = len(upstream) == 1 and not relu  # what comes is the shortcut's gradient
    gradients = library().larq_seresnet_scale_shift_grad(
        upstream=upstream[:copies],
        signs=upstream[copies:],
        y=op.outputs[0],
        x=x,
        scale=scale,
        rectify=op.get_attr("rectify"),
        relu=relu,
        padding=op.get_attr("padding"),
        shortcuts=0 if passes else len(shortcuts),
    )
    of_shortcuts = upstream[: len(shortcuts)] if passes else gradients.shortcut_grad
    return [gradients.x_grad, gradients.scale_grad, gradients.shift_grad, *of_shortcuts]


def conv2d(x: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], padding: str) -> tf.Tensor:
    """As `tf.nn.conv2d`; 3x3 kernels in float32 take fewer multiplications (winograd.cc).

    Args:
        x: The feature map.
        kernel: (height, width, channels of x, channels of the result).
        strides: Down and across.
        padding: "SAME" or "VALID".

    Returns:
        The feature map.
    """
    *size, inputs, outputs = kernel.shape
    fits = size == [3, 3] and tuple(strides) == (1, 1) and not (inputs % 16 or outputs % 16)
    if not fits or x.dtype != tf.float32:
        return tf.nn.conv2d(x, kernel, strides, padding)
    return library().larq_seresnet_winograd(
        x=x, kernel=kernel, padding=int(padding == "SAME"), turned=False
    )


@tf.RegisterGradient("LarqSeresnetWinograd")
def _winograd_grad(op: tf.Operation, upstream: tf.Tensor) -> list[tf.Tensor]:
    (x, kernel), padding = op.inputs, op.get_attr("padding")
    return [
        library().larq_seresnet_winograd(
            x=upstream, kernel=kernel, padding=2 - padding, turned=True
        ),
        library().larq_seresnet_winograd_kernel_grad(x=x, upstream=upstream, padding=padding),
    ]
