#!/bin/sh
# Writes what a Raspberry Pi 4 says of its CPU into DIRECTORY/proc and DIRECTORY/sys.
#
#   tools/edge/pi_cpu.sh DIRECTORY
set -eu

proc=$1/proc
cpus=$1/sys/devices/system/cpu
rm -rf "$proc" "$1/sys"
mkdir -p "$proc" "$cpus"
for cpu in 0 1 2 3; do
    printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n' $cpu
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n'
    printf 'CPU part\t: 0xd08\nCPU revision\t: 3\n\n'
    mkdir -p "$cpus/cpu$cpu/cpufreq" "$cpus/cpu$cpu/topology"
    echo 1800000 >"$cpus/cpu$cpu/cpufreq/cpuinfo_max_freq"
    echo 600000 >"$cpus/cpu$cpu/cpufreq/cpuinfo_min_freq"
    echo 0 >"$cpus/cpu$cpu/topology/physical_package_id"
    echo $cpu >"$cpus/cpu$cpu/topology/core_id"
    echo 0-3 >"$cpus/cpu$cpu/topology/core_siblings_list"
done >"$proc/cpuinfo"
for list in possible present online; do
    echo 0-3 >"$cpus/$list"
done
echo 3 >"$cpus/kernel_max"
