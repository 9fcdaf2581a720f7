#!/bin/sh
# cross_aarch64.sh - build the CPU kernels and their tests for 64-bit Arm and run them emulated: the
# NEON kernels must give the same bits as the C ones. Needs aarch64-linux-gnu-gcc and qemu-aarch64
# (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user); says SKIP without them.
#
# CROSS_CC, CROSS_ROOT and QEMU name other tools.
set -u
cc=${CROSS_CC:-aarch64-linux-gnu-gcc}
root=${CROSS_ROOT:-/usr/aarch64-linux-gnu}
qemu=${QEMU:-qemu-aarch64}
cd "$(dirname "$0")/.." || exit 1

skip() {
    echo "SKIP $1" >&2
    echo "cross_aarch64: 0 passed, 0 failed, 1 skipped"
    exit 0
}

command -v "$cc" >/dev/null 2>&1 || skip "no $cc: NEON kernels not tested"
command -v "$qemu" >/dev/null 2>&1 || skip "no $qemu: NEON kernels not tested"
[ -d "$root" ] || skip "no $root: NEON kernels not tested"

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
flags="-std=c11 -O2 -Wall -Wextra -Wshadow -Werror -ffp-contract=off -fno-math-errno -pthread
    -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -Iinclude -Isrc -Itests"
for source in src/cpu/*.c src/*.c; do
    isa=
    [ "$source" != src/cpu/qkernels_neon_dot.c ] || isa=-march=armv8.2-a+dotprod
    # shellcheck disable=SC2086 # flags are a list
    "$cc" $flags $isa -c "$source" -o "$work/$(basename "$source" .c).o" || exit 1
done
failed=0
for test in test_ops test_qops test_attend; do
    # shellcheck disable=SC2086
    "$cc" $flags "tests/$test.c" "$work"/*.o -lm -o "$work/$test" || exit 1
    "$qemu" -L "$root" "$work/$test" >"$work/log" 2>&1 || failed=1
    sed "s/^$test:/cross_aarch64 $test:/" "$work/log"
    # Without this the run would pass on a build that left the NEON kernels out.
    if grep -q '^SKIP' "$work/log"; then
        echo "cross_aarch64: FAIL only the C kernels were built" >&2
        exit 1
    fi
done
exit $failed
