#!/bin/sh
# Tries the README's commands for the Raspberry Pi word by word, on an emulated arm64 system that
# starts out empty.
#
#   tools/edge/try_readme.sh DIRECTORY README MODEL IMAGE
#
# Takes the first block of commands under the heading "On a Raspberry Pi", puts this checkout, MODEL
# and IMAGE where they expect them, and runs them in a Debian root in DIRECTORY. Needs root's rights,
# the packages debootstrap and qemu-user-static, and a kernel with binfmt_misc.
set -eu

directory=$(mkdir -p "$1" && cd "$1" && pwd)
readme=$2
model=$3
image=$4
repository=$(cd "$(dirname "$0")/../.." && pwd)
root=$directory/root

sed -n '/^## On a Raspberry Pi/,$p' "$readme" | awk '/^```sh$/{on=1; next} /^```$/{if (on) exit} on' \
    >"$directory/commands"
test -s "$directory/commands" || { echo "error: $readme has no such block" >&2; exit 1; }

# The kernel starts arm64 programs with QEMU; the flag F keeps it working within another root.
formats=/proc/sys/fs/binfmt_misc
test -e $formats/register || mount -t binfmt_misc binfmt_misc $formats
if [ ! -e $formats/qemu-aarch64 ]; then
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    printf '%s' ":qemu-aarch64:M::$magic:$mask:$(command -v qemu-aarch64-static):F" \
        >$formats/register
fi

# What a Pi's system comes with, as far as the commands use it.
if [ ! -e "$root/etc/debian_version" ] || [ -d "$root/debootstrap" ]; then
    rm -rf "$root"
    QEMU_CPU=cortex-a72 debootstrap --arch=arm64 --variant=minbase \
        --include=python3,sudo,ca-certificates bookworm "$root" >"$directory/log"
fi

# LiteRT reads what kind of CPU there is, and crashes on a PC's.
"$repository/tools/edge/pi_cpu.sh" "$directory/cpu"

home=$root/home/pi
rm -rf "$home"
mkdir -p "$home/larq-seresnet/tflite_models"
git -C "$repository" archive HEAD | tar -x -C "$home/larq-seresnet"
touch "$home/larq-seresnet/README.md"
cp "$model" "$home/larq-seresnet/tflite_models/MODEL.tflite"
cp "$image" "$home/photo.jpg"
cp "$directory/commands" "$home/commands"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"

# In a mount namespace of its own, so that nothing stays mounted.
exec unshare --mount sh -ec '
    root=$1
    directory=$2
    mkdir -p "$root/sys/devices/system/cpu"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --bind "$directory/cpu/proc/cpuinfo" "$root/proc/cpuinfo"
    mount --bind "$directory/cpu/sys/devices/system/cpu" "$root/sys/devices/system/cpu"
    mount --bind /etc/ssl/certs "$root/etc/ssl/certs"
    exec env -i HOME=/home/pi PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C QEMU_CPU=cortex-a72 \
        PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
        chroot "$root" /bin/sh -c "cd /home/pi && exec /bin/sh -ex commands"
' sh "$root" "$directory"
