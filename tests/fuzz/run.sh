#!/bin/sh
# Build one fuzz target with libFuzzer and run it.
#
#   tests/fuzz/run.sh TARGET [CPU_SECONDS] [FINDINGS_DIR]
#
# TARGET is the name of tests/fuzz/fuzz_TARGET.c. New inputs and crashes go to FINDINGS_DIR (default
# build/fuzz/TARGET); the committed corpus is read, never written. Prints executions and processor
# seconds at the end. Exit status 1 when something was found.
set -eu
cd "$(dirname "$0")/../.."

target=${1:?usage: tests/fuzz/run.sh TARGET [CPU_SECONDS] [FINDINGS_DIR]}
seconds=${2:-60}
out=${3:-build/fuzz/$target}
clang=${FUZZ_CC:-clang}
max_len=${FUZZ_MAX_LEN:-16384}

command -v "$clang" >/dev/null || { echo "fuzzing needs clang (apt install clang)" >&2; exit 2; }
[ -f "tests/fuzz/fuzz_$target.c" ] || { echo "no tests/fuzz/fuzz_$target.c" >&2; exit 2; }
mkdir -p "$out/corpus" "tests/fuzz/corpus/$target"

# The readers under test and nothing else, so that a half-written engine never stops fuzzing.
sources="src/util.c src/json.c src/checkpoint.c src/safetensors.c"
for more in config text wav; do
    [ -f "src/$more.c" ] && sources="$sources src/$more.c"
done
[ -f "tests/fuzz/fuzz_$target.sources" ] && sources="$sources $(cat "tests/fuzz/fuzz_$target.sources")"

# shellcheck disable=SC2086
"$clang" -std=c11 -g -O1 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -Iinclude -Isrc -Iapp \
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    "tests/fuzz/fuzz_$target.c" $sources -o "$out/fuzzer" -lm ${FUZZ_LIBS:-}

dict=
[ -f "tests/fuzz/fuzz_$target.dict" ] && dict="-dict=tests/fuzz/fuzz_$target.dict"

# libFuzzer counts wall-clock time, which on a busy machine is not processor time: go on until the
# processor seconds are spent.
children_cpu() { # reads what `times` wrote: in a subshell it would not see our children
    tail -n 1 "$out/times" |
        awk '{ split($1, u, /[ms]/); split($2, s, /[ms]/); print int((u[1] + s[1]) * 60 + u[2] + s[2]) }'
}
times >"$out/times"
base=$(children_cpu)
spent=0
runs=0
status=0
while [ "$spent" -lt "$seconds" ]; do
    slice=$((seconds - spent))
    [ "$slice" -gt 300 ] && slice=300
    "$out/fuzzer" -max_total_time="$slice" -max_len="$max_len" -rss_limit_mb=2048 -timeout=10 \
        -malloc_limit_mb=1024 -print_final_stats=1 -verbosity=1 -artifact_prefix="$out/" $dict \
        "$out/corpus" "tests/fuzz/corpus/$target" >"$out/slice.log" 2>&1 || status=1
    times >"$out/times"
    spent=$(($(children_cpu) - base))
    n=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/slice.log")
    runs=$((runs + ${n:-0}))
    echo "fuzz $target: $runs executions, $spent processor seconds, $(find "$out/corpus" -type f | wc -l) inputs kept"
    if [ "$status" != 0 ]; then
        tail -n 40 "$out/slice.log"
        break
    fi
done
exit "$status"
