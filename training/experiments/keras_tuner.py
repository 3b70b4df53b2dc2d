"""The one place where keras-tuner is imported, for Keras 2, and a grid search on it.

keras-tuner 1.4.8 asks `import keras` which Keras there is, finds Keras 3, and then refuses the
models of `tf_keras`. While it is imported, `keras` is `tf_keras`.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import tf_keras

from training import UserError

_keras = sys.modules.get("keras")
sys.modules["keras"] = tf_keras
try:
    import keras_tuner as kt
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"the sweep needs {error.name}, which is not installed: pip install keras-tuner",
        name=error.name,
    ) from error
finally:
    if _keras is None:
        del sys.modules["keras"]
    else:
        sys.modules["keras"] = _keras

Values = dict[str, Any]


class GridOracle(kt.Oracle):
    """Hands out given combinations one after the other.

    keras-tuner's own `GridSearchOracle` asks what came of a combination before it gives the next,
    so that workers wait for each other.

    Args:
        grid: The combinations, each with a value of every hyperparameter.
    """

    def __init__(self, grid: Sequence[Mapping[str, Any]]) -> None:
        space = kt.HyperParameters()
        for name in grid[0]:
            space.Choice(name, list(dict.fromkeys(values[name] for values in grid)))
        super().__init__(
            objective=kt.Objective("error", "min"),
            max_trials=len(grid),
            hyperparameters=space,
            tune_new_entries=False,
            allow_new_entries=False,
        )
        self._grid = grid

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next combination."""
        values = dict(self._grid[len(self.start_order)])
        return {"status": "RUNNING", "values": values}


class Tuner(kt.engine.base_tuner.BaseTuner):
    """Measures combinations.

    Args:
        grid: The combinations.
        measure: Gives the error for a combination.
        folder: For keras-tuner's own files.
    """

    def __init__(
        self,
        grid: Sequence[Mapping[str, Any]],
        measure: Callable[[Values], float],
        folder: Path,
    ) -> None:
        self._grid = grid
        self._measure = measure
        self._asked = False
        super().__init__(GridOracle(grid), directory=str(folder), project_name="keras_tuner")

    def pre_create_trial(self) -> None:
        """Wait before asking again: with nothing to hand out, the chief is asked without pause."""
        if self._asked:
            time.sleep(1)
        self._asked = True

    def on_trial_begin(self, trial: Any) -> None:
        """There is something to do: do not wait before the next question."""
        self._asked = False

    def save(self) -> None:
        """Keep nothing: `measure` knows what it measured before, and files cut in half do not."""

    def run_trial(self, trial: Any, *arguments: Any, **keywords: Any) -> dict[str, float]:
        """Measure a trial's combination.

        It is known by its number: on the way from a chief, its floats were rounded to 32 bits.
        """
        try:
            return {"error": self._measure(dict(self._grid[int(trial.trial_id)]))}
        except UserError as error:  # concerns every trial: the search ends
            raise kt.errors.FatalError(str(error)) from error


def search(
    grid: Sequence[Mapping[str, Any]], measure: Callable[[Values], float], folder: Path
) -> list[tuple[Values, float]]:
    """Measure every combination; with keras-tuner's environment variables, as chief or worker.

    Returns:
        The combinations with their errors. A worker returns none: its chief has them.

    Raises:
        UserError: A measurement cannot be made, or chief and workers do not find each other.
    """
    try:
        tuner = Tuner(grid, measure, folder)
        tuner.search(verbose=0)
    except grpc.RpcError as error:
        address = ":".join(os.environ[f"KERASTUNER_ORACLE_{part}"] for part in ("IP", "PORT"))
        raise UserError(f"the chief at {address} does not answer: start it first") from error
    except (kt.errors.FatalError, RuntimeError) as error:
        raise UserError(str(error).splitlines()[0]) from error
    if is_worker():
        return []
    failed = [trial for trial in tuner.oracle.trials.values() if trial.score is None]
    if failed:
        raise UserError(f"a trial failed: {(failed[0].message or '').strip().splitlines()[-1]}")
    return [(dict(grid[int(name)]), trial.score) for name, trial in tuner.oracle.trials.items()]


def is_shared() -> bool:
    """Whether keras-tuner's environment variables make this process a chief or a worker."""
    return "KERASTUNER_ORACLE_IP" in os.environ


def is_worker() -> bool:
    """Whether they make it a worker."""
    return is_shared() and "chief" not in os.environ.get("KERASTUNER_TUNER_ID", "")
