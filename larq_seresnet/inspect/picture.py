"""Draws channels x depth."""

import numpy as np
from matplotlib.figure import Figure

from larq_seresnet.inspect.tables import Networks


def draw(networks: Networks) -> Figure:
    """How often each channel is on: a panel a network, a row a module, channels sorted."""
    figure = Figure(figsize=(8, 1 + 2.2 * len(networks)), layout="constrained")
    panels = figure.subplots(len(networks), squeeze=False)[:, 0]
    for axes, (name, modules) in zip(panels, networks.items(), strict=True):
        widest = max(len(m.on) for m in modules)
        shares = [
            np.pad(np.sort(m.on)[::-1], (0, widest - len(m.on)), constant_values=np.nan)
            for m in modules
        ]
        picture = axes.imshow(np.array(shares), vmin=0, vmax=1, cmap="cividis", aspect="auto")
        axes.set_yticks(range(len(modules)), [m.module for m in modules])
        title = f"{name}, {'with' if modules[0].fmb else 'without'} FMB"
        axes.set_title(title, loc="left", parse_math=False)
        axes.set_facecolor("white")
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        side = axes.secondary_yaxis("right")
        counts = [f"{m.always_on} always on, {m.always_off} off" for m in modules]
        side.set_yticks(range(len(modules)), counts)
        side.tick_params(length=0)
        side.spines["right"].set_visible(False)
    panels[-1].set_xlabel("channels of a module, from the most often on to the least")
    bar = figure.colorbar(picture, ax=list(panels), location="top", shrink=0.5, aspect=30)
    bar.set_label("share of the images on which the gate is on")
    return figure
