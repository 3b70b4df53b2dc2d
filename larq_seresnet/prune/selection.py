"""Chooses the channels to remove."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from larq_seresnet import attention, gates
from larq_seresnet._tensorflow import tf
from larq_seresnet.attention import Observation
from larq_seresnet.layers import SqueezeExcite


@dataclass(frozen=True)
class Choice:
    """What to remove from a module.

    Attributes:
        module: Its name.
        removed: For each channel of its input, whether it goes.
        bias: For W_0's outputs: the mean of what the removed channels contribute to them.
        never_on: How many channels are off on every image.
        changed: On how many of the images another gate changes.
        on: The share of its gates that are on, of all images and channels.
        left_out: Whether the whole module goes, and what it scales stays as it is.
    """

    module: str
    removed: np.ndarray
    bias: np.ndarray
    never_on: int
    changed: int
    on: float
    left_out: bool


def select(
    model: tf.keras.Model,
    images: np.ndarray,
    threshold: float = 0.0,
    left_out: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Choice]:
    """Choose the channels, module by module; see `larq_seresnet.prune.prune`."""
    for name, share in (("threshold", threshold), ("left_out", left_out)):
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"{name} must be from 0 to 1, not {share}")
    for module in attention.modules(model):
        gate = gates.get(module.gate)
        if gate.low != 0:
            raise ValueError(
                f"{module.name} has {gate.high:+.0f}/{gate.low:+.0f} gates ({module.gate}): a gate "
                f"of {gate.low:+.0f} flips a channel and does not remove it, so that there is "
                "nothing to prune; 0/1 gates (sigmoid with FMB) can be pruned"
            )
        if not module.fmb.enabled:
            raise ValueError(
                f"{module.name} has soft gates (no FMB), which scale every channel a little: only "
                "gates that FMB makes 0 or 1 remove channels"
            )
    found = attention.observe(model, images, progress)
    return [choose(seen, threshold, left_out) for seen in found]


def choose(seen: Observation, threshold: float, left_out: float | None = None) -> Choice:
    """Choose a module's channels, or all of it, by what it did on the images."""
    rates = seen.is_on.mean(axis=0)
    goes = left_out is not None and bool(rates.mean() >= left_out)
    removed = np.zeros(len(rates), bool) if goes else _removed(seen, rates, threshold)
    return Choice(
        module=seen.module.name,
        removed=removed,
        bias=_contribution(seen, removed),
        never_on=int((rates == 0).sum()),
        changed=int((~seen.is_on).any(axis=1).sum()) if goes else _changed(seen, removed),
        on=float(rates.mean()),
        left_out=goes,
    )


def _removed(seen: Observation, rates: np.ndarray, threshold: float) -> np.ndarray:
    wanted = rates < threshold if threshold else rates == 0
    wanted[rates.argmax()] = False
    if not threshold and wanted.any() and _changed(seen, wanted):
        wanted = _without_loss(seen, wanted)
    return wanted


def _without_loss(seen: Observation, candidates: np.ndarray) -> np.ndarray:
    """Of the candidates as many as leave the other gates alone, the steadiest first."""
    removed = np.zeros_like(candidates)
    spread = seen.pooled.std(axis=0)
    for channel in sorted(np.flatnonzero(candidates), key=lambda channel: spread[channel]):
        removed[channel] = True
        removed[channel] = not _changed(seen, removed)
    return removed


def _changed(seen: Observation, removed: np.ndarray) -> int:
    """On how many images another gate changes when these channels are gone."""
    if not removed.any():
        return 0
    module = narrowed(seen.module, ~removed, _contribution(seen, removed))
    gates_left = attention.is_on(module, seen.pooled[:, ~removed])
    return int((gates_left != seen.is_on[:, ~removed]).any(axis=1).sum())


def _contribution(seen: Observation, removed: np.ndarray) -> np.ndarray:
    """What the removed channels add to W_0's outputs, on average over the images."""
    pooled = tf.constant(seen.pooled[:, None, None, :])
    if seen.module.input_quantizer:
        pooled = seen.module.input_quantizer(seen.module.norms[0](pooled, training=False))
    mean = pooled.numpy()[:, 0, 0].mean(axis=0, dtype=np.float64)
    kernel = tf.convert_to_tensor(seen.module.squeeze.kernel)
    if seen.module.kernel_quantizer:
        kernel = seen.module.kernel_quantizer(kernel)
    return (mean[removed] @ kernel.numpy()[0, 0][removed]).astype(np.float32)


def narrowed(
    module: SqueezeExcite, kept: np.ndarray, bias: np.ndarray, padding: tuple[int, int] = (0, 0)
) -> SqueezeExcite:
    """The module without some channels of its input.

    Args:
        module: Of any precision policy; it is left as it is.
        kept: Which channels stay, as a mask or as positions in their new order.
        bias: To add to W_0's outputs.
        padding: The new module's.
    """
    config = {**module.get_config(), "padding": padding, "squeeze_filters": module.squeeze.filters}
    # With binary inputs a batch norm follows W_0, which takes the bias.
    config["squeeze_bias"] = not module.input_quantizer and bool(module.squeeze_bias or bias.any())
    new = type(module).from_config(config)
    squeeze, excite = module.squeeze.kernel.numpy(), module.excite.kernel.numpy()
    new.build((None, None, None, np.arange(squeeze.shape[2])[kept].size))
    new.squeeze.kernel.assign(squeeze[:, :, kept])
    new.excite.kernel.assign(excite[:, :, :, kept])
    if new.squeeze_bias:
        old = module.squeeze.bias.numpy() if module.squeeze_bias else 0.0
        new.squeeze.bias.assign(old + bias)
    for i, norm in enumerate(new.norms):
        weights = module.norms[i].get_weights()
        norm.set_weights([w[kept] for w in weights] if i == 0 else weights)
    if new.norms:
        new.norms[1].moving_mean.assign_sub(bias)
    return new
