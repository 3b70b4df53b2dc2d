"""Loads and runs damaged `.tflite` files, and tells what each of them did.

    python tools/edge/fuzz.py --files 2000 --sanitize

compiles the native delegate with AddressSanitizer and UndefinedBehaviorSanitizer, takes small files
of every operator, and either damages their bytes or makes them say something else that is
well-formed (so as to get past the reader and into the delegate). Each goes to a process of its own.
The outcomes:

    ran         the damage did no harm
    refused     a `ModelError`: the expected outcome
    exception   another Python exception: a fault of larq_seresnet.edge
    sanitizer   a sanitizer's report with the delegate in it: a fault of the native code
    runtime     the process died in the TFLite runtime: a fault of what larq_seresnet.edge lets pass
    slow        it took longer than the time limit

The exit status is 1 where there is a fault. Each day has a seed of its own, which is printed.
"""

import argparse
import collections
import math
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))
NATIVE = REPOSITORY / "larq_seresnet/edge/native"
FLAGS = [
    "-std=c11",
    "-O1",
    "-g",
    "-ffp-contract=off",
    "-fPIC",
    "-shared",
    "-pthread",
    "-fno-omit-frame-pointer",
]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FAULTS = ("exception", "sanitizer", "runtime")
_SECONDS = 20
_MEMORY = 4 << 30
_INTERESTING = [
    0,
    1,
    2,
    3,
    7,
    31,
    32,
    33,
    127,
    128,
    255,
    256,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
]


def build(folder: Path) -> Path:
    """Compiles the delegate with the sanitizers."""
    library = folder / "libdelegate_sanitized.so"
    sources = sorted(str(path) for path in NATIVE.glob("*.c"))
    subprocess.run(["gcc", *FLAGS, *SANITIZERS, "-o", library, *sources, "-lm"], check=True)
    return library


def seeds() -> list[bytes]:
    """Small files, which between them use every operator and option."""
    from tools.edge.lce_files import RELU, VALID, Conv, Graph, words
    from tools.edge.packed_files import classifier, packed_conv

    pool = Graph()
    x = pool.tensor((1, 6, 6, 40))
    packed, pooled = pool.tensor((1, 6, 6, 2), "int32"), pool.tensor((1, 3, 3, 2), "int32")
    y = pool.tensor((1, 3, 3, 40))
    options = {f"{k}_{a}": 2 for k in ("filter", "stride") for a in ("height", "width")}
    pool.custom("LceQuantize", [x], packed)
    pool.custom("LceBMaxPool2d", [packed], pooled, {**options, "padding": 0})
    pool.custom("LceDequantize", [pooled], y)
    assert words(40) == 2
    small = {"size": (5, 5), "filters": 20}
    return [
        pool.finish([x], [y]),
        Conv(channels=40, **small).file(),
        Conv(channels=40, pad_values=0, **small).file(),
        Conv(channels=64, groups=2, padding=VALID, output="bits", **small).file(),
        Conv(channels=33, output="int8", input="int8", activation=RELU, **small).file(),
        Conv(channels=32, kernel=(1, 1), stride=(2, 2), dilation=(3, 1), **small).file(),
        packed_conv("lce", metadata=b'{"labels": ["a", "b"], "input_range": [0, 255]}')[0],
        packed_conv("litert", channels=5)[0],
        classifier(b'{"labels": ["a", "b", "c"]}'),
    ]


def damage(file: bytes, generator: random.Random) -> bytes:
    """One to four changes of the kinds that find most faults."""
    data = bytearray(file)
    for _ in range(generator.choice([1, 1, 1, 2, 4])):
        kind = generator.random()
        place = generator.randrange(len(data))
        if kind < 0.35:
            data[place] ^= 1 << generator.randrange(8)
        elif kind < 0.6:
            data[place] = generator.choice([0, 1, 2, 4, 127, 128, 255, generator.randrange(256)])
        elif kind < 0.85:
            start = min(place & ~3, len(data) - 4)
            value = generator.choice(_INTERESTING)
            if generator.random() < 0.3:
                old = struct.unpack_from("<I", data, start)[0]
                value = (old + generator.choice([-4, -1, 1, 4, 32])) % 2**32
            struct.pack_into("<I", data, start, value)
        elif kind < 0.92:
            del data[max(16, place) :]
        else:
            end = min(len(data), place + generator.randrange(1, 64))
            data[place:end] = bytes(generator.randrange(256) for _ in range(end - place))
    return bytes(data)


def distort(file: bytes, generator: random.Random) -> bytes:
    """Changes what the file says and keeps it well-formed, so that it gets past the reader."""
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file))
    graph = model.subgraphs[0]
    for _ in range(generator.choice([1, 1, 2, 3])):
        tensor, operator = generator.choice(graph.tensors), generator.choice(graph.operators)
        kind = generator.random()
        if kind < 0.3 and operator.customOptions is not None and len(operator.customOptions):
            options = damage(bytes(operator.customOptions).ljust(24, b"\0"), generator)
            operator.customOptions = np.frombuffer(options, np.uint8)
        elif kind < 0.5:
            shape = [*map(int, tensor.shape)]
            if shape and generator.random() < 0.8:
                value = generator.choice([0, 1, 2, 3, 5, 32, 33, 1000, 2**16, 2**31 - 1])
                shape[generator.randrange(len(shape))] = value
            elif generator.random() < 0.5:
                shape = shape[1:]
            else:
                shape = [*shape, 1]
            tensor.shape = np.array(shape, np.int32)
        elif kind < 0.6:
            tensor.type = generator.choice([0, 1, 2, 3, 4, 6, 9])
        elif kind < 0.7:
            tensor.buffer = generator.randrange(len(model.buffers))
        elif kind < 0.75 and tensor.quantization is not None:
            tensor.quantization.scale = np.array([generator.choice([0, -1, 1e-38, 1e38])])
            tensor.quantization.zeroPoint = np.array([generator.choice([0, -129, 128, 2**40])])
        elif kind < 0.9:
            inputs = [*map(int, operator.inputs)]
            if inputs and generator.random() < 0.7:
                replacement = generator.randrange(-1, len(graph.tensors))
                inputs[generator.randrange(len(inputs))] = replacement
            elif generator.random() < 0.5:
                inputs = inputs[1:]
            else:
                inputs = [*inputs, generator.randrange(len(graph.tensors))]
            operator.inputs = np.array(inputs, np.int32)
        else:
            outputs = generator.choices(range(len(graph.tensors)), k=generator.choice([0, 1, 1, 2]))
            operator.outputs = np.array(outputs, np.int32)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def use(file: bytes) -> None:
    """Loads a file and runs it; for a `ModelError` this is a success."""
    import numpy as np

    from larq_seresnet.edge import Interpreter, ModelError

    try:
        model = Interpreter(file, threads=2)
        shapes = [[max(1, size) for size in info.shape] for info in model.inputs]
        if max(map(math.prod, shapes), default=0) > 1 << 24:
            return  # well-formed, and takes too long
        inputs = [np.zeros(s, i.dtype) for s, i in zip(shapes, model.inputs, strict=True)]
        model.predict(inputs if len(inputs) != 1 else inputs[0])
    except ModelError as error:
        print(f"refused: {error}"[:300])
        sys.stdout.flush()


def in_child(action: Callable[[], None], log: Path) -> int:
    """The wait status of a forked process that does `action`; -1 where it took too long."""
    child = os.fork()
    if not child:
        import resource

        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # it reserves terabytes
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        status = 0
        try:
            action()
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 99
        sys.stdout.flush()
        os._exit(status)
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def judge(status: int, output: str) -> str:
    """The outcome, by the names in this file's docstring."""
    if status == 0:
        return "refused" if output.startswith("refused") or "\nrefused" in output else "ran"
    if status == -1:
        return "slow"
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 99:
        # The runtime's own allocations may fail where a file asks for too much.
        return "exception"
    # What the innermost frames belong to tells whose fault it is.
    frames = [line for line in output.splitlines() if line.lstrip().startswith("#")]
    ours = any("edge/native/" in line for line in frames) or "runtime error" in output
    return "sanitizer" if ours else "runtime"


def main() -> int:
    """Runs the command and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=date.today().toordinal())
    parser.add_argument("--sanitize", action="store_true", help="compile with sanitizers")
    parser.add_argument("--keep", type=Path, help="folder for files that show a fault")
    arguments = parser.parse_args()

    if arguments.sanitize and "LD_PRELOAD" not in os.environ:
        # Python itself is not compiled with the sanitizers, so their library comes first.
        folder = Path(tempfile.mkdtemp())
        library = build(folder)
        asan = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
        ubsan = subprocess.check_output(["gcc", "-print-file-name=libubsan.so"], text=True).strip()
        environment = {
            **os.environ,
            "LD_PRELOAD": f"{asan} {ubsan}",
            "LARQ_SERESNET_DELEGATE": str(library),
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        return subprocess.run([sys.executable, *sys.argv], env=environment).returncode

    print(f"seed {arguments.seed}")
    generator = random.Random(arguments.seed)
    originals = seeds()
    import larq_seresnet.edge.interpreter as interpreter

    interpreter.find_runtime()  # once, before forking
    outcomes: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        for original in originals:  # undamaged, they run
            status = in_child(lambda file=original: use(file), log)
            if judge(status, log.read_text()) != "ran":
                print(log.read_text())
                raise SystemExit("error: an undamaged file does not run")
        for number in range(arguments.files):
            change = distort if number % 2 else damage
            file = change(originals[number // 2 % len(originals)], generator)
            status = in_child(lambda file=file: use(file), log)
            output = log.read_text(errors="replace")
            outcome = judge(status, output)
            outcomes[outcome] += 1
            if outcome in (*FAULTS, "slow") and arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                arguments.keep.joinpath(f"{number}-{outcome}.tflite").write_bytes(file)
                arguments.keep.joinpath(f"{number}-{outcome}.txt").write_text(output)
    for outcome, count in outcomes.most_common():
        print(f"{outcome:10} {count}")
    return 1 if any(outcomes[fault] for fault in FAULTS) else 0


if __name__ == "__main__":
    sys.exit(main())
