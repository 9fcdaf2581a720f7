#!/bin/sh
# cross_aarch64.sh - build the CPU kernels and their tests for 64-bit Arm and run them emulated: the
# NEON kernels must give the same bits as the C ones, on processors with all, some and none of the
# extensions. Needs aarch64-linux-gnu-gcc and qemu-aarch64 (Debian: gcc-aarch64-linux-gnu
# libc6-dev-arm64-cross qemu-user); says SKIP without them.
#
# CROSS_CC, CROSS_ROOT and QEMU name other tools: CROSS_CC="clang --target=aarch64-linux-gnu".
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

command -v "${cc%% *}" >/dev/null 2>&1 || skip "no $cc: NEON kernels not tested"
command -v "$qemu" >/dev/null 2>&1 || skip "no $qemu: NEON kernels not tested"
[ -d "$root" ] || skip "no $root: NEON kernels not tested"

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
flags="-std=c11 -O2 -Wall -Wextra -Wshadow -Werror -ffp-contract=off -fno-math-errno -pthread
    -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -Iinclude -Isrc -Itests"
for source in src/cpu/*.c src/*.c; do
    isa=
    [ "$source" != src/cpu/qkernels_neon_dot.c ] || isa=-march=armv8.2-a+dotprod
    [ "$source" != src/cpu/qkernels_neon_i8mm.c ] || isa=-march=armv8.2-a+dotprod+i8mm
    # shellcheck disable=SC2086 # these are lists
    $cc $flags $isa -c "$source" -o "$work/$(basename "$source" .c).o" || exit 1
done
cat >"$work/level.c" <<'END'
#include "cpu/kernels.h"

#include <stdio.h>

int main(void) {
    return puts(mo_cpu_level_name(mo_cpu_level_best())) < 0;
}
END
for program in "$work/level.c" tests/test_ops.c tests/test_qops.c tests/test_attend.c; do
    # shellcheck disable=SC2086
    $cc $flags "$program" "$work"/*.o -lm -o "$work/$(basename "$program" .c)" || exit 1
done

failed=0
run() { # run PROCESSOR LEVEL TEST...
    QEMU_CPU=$1
    export QEMU_CPU
    level=$("$qemu" -L "$root" "$work/level")
    # Without this the run would pass on a build that left kernels out.
    if [ "$level" != "$2" ]; then
        echo "cross_aarch64: FAIL the best kernels of $1 are $level, not $2" >&2
        exit 1
    fi
    shift 2
    for test in "$@"; do
        "$qemu" -L "$root" "$work/$test" >"$work/log" 2>&1 || failed=1
        sed "s/^$test:/cross_aarch64 $level $test:/" "$work/log"
    done
}
run max neon_i8mm test_ops test_qops test_attend
run cortex-a76 neon_dot test_qops
run cortex-a72 neon test_qops
exit $failed
