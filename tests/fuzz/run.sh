#!/bin/sh
# Run fuzzers that `make fuzzers` built, one after the other.
#
#   FUZZ_SECONDS=3600 tests/fuzz/run.sh build/.../fuzz_config ...
#
# Each gets FUZZ_SECONDS of processor time (default 60). What they find, and the inputs that reach
# new code, go to FUZZ_OUT/<target> (default build/fuzz); the corpus in tests/fuzz/corpus/<target>
# is read, never written. Prints executions and processor seconds. Exit status 1 when something was
# found: the input lies in FUZZ_OUT/<target>, its report in FUZZ_OUT/<target>/slice.log.
set -eu

seconds=${FUZZ_SECONDS:-60}
out=${FUZZ_OUT:-build/fuzz}
here=$(dirname "$0")
[ $# -gt 0 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }

# Processor seconds of all finished children, out of what `times` wrote. `times` itself must run in
# this shell: a subshell has no children of ours.
children_seconds() {
    tail -n 1 "$1" |
        awk '{ split($1, u, /[ms]/); split($2, s, /[ms]/); print int((u[1] + s[1]) * 60 + u[2] + s[2]) }'
}

# libFuzzer's own limit is wall-clock time, which on a busy machine is not processor time: run in
# slices until the processor seconds are spent.
run_one() {
    fuzzer=$1
    target=$(basename "$fuzzer")
    target=${target#fuzz_}
    dir=$out/$target
    mkdir -p "$dir/corpus" "$here/corpus/$target"
    options="-max_len=${FUZZ_MAX_LEN:-16384} -rss_limit_mb=2048 -timeout=10 -print_final_stats=1"
    [ -f "$here/fuzz_$target.dict" ] && options="$options -dict=$here/fuzz_$target.dict"
    times >"$dir/times"
    begin=$(children_seconds "$dir/times")
    spent=0
    runs=0
    while [ "$spent" -lt "$seconds" ]; do
        slice=$((seconds - spent))
        [ "$slice" -gt 300 ] && slice=300
        # shellcheck disable=SC2086 # options is a list
        if "$fuzzer" $options -max_total_time="$slice" -artifact_prefix="$dir/" \
            "$dir/corpus" "$here/corpus/$target" >"$dir/slice.log" 2>&1; then
            found=0
        else
            found=1
        fi
        times >"$dir/times"
        spent=$(($(children_seconds "$dir/times") - begin))
        n=$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/slice.log")
        runs=$((runs + ${n:-0}))
        kept=$(find "$dir/corpus" -type f | wc -l)
        echo "fuzz $target: $runs executions, $spent processor seconds, $((kept)) inputs kept"
        [ "$found" = 0 ] || { tail -n 40 "$dir/slice.log"; return 1; }
    done
}

status=0
for fuzzer in "$@"; do
    run_one "$fuzzer" || status=1
done
exit "$status"
