#!/bin/sh
# Sets up an emulated 64-bit Raspberry Pi, on which the edge runtime can be tested without one.
#
#   tools/edge/emulation.sh DIRECTORY
#   EDGE_EMULATION=DIRECTORY pytest tests/edge/test_emulated.py
#
# DIRECTORY then holds root/ (Debian's arm64 packages and a Pi's /proc/cpuinfo), site/ (LiteRT and
# what it needs, from their arm64 wheels, and this package with its library cross-compiled),
# instructions.so (counts instructions) and python (runs Python in it).
# Needs, as Debian calls them: qemu-user debootstrap gcc gcc-aarch64-linux-gnu, and root's rights
# for debootstrap. Emulated times mean nothing, but instruction counts repeat within 0.1 %.
set -eu

directory=$(mkdir -p "$1" && cd "$1" && pwd)
repository=$(cd "$(dirname "$0")/../.." && pwd)
root=$directory/root
python=${PYTHON:-python3}

for tool in qemu-aarch64 debootstrap dpkg-deb gcc aarch64-linux-gnu-gcc; do
    command -v $tool >/dev/null || {
        echo "error: $tool is missing: apt-get install qemu-user debootstrap gcc" \
            "gcc-aarch64-linux-gnu" >&2
        exit 1
    }
done

if [ ! -e "$root/usr/bin/python3" ]; then
    rm -rf "$root"
    # Installing the packages would run their scripts under emulation; unpacking them is enough.
    debootstrap --foreign --arch=arm64 --variant=minbase \
        --include=python3-minimal,libpython3-stdlib,libstdc++6 bookworm "$root" >"$directory/log"
    for package in "$root"/var/cache/apt/archives/*.deb; do
        dpkg-deb -x "$package" "$root"
    done
fi

# LiteRT reads what kind of CPU there is, and crashes on a PC's.
"$repository/tools/edge/pi_cpu.sh" "$root"

site=$directory/site
version=$(basename "$(readlink "$root/usr/bin/python3")" | sed 's/python//')
if [ ! -d "$site/ai_edge_litert" ]; then
    "$python" -m pip install --quiet --target "$site" --only-binary=:all: \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 \
        --python-version "$version" ai-edge-litert==2.3.0 'numpy<2' pillow
fi

# The wheel that a Pi would install, so that the build is tested too.
make -s -C "$repository" -f edge.mk wheel-aarch64 PYTHON="$python" WHEELS="$directory/wheels"
"$python" -m pip install --quiet --target "$site" --upgrade --no-deps \
    --platform linux_aarch64 --python-version "$version" --only-binary=:all: \
    "$directory"/wheels/larq_seresnet-*-linux_aarch64.whl

gcc -shared -fPIC -O2 -Wall -o "$directory/instructions.so" "$repository/tools/edge/instructions.c"

# numpy's idle threads would spin, and their instructions be counted.
cat >"$directory/python" <<END
#!/bin/sh
# The emulated Python. With INSTRUCTIONS set, the number of instructions goes to standard error.
exec env QEMU_CPU=\${QEMU_CPU:-cortex-a72} PYTHONHOME=$root/usr PYTHONPATH=$site\${PYTHONPATH:+:\$PYTHONPATH} \\
    PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1 qemu-aarch64 \${INSTRUCTIONS:+-plugin $directory/instructions.so} \\
    -L $root $root/usr/bin/python3 "\$@"
END
chmod +x "$directory/python"
"$directory/python" -c 'import platform, larq_seresnet.edge; print("ready:", platform.machine())'
