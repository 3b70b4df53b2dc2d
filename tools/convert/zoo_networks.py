"""Convert the networks of larq-zoo, built without weights, and write a line for each file.

    PYTHONPATH=.:FOLDER python tools/convert/zoo_networks.py OUT.json [NETWORK ...] [OPTIONS]

FOLDER is where `pip install --no-deps --target FOLDER larq-zoo zookeeper typeguard` put larq-zoo,
whose own pins do not fit TensorFlow's.
"""

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.convert import converters, images, run_conversion
from larq_seresnet.edge import Interpreter
from larq_seresnet.errors import ConversionError

NETWORKS = {
    **dict.fromkeys(("BinaryAlexNet", "XNORNet", "DoReFaNet"), 224),  # which fit no smaller images
    **dict.fromkeys(("BiRealNet", "BinaryResNetE18", "RealToBinaryNet", "MeliusNet22"), 64),
    **dict.fromkeys(("BinaryDenseNet28", "BinaryDenseNet37", "BinaryDenseNet37Dilated"), 64),
    **dict.fromkeys(("BinaryDenseNet45", "QuickNetSmall", "QuickNet", "QuickNetLarge"), 64),
}
CLASSES = 10
ON_DEVICE = 100


def built(name: str, count: int, calibrate: bool) -> tuple[tf.keras.Model, np.ndarray]:
    """A network, and images from -1 to 1."""
    import larq_zoo  # once larq_seresnet has chosen Keras 2

    tf.keras.utils.set_random_seed(0)
    room = larq_zoo.sota if hasattr(larq_zoo.sota, name) else larq_zoo.literature
    shape = (NETWORKS[name], NETWORKS[name], 3)
    model = getattr(room, name)(weights=None, input_shape=shape, num_classes=CLASSES)
    pixels = images._synthetic((count, *shape)) / 127.5 - 1
    if calibrate:
        norms = [x for x in model.layers if isinstance(x, tf.keras.layers.BatchNormalization)]
        for layer in norms:
            layer.momentum = 0.0
        model(pixels, training=True)
    return model, pixels.astype(np.float32)


def converted(model: tf.keras.Model, pixels: np.ndarray, target: str) -> dict[str, Any]:
    """What became of a network for one target."""
    start = time.perf_counter()
    try:
        conversion = run_conversion(model, target, images=pixels, input_range=(-1, 1))
    except ConversionError as error:
        return {"error": str(error)}
    found = Interpreter(conversion.file).predict(pixels[:ON_DEVICE])
    expected = model.predict(pixels[:ON_DEVICE], verbose=0)
    return {
        "bytes": len(conversion.file),
        "converters_bytes": len(conversion.unpacked),
        "images": conversion.verification.images,
        "deviating": conversion.verification.deviating,
        "signs": conversion.verification.signs,
        "same_class_on_device": int((found.argmax(1) == expected.argmax(1)).sum()),
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    """Convert what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--calibrate", action="store_true", help="batch norm, on the images")
    parser.add_argument("--images", type=int, default=500)
    args = parser.parse_intermixed_args()
    logging.getLogger("larq").setLevel(logging.ERROR)
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.networks or NETWORKS:
        model, pixels = built(name, args.images, args.calibrate)
        results[name] = {"size": NETWORKS[name], "weights": model.count_params()}
        results[name]["float_bytes"] = len(converters.run_converter(model, "litert"))
        for target in ("lce", "litert"):
            results[name][target] = converted(model, pixels, target)
            print(name, target, results[name][target], flush=True)
        args.out.write_text(json.dumps(results, indent=1) + "\n")
        tf.keras.backend.clear_session()


if __name__ == "__main__":
    main()
