"""From runs of `training.fit` to a folder of jobs for a GPU, and back to run folders."""

import functools
import itertools
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from larq_seresnet import models
from larq_seresnet.architecture import Architecture
from larq_seresnet.files import replacing, write_atomically
from training import UserError, flags
from training.trainer import data, fit, network, targets
from training.trainer.config import INDECISIVE, Config
from training.trainer.recipes import RECIPES
from training.trainer.run_folder import RunFolder

OPTIONS: Mapping[str, Any] = {
    # Of the network, which no builder has (yet): only the log of such a run can be collected.
    "float_weights": False,  # fully binary networks: binary activations first, weights later
    "shortcut": "conv",  # "pool": average pool and zeros, without weights
    # Of the training.
    "window": 1.0,  # signs of activations pass the gradient where |x| is at most this
    "gain": 1.0,  # with which the blocks' batch norms start
    "harden": [0.0, 0.0],  # from and until which share of the steps soft gates become steeper,
    "harden_slope": 8.0,  # to so many times the slope; FMB, where it is chosen, comes after that
    "tail": 0.0,  # share of the steps at the end of one-cycle for which the rate falls
    "tail_rates": [1e-4, 1e-7],  # from the first to the second, in equal time for each decade
    "decay_kernels_only": False,
    "clip": True,  # latent weights to [-1, 1]
    "grid": 2,  # pixels from one crop of an image to the next; 1: as `training.fit`
    "evaluate_every": 1,  # epochs; 0: after the last alone
    "keep_weights": True,
}
"""What a run of a plan may say besides flags of `training.fit`, and what is meant by default."""

_OF_THE_NETWORK = ("float_weights", "shortcut")
_AS_THEY_ARE = (
    *("epochs", "batch_size", "optimizer", "learning_rate", "schedule", "warmup", "weight_decay"),
    *("fmb_start", "fmb_epochs", "calibration", "calibrated_log", "seed", "start_from"),
)
_TAKEN = {  # what a worker does of what a configuration may say; the rest must be the default
    *Config().hyperparameters,
    *INDECISIVE,
    *_AS_THEY_ARE,
    *("dataset", "distill", "distill_weight", "distill_temperature"),
    *("precision", "kernels", "padding"),
}

_Load = Callable[[str, str | None], data.Data]


def prepare(plan: Path, folder: Path) -> int:
    """Write a folder of jobs.

    Args:
        plan: JSON: a list of waves, each a list of runs {"name", "flags", "options", "seeds"};
            `--distill` and `--start-from` may also name a run of the plan. With "seeds", which are
            [first, last], a run stands for one of each, "NAME-SEED"; neighbours with the same seeds
            take turns.
        folder: Where to write.

    Returns:
        The number of runs.

    Raises:
        UserError: The plan cannot be read, or asks for what no worker does.
    """
    try:
        waves = json.loads(plan.read_text())
        waves = [list(_each_seed(wave)) for wave in waves]
        names = [run["name"] for wave in waves for run in wave]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{plan} is no readable plan: {error}") from error
    if len(set(names)) < len(names):
        raise UserError(f"{plan} has two runs of one name")
    folder.mkdir(parents=True, exist_ok=True)
    datasets: dict[str, Any] = {}
    load = functools.cache(data.load)
    jobs = [[_job(run, names, folder, datasets, load) for run in wave] for wave in waves]
    text = json.dumps({"datasets": datasets, "waves": jobs}, indent=1)
    write_atomically(folder / "jobs.json", text.encode())
    return len(names)


def _each_seed(wave: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for seeds, neighbours in itertools.groupby(wave, lambda run: run.get("seeds")):
        runs = list(neighbours)
        if seeds is None:
            yield from runs
            continue
        first, last = seeds
        for seed, run in itertools.product(range(first, last + 1), runs):
            words = f"{run.get('flags', '')} --seed {seed}"
            yield {**run, "name": f"{run['name']}-{seed}", "flags": words}


def _job(
    run: Mapping[str, Any],
    names: list[str],
    folder: Path,
    datasets: dict[str, Any],
    load: _Load,
) -> dict[str, Any]:
    config = flags.parse(
        Config, f"run {run['name']}", "", shlex.split(run.get("flags", "")), RECIPES
    )
    own = {**OPTIONS, **run.get("options", {})}
    if unknown := own.keys() - OPTIONS.keys():
        raise UserError(f"run {run['name']}: there is no option {', '.join(sorted(unknown))}")
    for name, value in asdict(config).items():
        if name not in _TAKEN and value != getattr(Config(), name):
            raise UserError(f"run {run['name']}: no worker can do --{name.replace('_', '-')}")
    if config.stem != 1:
        raise UserError(f"run {run['name']}: workers have the stem 1 alone")
    pictures = load(config.dataset, config.data_dir)
    _write_pictures(config, pictures, own["grid"], folder, datasets)
    teacher = folder / f"{Path(config.distill).name}.npz"
    if config.distill not in ("none", *names):
        if teacher.stem in names:  # whose file would say that the run is done
            raise UserError(f"run {run['name']}: its teacher has the name of a run of the plan")
        if not teacher.with_suffix(".json").exists():
            model = targets.load_teacher(config.distill, config.dataset, pictures.source)
            _write_network(teacher, model)
    if config.start_from is not None and config.start_from not in names:
        raise UserError(f"run {run['name']}: workers start from runs of the plan alone")
    described = asdict(network.architecture(config, pictures.source))
    return {
        "name": run["name"],
        "dataset": config.dataset,
        "description": {**described, **{name: own[name] for name in _OF_THE_NETWORK}},
        **{name: getattr(config, name) for name in _AS_THEY_ARE},
        "teacher": None if config.distill == "none" else teacher.stem,
        "teacher_weight": config.distill_weight,
        "temperature": config.distill_temperature,
        **{name: value for name, value in own.items() if name not in _OF_THE_NETWORK},
        "command": config.command,
        "options": run.get("options", {}),
    }


def _write_pictures(
    config: Config, pictures: data.Data, grid: int, folder: Path, datasets: dict[str, Any]
) -> None:
    facts = {
        "padding": config.crop_padding,
        "grid": grid,
        "flip": pictures.source.flip,
        "mean": pictures.source.mean,
        "variance": pictures.source.variance,
    }
    if datasets.setdefault(config.dataset, facts) != facts:
        raise UserError(f"all runs on {config.dataset} need the same padding and grid")
    file = folder / f"pictures-{config.dataset}.npz"
    if not file.exists():
        splits = {name: getattr(pictures, name) for name in ("train", "validation", "test")}
        with replacing(file) as draft:
            np.savez(
                draft,
                **{f"{name}_images": split[0][:] for name, split in splits.items()},
                **{f"{name}_labels": split[1] for name, split in splits.items()},
            )


def to_worker(value: np.ndarray) -> np.ndarray:
    """A Keras weight in PyTorch's layout: the outputs first."""
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value.T


def to_keras(value: np.ndarray) -> np.ndarray:
    """The other way round."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T


def _write_network(file: Path, model: tf.keras.Model) -> None:
    """Write a network as a worker writes its own."""
    defaults = {name: OPTIONS[name] for name in _OF_THE_NETWORK}
    description = {**asdict(Architecture.of(model)), **defaults}
    weights = {
        weight.name.removesuffix(":0"): np.ascontiguousarray(to_worker(value))
        for weight, value in zip(model.weights, model.get_weights(), strict=True)
    }
    with replacing(file) as draft:
        np.savez(draft, **weights)
    text = json.dumps({"spec": {"description": description}})
    write_atomically(file.with_suffix(".json"), text.encode())


def collect(folder: Path, runs: Path) -> list[tuple[str, dict[str, float]]]:
    """Make run folders of what the workers have done.

    Args:
        folder: Of the jobs.
        runs: Where to make them; those that are there stay.

    Returns:
        Names and errors, in percent, as Keras measures them in float32.

    Raises:
        UserError: The folder holds no jobs, or a run folder cannot be written.
    """
    try:
        waves = json.loads((folder / "jobs.json").read_text())["waves"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} holds no jobs: {error}") from error
    found, load = [], functools.cache(data.load)
    for spec in itertools.chain.from_iterable(waves):
        if (file := folder / f"{spec['name']}.json").exists():
            record, path = json.loads(file.read_text()), runs / spec["name"]
            found.append((spec["name"], _collect(spec, record, folder, path, load)))
    return found


def _collect(
    spec: Mapping[str, Any], record: Mapping[str, Any], folder: Path, path: Path, load: _Load
) -> dict[str, float]:
    if (path / "results.json").exists():
        return json.loads((path / "results.json").read_text())
    words = shlex.split(spec["command"])[3:]
    config = replace(flags.parse(Config, "", "", words), epochs=record["epochs"], out=path)
    pictures = load(config.dataset, config.data_dir)
    rows = [
        {name: value for name, value in row.items() if not isinstance(value, list)}
        for row in record["rows"]
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with RunFolder(path, config.decisive()) as run:
        description = {**fit.description(config, pictures), "options": spec["options"]}
        description["processor"] = "a GPU, by training.fleet"
        run.save_json("config.json", description)
        run.save_rows("log.csv", [{c: row.get(c, float("nan")) for c in columns} for row in rows])
        special = any(spec["description"][name] != OPTIONS[name] for name in _OF_THE_NETWORK)
        if special or not spec["keep_weights"]:  # Keras has no such network, or there is none
            results = {k: round(v, 4) for k, v in record["final"].items() if k.endswith("error")}
        else:
            model = models.build(network.architecture(config, pictures.source))
            with np.load(folder / f"{spec['name']}.npz") as weights:
                names = [weight.name.removesuffix(":0") for weight in model.weights]
                model.set_weights([to_keras(weights[n]).astype(np.float32) for n in names])
            run.save_checkpoint(model)
            results, _ = fit.evaluate(model, pictures)
        run.save_results(config.epochs, results)
    return results
