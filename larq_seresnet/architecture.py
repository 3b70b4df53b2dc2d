"""What makes a network: the one place that names its hyperparameters, checks and stores them.

The builders' arguments, files of weights, run folders, flags of `training.fit`, the metadata of
converted files and `--start-from` all come from the fields below. A new hyperparameter is a field
here, its use in `models.build`, and where `Architecture.of` finds it in a built network.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral
from typing import Any, Literal, get_args, get_origin

# Of the training split, raw pixels, by channel.
CIFAR10_MEAN = (125.4, 123.0, 113.9)
CIFAR10_VARIANCE = (3963.0, 3849.0, 4448.0)

# They change how a network learns, or which images it takes, but not what its weights compute.
_FREE = {"gradient", "input_shape", "open_gates"}
# The standardization and the dense layer, of which the weights between them know nothing.
_ENDS = {"mean", "variance", "classes"}


def option(default: Any, help: str) -> Any:
    """A dataclass field with a text for people."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """What one chooses of a network; the rest of an `Architecture` comes with the data.

    Raises:
        ValueError: A value is out of its range, or two contradict each other.
    """

    model: Literal["binary", "float"] = option(
        "binary", "SEResNet14Bin with 1-bit weights, or SEResNet14 in float32"
    )
    activations: Literal["float", "binary"] = option(
        "float",
        "binary: the 3x3 convolutions of the blocks and those of squeeze-and-excitation have "
        "binary inputs too (fully binary network)",
    )
    width: int = option(16, "channels of the first stage; the others have 2, 4, ... times as many")
    blocks: tuple[int, ...] = option((2, 2, 2), "residual blocks of each stage")
    stem: Literal[1, 2, 4] = option(
        1,
        "by how much the first layers lower the resolution, for larger images: 2: the first "
        "convolution has stride 2; 4: and a max pool follows it",
    )
    reduction: int = option(1, "reduction ratio of squeeze-and-excitation, a divisor of the width")
    gate: Literal["sigmoid", "tanh", "hard_tanh", "none"] = option(
        "sigmoid", "activation of the channel attention; none: no squeeze-and-excitation"
    )
    attention_scale: bool = option(False, "scale the gates' pre-activation, so that none saturates")
    float_attention: bool = option(
        False, "float inputs for squeeze-and-excitation in the fully binary network too"
    )
    fmb: bool = option(False, "binarize the gates: feature map binarization")
    open_gates: bool = option(
        False, "all gates are on at first, and close where that helps; with 1-bit weights"
    )
    gradient: Literal["ste", "cut"] = option(
        "ste", "gradient through FMB: straight-through, or none as in the paper to the letter"
    )

    def __post_init__(self) -> None:
        if self.gate is None:  # in Keras code
            object.__setattr__(self, "gate", "none")
        self._make_numbers(int, "blocks")
        for item in fields(Hyperparameters):
            choices, value = get_args(item.type), getattr(self, item.name)
            if get_origin(item.type) is Literal and value not in choices:
                known = ", ".join(map(str, choices))
                raise ValueError(f"{item.name} must be one of {known}, not {value!r}")
        self._require_positive("width", "reduction")
        if not self.blocks:
            raise ValueError("blocks must have a number for each stage, and names none")
        if min(self.blocks) < 1:
            raise ValueError(f"blocks must be positive integers, not {self.blocks}")
        if self.width % self.reduction:
            raise ValueError(f"reduction {self.reduction} does not divide the width {self.width}")
        if self.model == "float" and self.activations == "binary":
            raise ValueError("binary activations need 1-bit weights")
        if self.float_attention and self.activations == "float":
            raise ValueError("float_attention needs binary activations")
        for name in ("fmb", "attention_scale", "float_attention"):
            if self.gate == "none" and getattr(self, name):
                raise ValueError(f"{name} needs a gate: gate must not be none")

    def _make_numbers(self, kind: type, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, tuple(map(kind, value)))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name} must be numbers, not {value!r}") from error

    def _require_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
            object.__setattr__(self, name, int(value))  # of NumPy, it fits into no JSON

    @property
    def name(self) -> str:
        """The network's name, by which its files are called; the papers' width goes without."""
        width = "" if self.width == Hyperparameters.width else f"_w{self.width}"
        if self.model == "float":
            return f"seresnet14{width}"
        bits = "bin" if self.activations == "float" else "fully_binary"
        return f"seresnet14_{bits}{'' if self.fmb else '_no_fmb'}{width}"

    @property
    def variant(self) -> dict[str, Any]:
        """Those of the builder's arguments that `name` tells, unless they are its defaults."""
        chosen = {name: getattr(self, name) for name in ("width", "activations")}
        told = {k: v for k, v in chosen.items() if v != getattr(Hyperparameters, k)}
        return {**told, "fmb": False} if self.model == "binary" and not self.fmb else told

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The fields above alone, also of an instance of a subclass."""
        return {item.name: getattr(self, item.name) for item in fields(Hyperparameters)}


@dataclass(frozen=True, kw_only=True)
class Architecture(Hyperparameters):
    """All that a network is made of, but its weights.

    Raises:
        ValueError: A value is out of its range, or two contradict each other.
    """

    classes: int = option(10, "outputs")
    input_shape: tuple[int, ...] = option((32, 32, 3), "height, width and channels of the images")
    mean: tuple[float, ...] = option(
        CIFAR10_MEAN, "of the raw pixels, by channel, which the network subtracts"
    )
    variance: tuple[float, ...] = option(
        CIFAR10_VARIANCE, "of the raw pixels, by channel, by whose root the network divides"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._make_numbers(int, "input_shape")
        self._make_numbers(float, "mean", "variance")
        self._require_positive("classes")
        if len(self.input_shape) != 3 or min(self.input_shape) < 1:
            raise ValueError(
                f"input_shape must be (height, width, channels), not {self.input_shape!r}"
            )
        if not all(map(math.isfinite, self.mean)):
            raise ValueError(f"mean must be finite, not {self.mean}")
        if not all(0 <= x < math.inf for x in self.variance):
            raise ValueError(f"variance must be 0 or more, not {self.variance}")
        if not len(self.mean) == len(self.variance) == self.input_shape[2]:
            raise ValueError(
                f"mean and variance need a value for each of the {self.input_shape[2]} channels, "
                f"not {len(self.mean)} and {len(self.variance)}"
            )

    @property
    def builder(self) -> str:
        """The function of `larq_seresnet.models` that builds it."""
        return "SEResNet14" if self.model == "float" else "SEResNet14Bin"

    @property
    def arguments(self) -> dict[str, Any]:
        """The builder's arguments, as JSON has them; the latest ones only if not the papers'.

        So the files from before there was a choice are still written to the byte.
        """
        values = {key: list(x) if isinstance(x, tuple) else x for key, x in asdict(self).items()}
        implied = {"model"} | ({"activations"} if self.model == "float" else set())
        for name in ("blocks", "stem", "float_attention", "open_gates"):
            if getattr(self, name) == getattr(Hyperparameters, name):
                implied.add(name)
        return {key: value for key, value in values.items() if key not in implied}

    @property
    def summary(self) -> dict[str, Any]:
        """The hyperparameters alone, for the metadata of other files."""
        chosen = {k: v for k, v in self.arguments.items() if k in self.hyperparameters}
        return {"model": self.model, **chosen}

    @classmethod
    def from_arguments(cls, builder: str, arguments: Mapping[str, Any]) -> "Architecture":
        """The architecture that a builder of that name makes of `arguments`.

        Raises:
            ValueError: There is no such builder, or an argument is out of its range.
            TypeError: There is no such argument.
        """
        models = {"SEResNet14": "float", "SEResNet14Bin": "binary"}
        if builder not in models:
            raise ValueError(f"there is no builder {builder!r}")
        return cls(**{**arguments, "model": models[builder]})

    @classmethod
    def of(cls, model: Any) -> "Architecture":
        """The architecture of a built network (`tf.keras.Model`), of a pruned one the unpruned's.

        FMB that a schedule has switched off is not there.

        Raises:
            ValueError: The model is none of these networks.
        """
        layers = {layer.name: layer for layer in model.layers}
        try:
            first, dense = layers["conv"], layers["dense"]
            statistics = layers["standardize"].get_config()
            modules = [layers[name] for name in layers if re.fullmatch(r"block\d+_se", name)]
            attention = modules[0].get_config() if modules else {}
            convs = [layers[name] for name in layers if re.fullmatch(r"block\d+_conv1", name)]
            filters = [conv.filters for conv in convs]
            binary = convs[0].input_quantizer is not None
            return cls(
                model="binary" if first.kernel_quantizer else "float",
                activations="binary" if binary else "float",
                width=first.filters,
                blocks=tuple(filters.count(count) for count in dict.fromkeys(filters)),
                stem=first.strides[0] * (2 if "stem_pool" in layers else 1),
                reduction=attention.get("reduction", 1),
                gate=attention.get("gate", "none"),
                attention_scale=attention.get("scale", False),
                float_attention=binary and bool(modules) and not attention["input_quantizer"],
                fmb=attention.get("fmb", False),
                open_gates=attention.get("open_gates", False),
                gradient=attention.get("gradient", "ste"),
                classes=dense.units,
                input_shape=model.input_shape[1:],
                mean=statistics["mean"],
                variance=statistics["variance"],
            )
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError("the model is no SEResNet14 and no SEResNet14Bin") from error

    def differences(self, other: "Architecture") -> Iterator[tuple[str, Any, Any]]:
        """Name, own and other's value of each field in which two architectures differ."""
        for item in fields(self):
            ours, theirs = getattr(self, item.name), getattr(other, item.name)
            if ours != theirs:
                yield item.name, ours, theirs

    def contradictions(
        self, trained: "Architecture", *, body: bool = False
    ) -> Iterator[tuple[str, Any, Any]]:
        """The differences because of which `trained`'s weights would compute something else.

        Args:
            trained: The weights' architecture.
            body: Only the weights between standardization and dense layer count.
        """
        # FMB looks at signs alone, which the scale leaves as they are.
        free = _FREE | ({"attention_scale"} if self.fmb else set()) | (_ENDS if body else set())
        if self.input_shape[2] != trained.input_shape[2]:
            free -= {"input_shape"}
        return (found for found in self.differences(trained) if found[0] not in free)


OF_THE_DATA = tuple(
    item.name for item in fields(Architecture) if item not in fields(Hyperparameters)
)
"""The fields of an `Architecture` that nobody chooses: they come with the images."""
