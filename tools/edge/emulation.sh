#!/bin/sh
# Sets up an emulated Raspberry Pi, on which the edge runtime can be tested without one.
#
#   tools/edge/emulation.sh DIRECTORY [arm64 | armhf]
#   EDGE_EMULATION=DIRECTORY pytest tests/edge/test_emulated.py
#
# arm64 is 64-bit Raspberry Pi OS with LiteRT, armhf 32-bit Raspberry Pi OS with tflite-runtime.
# DIRECTORY/arm64 then holds root/ (Debian's packages and a Pi's /proc/cpuinfo), site/ (the runtime
# and what it needs, and the wheel of this package as it is released), instructions.so (counts
# instructions) and python (runs Python in it).
# Needs, as Debian calls them: qemu-user debootstrap gcc, root's rights for debootstrap, and the
# extra `release` in the Python that PYTHON names. Emulated times mean nothing, but instruction
# counts repeat within 0.1 %.
set -eu

architecture=${2:-arm64}
directory=$(mkdir -p "$1/$architecture" && cd "$1/$architecture" && pwd)
repository=$(cd "$(dirname "$0")/../.." && pwd)
root=$directory/root
site=$directory/site
python=${PYTHON:-python3}

case $architecture in
arm64)
    machine=aarch64 emulator=qemu-aarch64 cpu=cortex-a72
    debian=python3-minimal,libpython3-stdlib,libstdc++6
    runtime="ai-edge-litert==2.3.0 numpy<2 pillow"
    ;;
armhf) # PyPI has no numpy for it, Debian has
    machine=armv7l emulator=qemu-arm cpu=cortex-a15
    debian=python3-minimal,libpython3-stdlib,libstdc++6,python3-numpy,python3-pil
    runtime="--no-deps tflite-runtime==2.14.0"
    ;;
*)
    echo "error: the architecture is arm64 or armhf, not $architecture" >&2
    exit 1
    ;;
esac

for tool in $emulator debootstrap dpkg-deb gcc; do
    command -v $tool >/dev/null || {
        echo "error: $tool is missing: apt-get install qemu-user debootstrap gcc" >&2
        exit 1
    }
done

if [ ! -e "$root/usr/bin/python3" ]; then
    rm -rf "$root"
    # Installing the packages would run their scripts under emulation; unpacking them is enough.
    debootstrap --foreign --arch="$architecture" --variant=minbase --include="$debian" \
        bookworm "$root" >"$directory/log"
    for package in "$root"/var/cache/apt/archives/*.deb; do
        dpkg-deb -x "$package" "$root"
    done
    # What those scripts would link.
    for library in "$root"/usr/lib/*/blas/libblas.so.3 "$root"/usr/lib/*/lapack/liblapack.so.3; do
        [ ! -e "$library" ] || ln -s "$library" "$(dirname "$library")/.."
    done
fi

# LiteRT reads what kind of CPU there is, and crashes on a PC's.
"$repository/tools/edge/pi_cpu.sh" "$root"

version=$(basename "$(readlink "$root/usr/bin/python3")" | sed 's/python//')
install() {
    "$python" -m pip install --quiet --target "$site" --upgrade --only-binary=:all: \
        --platform manylinux_2_34_$machine --platform manylinux_2_28_$machine \
        --platform manylinux_2_27_$machine --platform manylinux_2_17_$machine \
        --platform manylinux2014_$machine --python-version "$version" "$@"
}
# shellcheck disable=SC2086
[ -d "$site" ] || install $runtime

# The wheel that a Pi would install, so that the build is tested too.
rm -rf "$directory/wheels"
"$python" "$repository/tools/wheels.py" --out "$directory/wheels" linux-$machine >"$directory/log"
install --no-deps "$directory"/wheels/*.whl

gcc -shared -fPIC -O2 -Wall -o "$directory/instructions.so" "$repository/tools/edge/instructions.c"

# numpy's idle threads would spin, and their instructions be counted.
cat >"$directory/python" <<END
#!/bin/sh
# The emulated Python. With INSTRUCTIONS set, the number of instructions goes to standard error.
exec env QEMU_CPU=\${QEMU_CPU:-$cpu} PYTHONHOME=$root/usr PYTHONPATH=$site\${PYTHONPATH:+:\$PYTHONPATH} \\
    PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1 $emulator \${INSTRUCTIONS:+-plugin $directory/instructions.so} \\
    -L $root $root/usr/bin/python3 "\$@"
END
chmod +x "$directory/python"
"$directory/python" -c 'import platform, larq_seresnet.edge; print("ready:", platform.machine())'
