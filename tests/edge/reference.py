"""The operators' definitions, in numpy and as plainly as possible."""

import numpy as np

from tools.edge.lce_files import RELU, RELU6, RELU_N1_TO_1, SAME, Conv

LIMITS = {RELU: (0, np.inf), RELU_N1_TO_1: (-1, 1), RELU6: (0, 6)}


def signs(x: np.ndarray, zero: float = 0) -> np.ndarray:
    return np.where(x < zero, -1.0, 1.0)


def pad_amount(size: int, kernel: int, stride: int, dilation: int, padding: int) -> tuple[int, int]:
    if padding != SAME:
        return 0, 0
    span = (kernel - 1) * dilation + 1
    total = max(0, (-(-size // stride) - 1) * stride + span - size)
    return total // 2, total - total // 2


def convolve(x: np.ndarray, case: Conv) -> np.ndarray:
    """A grouped convolution of +1 and -1."""
    weights = case.weights()
    axes = zip(case.size, case.kernel, case.stride, case.dilation, strict=True)
    pads = [pad_amount(*axis, case.padding) for axis in axes]
    x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=case.pad_values)
    height, width = case.output_size()
    output = np.zeros((len(x), height, width, case.filters))
    per_group, inputs = case.filters // case.groups, case.channels // case.groups
    for fy in range(case.kernel[0]):
        for fx in range(case.kernel[1]):
            rows = fy * case.dilation[0] + case.stride[0] * np.arange(height)
            columns = fx * case.dilation[1] + case.stride[1] * np.arange(width)
            window = x[:, rows][:, :, columns]
            for g in range(case.groups):
                out = slice(g * per_group, (g + 1) * per_group)
                channels = window[..., g * inputs : (g + 1) * inputs]
                output[..., out] += channels @ weights[out, fy, fx].T
    return output


def run(case: Conv, x: np.ndarray) -> np.ndarray:
    """What `case.file()` gives for `x`."""
    sums = convolve(signs(x, 3 if case.input == "int8" else 0), case)
    if case.output == "bits":
        factors = case.kernel[0] * case.kernel[1] * case.channels // case.groups
        differing = (factors - sums) / 2
        return np.where(differing > case.thresholds(), -1.0, 1.0)
    low, high = LIMITS.get(case.activation, (-np.inf, np.inf))
    multiplier, bias = case.affine()
    result = np.clip(sums, low, high) * multiplier.astype(float) + bias
    if case.output == "int8":
        result = result / np.float32(0.7) - 5
        rounded = np.sign(result) * np.floor(np.abs(result) + 0.5)
        return np.clip(rounded, -128, 127)
    return result


def rounding(case: Conv) -> float:
    """The error to expect of float32: one part in 10^6 of the largest possible sum."""
    factors = case.kernel[0] * case.kernel[1] * case.channels // case.groups
    return 1e-6 * factors * float(np.abs(case.affine()[0]).max())
