"""Proves that a file computes what the Keras model computes.

Logits are compared, image by image: the largest difference relative to the largest logit, or to
that of most images where it is larger, since a single output may be 0 by chance. Two things make
honest files deviate, and both are counted and never hidden:

- **Ties.** A gate is z >= 0. Keras and the file add the same numbers in different orders, so that
  a z of exactly 0 but for rounding can get different signs. An image is a tie if the first gates
  that differ, in the order of the layers, all have |z| <= 1e-5 of the largest |z| there.
- **Binary activations** have such a threshold at every sign, and LCE rounds differently there: up
  to 1 % of the images may deviate; of images with more than 100,000 signs, 1 % for each 100,000 of
  them, up to half. Beyond that, up to half, only images of which the signs prove that rounding
  turned them (`signs`): of networks whose sums are no whole numbers, as those with residual
  connections, some percent, and of a handful of images a single one is too many.
"""

import contextlib
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.convert import keras_models, pixels, signs, writer
from larq_seresnet.convert.graph import Graph, Tensor
from larq_seresnet.convert.logits import Logits
from larq_seresnet.convert.runners import run
from larq_seresnet.edge.errors import ModelError
from larq_seresnet.edge.model_file import ModelFile
from larq_seresnet.edge.unpack import unpack_constants
from larq_seresnet.errors import ConversionError

TOLERANCE = 1e-4
_MAY_DEVIATE = 0.01  # of the images
_SIGNS = 100_000  # for each so many; a quarter of that was measured
_ROUNDING = signs.ROUNDING
_EXAMPLES = 10  # of images that agree, to see which channels are turned round


@dataclass(frozen=True)
class Verification:
    """How a file compares with its Keras model.

    Attributes:
        images: How many images were compared.
        deviating: Of these, images with logits that differ, at signs of activations.
        ties: Of these, images with logits that differ since a gate's z is 0 but for rounding.
        error: Largest relative difference of the logits of all other images.
        signs: How many values of an image are compared with 0.
        excused: Of the deviating, images of which it was looked for and found that rounding turned
            their signs.
    """

    images: int
    deviating: int
    ties: int
    error: float
    signs: int
    excused: int = 0

    def passes(self, binary_activations: bool) -> bool:
        """Whether the file may be written."""
        ties_fit = self.ties <= _MAY_DEVIATE * self.images
        allowed = self.may_deviate(binary_activations)
        return ties_fit and self.deviating <= max(
            allowed, min(allowed + self.excused, self.images // 2) if binary_activations else 0
        )

    def may_deviate(self, binary_activations: bool) -> int:
        """How many images may deviate without an excuse."""
        turned = min(_MAY_DEVIATE * max(1, self.signs / _SIGNS), 1 / 2) * self.images
        return int(turned) if binary_activations else 0

    def __str__(self) -> str:
        return (
            f"{self.images - self.deviating - self.ties} of {self.images} images within "
            f"{self.error:.1e}, {self.deviating} deviate, {self.ties} tie(s)"
            + (f", {self.excused} by rounding alone" if self.excused else "")
        )


@dataclass(frozen=True)
class Change:
    """What rounding changes, of weights or of activations.

    Attributes:
        images: How many images were compared.
        largest: Of the differences of the logits, each relative to the image's largest logit; of
            rounded activations, of the outputs.
        mean: Of these.
        other_class: How many images have their largest output elsewhere; `None` where the outputs
            are no classes.
    """

    images: int
    largest: float
    mean: float
    other_class: int | None

    @classmethod
    def between(cls, expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> "Change":
        """How outputs differ; of each an array (images, ...)."""
        errors = np.max(list(map(_relative_errors, expected, found)), axis=0)
        other = [
            (x.argmax(axis=1) != y.argmax(axis=1))
            for x, y in zip(expected, found, strict=True)
            if x.shape == y.shape and x.ndim == 2 and x.shape[1] > 1
        ]
        changed = int(np.any(other, axis=0).sum()) if other else None
        return cls(len(errors), float(errors.max()), float(errors.mean()), changed)

    def __str__(self) -> str:
        classes = (
            ""
            if self.other_class is None
            else f"; {self.other_class} of {self.images} images change their class"
        )
        return f"by {self.mean:.1e} of the largest on average, {self.largest:.1e} at most{classes}"


class Reference:
    """The Keras model's outputs, to compare graphs with.

    Args:
        model: In float32.
        images: For each input an array (images, ...).
        target: Whose interpreter runs graphs, as `runners.run` takes it.
        given: The same as the file takes them.
        graph: What a converter made of the model.
    """

    def __init__(
        self,
        model: tf.keras.Model,
        images: Sequence[np.ndarray],
        target: str,
        given: Sequence[np.ndarray],
        graph: Graph,
    ) -> None:
        self._model, self._images, self._target, self._given = model, images, target, given
        self._rounded: Graph | None = None
        self._ends = Logits(model, graph)
        self._logits = self._ends.of_model(images)
        require_finite(self._logits)

    def rounded(self, graph: Graph) -> "Reference":
        """What a graph gives whose weights were rounded, to compare other graphs with."""
        reference = copy.copy(self)
        reference._rounded = graph
        reference._logits = self._run(graph, self._ends.of_graph(graph), self._given)
        return reference

    def change(self, graph: Graph) -> Change:
        """How a graph's outputs, of other weights, differ from the Keras model's."""
        found = self._run(graph, self._ends.of_graph(graph), self._given)
        return Change.between(self._logits, found)

    def compare(self, graph: Graph) -> tuple[Verification, list[np.ndarray]]:
        """Run the graph on all images; returns its outputs as well."""
        count = len(graph.outputs)
        wanted = [*graph.outputs, *self._ends.of_graph(graph)]
        found = self._run(graph, wanted, self._given)
        outputs, found = found[:count], found[count:]
        errors = np.max(list(map(_errors, self._logits, found)), axis=0)
        agree = errors <= TOLERANCE
        ties = self._ties(graph, ~agree) if not agree.all() else 0
        deviating = int((~agree).sum()) - ties
        error = float(errors[agree].max(initial=0.0))
        values = sum(math.prod(x.shape) for x, _ in _decisions(graph, *signs.DECIDES))
        result = Verification(len(errors), deviating, ties, error, values)
        if deviating > result.may_deviate(binary_activations=True):
            result = replace(result, excused=self._excused(graph, agree))
        return result, outputs

    def confirm(self, file: bytes, outputs: Sequence[np.ndarray]) -> None:
        """Check on a few images that the file itself gives these outputs, unpacking as it goes.

        Raises:
            ConversionError: They depend on what else is read out of the graph.
        """
        few = [x[:10] for x in self._given]
        for expected, found in zip(outputs, run(file, self._target, few), strict=True):
            if _errors(expected[: len(found)], found).max() > TOLERANCE:
                raise ConversionError(
                    "the file's outputs depend on what else is read out of it, or on who unpacks it"
                )

    def _run(
        self, graph: Graph, outputs: list[Tensor], images: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """What a file of the graph gives that has these outputs, unpacked once for all images."""
        part = replace(graph, outputs=outputs, input_names=[], output_names=[])
        if not _decisions(graph, *signs.DECIDES):
            file = writer.to_bytes(part)
            with contextlib.suppress(ModelError):
                file = unpack_constants(ModelFile(file)).data
            return run(file, self._target, images)
        # As constants, kernels would have other operators, whose rounding turns other signs.
        constant = part.constant_part()
        if self._target != "litert" or not constant.outputs:
            return run(writer.to_bytes(part), self._target, images)
        fixed = run(writer.to_bytes(constant), self._target, [])
        part.operators = [op for op in part.operators if op not in constant.operators]
        part.inputs = [*part.inputs, *constant.outputs]
        return run(writer.to_bytes(part), self._target, images, fixed)

    def _excused(self, graph: Graph, agree: np.ndarray) -> int:
        """How many images deviate since rounding turned a sign."""
        pairs = signs.quantized(graph, self._model)
        if self._rounded is not None or not pairs or not agree.any():
            return 0
        chosen = np.flatnonzero(~agree)
        chosen = np.append(chosen, np.flatnonzero(agree)[:_EXAMPLES])
        sums = keras_models.values(
            self._model, [pair.sums for pair in pairs], [x[chosen] for x in self._images]
        )
        found = self._run(graph, [pair.values for pair in pairs], [x[chosen] for x in self._given])
        return signs.excused([pair.quantizer for pair in pairs], sums, found, agree[chosen])

    def _ties(self, graph: Graph, chosen: np.ndarray) -> int:
        """How many of the chosen images have a gate that rounding decides."""
        given = [x[chosen] for x in self._given]
        if self._rounded is None:
            expected = keras_models.gates(self._model, [x[chosen] for x in self._images])
        else:
            expected = self._gates(self._rounded, given)
        found = self._gates(graph, given) if expected else []
        if [z.shape[1:] for z in expected] != [z.shape[1:] for z in found]:
            return 0
        return sum(
            _is_tie([z[i] for z in expected], [z[i] for z in found]) for i in range(chosen.sum())
        )

    def _gates(self, graph: Graph, given: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Of gates, values of which there is one per channel, what is compared with 0."""
        decisions = _decisions(graph, "GREATER_EQUAL", "LceQuantize")
        gates = [(z, t) for z, t in decisions if z.shape[1:-1] == (1, 1)]
        found = self._run(graph, [z for z, _ in gates], given) if gates else []
        return [z - t for z, (_, t) in zip(found, gates, strict=True)]


def _is_tie(expected: list[np.ndarray], found: list[np.ndarray]) -> bool:
    for keras, file in zip(expected, found, strict=True):
        flipped = (keras >= 0) != (file >= 0)
        if flipped.any():
            return bool((np.abs(keras[flipped]) <= _ROUNDING * np.abs(keras).max()).all())
    return False


def _decisions(graph: Graph, *names: str) -> list[tuple[Tensor, np.ndarray | float]]:
    """What operators of these names read, of which rounding can turn the result, and thresholds."""
    decisions = []
    for operator in graph.operators:
        if operator.name in names and (x := operator.inputs[0]) is not None:
            threshold = operator.constant(1)
            decisions.append((x, 0.0 if threshold is None else threshold))
    return decisions


def require_finite(outputs: Sequence[np.ndarray]) -> None:
    """Refuse a model of which nothing can be compared.

    Raises:
        ConversionError: Its outputs are infinite, or no numbers.
    """
    if not all(np.isfinite(values).all() for values in outputs):
        raise ConversionError(
            "the Keras model's outputs are not finite on the images that it is tried on: nothing "
            f"to compare; give others (images=), or {pixels.ASK}"
        )


def _relative_errors(
    expected: np.ndarray, found: np.ndarray, *, typical: bool = False
) -> np.ndarray:
    """One value per image, relative to its largest; if `typical`, at least to most images'."""
    expected, found = (x.astype(np.float32).reshape(len(x), -1) for x in (expected, found))
    difference = np.abs(expected - found).max(axis=1)
    largest = np.abs(expected).max(axis=1)
    least = float(np.median(largest)) if typical else 0.0
    largest = np.maximum(largest, max(least, float(np.finfo(np.float32).tiny)))
    return np.where(np.isfinite(difference), difference / largest, np.inf)


_errors = partial(_relative_errors, typical=True)
