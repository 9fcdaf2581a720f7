#!/bin/sh
# test_bench.sh PROGRAM - `moshi bench`: what it prints is there, adds up and matches its words.
# Never how fast anything is.
set -u
case ${1:?usage: tests/test_bench.sh path/to/moshi} in
/*) moshi=$1 ;;
*) moshi=$PWD/$1 ;;
esac
unset MOSHI_MODEL MOSHI_DEVICE MOSHI_USE_CPU
passed=0 failed=0 skipped=0

dir=$(mktemp -d "${TMPDIR:-/tmp}/moshi-bench-XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1

check() { # check MESSAGE COMMAND...: the command succeeds
    message=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $message" >&2
        sed 's/^/    stderr: /' err | head -n 5 >&2
    fi
}
run() { # run CODE ARGUMENTS...: the program ends with that exit code
    want=$1
    shift
    "$moshi" "$@" >out 2>err </dev/null
    got=$?
    check "moshi $*: exit code $got, wanted $want" [ "$got" = "$want" ]
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $1"
}
says() { check "does not say '$1'" grep -qF -e "$1" err; }
prints() { check "does not print '$1'" grep -qF -e "$1" out; }
# value FILE KEY: of a member that occurs once on its level, in the order of printing
value() { sed -n "s/^ *\"$2\": \"\{0,1\}\([^\",]*\).*/\1/p" "$1" | head -n 1; }
# stage FILE NAME KEY
stage() { sed -n "/^    \"$2\": {/,/}/p" "$1" | sed -n "s/^ *\"$3\": \([^,]*\).*/\1/p"; }
holds() { # holds MESSAGE EXPRESSION: of awk
    check "$1 ($2)" awk "BEGIN { exit !($2) }"
}

# ---- the demo model ----------------------------------------------------------------------------
run 0 bench --frames 20 --seconds 1 --threads 1 --json
cp out a.json
check "no progress where nobody looks" test ! -s err
for key in build cpu device kernels threads cores model type parameters weight_bytes state_bytes sessions \
    context kv frames frame_rate_hz frames_s real_time verdict read_bytes_s flops int8_ops peak_bytes \
    planned_bytes peak_share seconds; do
    check "--json has no $key" test -n "$(value a.json "$key")"
done
check "frames" test "$(value a.json frames)" = 20
sum_w=0 sum_kv=0
for name in encode temporal depth decode frame; do
    m=$(stage a.json $name median_ms) p90=$(stage a.json $name p90_ms) p99=$(stage a.json $name p99_ms)
    holds "$name: percentiles are in order" "0 < $m && $m <= $p90 && $p90 <= $p99"
    w=$(stage a.json $name weight_bytes) kv=$(stage a.json $name kv_bytes)
    holds "$name: what was read, per second" \
        "($w + $kv) / $m * 1000 / $(stage a.json $name read_bytes_s) - 1 < 1e-6"
    [ $name = frame ] && continue
    sum_w=$((sum_w + w)) sum_kv=$((sum_kv + kv))
done
check "the frame reads what its stages read" test "$sum_w" = "$(stage a.json frame weight_bytes)"
holds "and as many keys and values" "($sum_kv - $(stage a.json frame kv_bytes))^2 < 100"
holds "stages take no longer than the frame" \
    "$(stage a.json other median_ms) >= 0 && $(stage a.json temporal median_ms) < $(stage a.json frame median_ms)"
holds "what threads do adds up" "$(stage a.json temporal rest) > 0 && $(stage a.json temporal waiting) >= 0 \
    && $(stage a.json temporal rest) + $(stage a.json temporal waiting) < 1"
frame=$(stage a.json frame median_ms)
holds "frames/s follows from the median" "($(value a.json frames_s) * $frame / 1000 - 1)^2 < 1e-9"
holds "real time follows from frames/s" \
    "($(value a.json frames_s) / $(value a.json frame_rate_hz) / $(value a.json real_time) - 1)^2 < 1e-9"
words=$(value a.json verdict)
rate=$(echo "$words" | sed -n 's/^this machine: \([0-9.]*\) frames\/s of the 12.5 needed: .*/\1/p')
holds "the verdict's figure" "(0$rate - $(value a.json frames_s))^2 < 0.01"
case $words in
*"too slow"*) holds "the verdict's words" "$(value a.json real_time) < 1" ;;
*) holds "the verdict's words" "$(value a.json real_time) >= 1" ;;
esac
check "caches count as in frames: no less than 64 MB are read over and over" \
    test "$(value a.json read_over_bytes)" = 67108864
holds "and memory is asked, where there is enough of it" "$(value a.json memory_bytes_s) > 0 || $(value a.json available_bytes) < 6e8"
check "forecasts of 7 presets in 3 types" test "$(grep -c '"preset": "' a.json)" = 21

# ---- limits of other reads -------------------------------------------------------------------
sed '/"read_over_bytes"/d' a.json >older.json
run 0 bench --frames 3 --seconds 1 --threads 1 --compare older.json
prints "note: read_over_bytes differs: unknown, now 67108864"
sed '/"limits"/,/}/d' a.json >limitless.json
run 0 bench --frames 3 --seconds 1 --threads 1 --compare limitless.json
check "what is not known is no zero" grep -q '^read limit  *- ' out
# shellcheck disable=SC3045 # where there is no such limit, this is skipped
if (ulimit -v 700000 && "$moshi" bench --frames 3 --seconds 1 --threads 1) >out 2>&1; then
    check "caches are no memory: without it nothing is forecast" grep -q "^No forecast" out
    check "and no table printed" test -z "$(grep "moshi-7b" out)"
else
    skip "a limit of memory"
fi

# ---- an encoder with threads of its own --------------------------------------------------------
run 0 bench --frames 5 --seconds 1 --threads 1 --codec-threads 1 --json --compare a.json
cp out c.json
check "its threads are told" test "$(value c.json codec_threads)" = 1
check "and differ from a run without" grep -q '"name": "codec_threads"' c.json
check "which does not name them" test -z "$(value a.json codec_threads)"

# ---- longer, more at once ----------------------------------------------------------------------
run 0 bench --frames 5 --seconds 1 --threads 1 --json --context 500 --sessions 3 --kv q8_0 --compare a.json
cp out b.json
check "weights are read once for everybody" \
    test "$(stage b.json temporal weight_bytes)" = "$(stage a.json temporal weight_bytes)"
holds "a long conversation reads more" \
    "$(stage b.json temporal kv_bytes) > 3 * $(stage a.json temporal kv_bytes)"
holds "three do more" "$(stage b.json depth operations) == 3 * $(stage a.json depth operations)"
check "--json --compare has the comparison" grep -q '"file": "a.json"' b.json
check "and the settings that differ" grep -q '"name": "context"' b.json
check "and ratios" grep -q '"ratio": ' b.json
check "the settings are told" test "$(value b.json sessions) $(value b.json context) $(value b.json kv)" = "3 500 q8_0"

run 0 bench --frames 5 --seconds 1 --threads 1 --compare b.json
prints "note: sessions differs: 3, now 1"
cores=$(value a.json cores)
if [ "$cores" -gt 1 ]; then
    prints "1 thread of $cores cores"
else
    check "one core is not counted" test -z "$(grep "of 1 core" out)"
fi
prints "note: kv differs: q8_0, now f32"
check "pairs with ratios" grep -q '^temporal  *[0-9.]*  *[0-9.]* ms  x [0-9.]*$' out
prints "this machine: "
prints "moshi-7b"

# ---- presets -----------------------------------------------------------------------------------
# A codec of 96 million numbers is slow with sanitizers.
if [ -z "${SAN:-}" ]; then
    run 0 bench --preset mimi --type f32 --frames 1 --seconds 1 --threads 1 --json
    check "the codec's parameters" test "$(value out parameters)" -gt 80000000
    check "stages a codec lacks" test -z "$(stage out temporal read_bytes_s)"
    holds "the load is what was planned" "$(value out peak_share) < 1.5"
else
    skip "the codec as a preset: with sanitizers"
fi
run 2 bench --preset mimi --compare a.json --frames 1
says "cannot be compared: its model"

# ---- refused -----------------------------------------------------------------------------------
run 2 bench --preset stt-1c
says "did you mean 'stt-1b'"
run 2 bench --preset stt-1b --type q3_K
says "q3_K"
run 2 bench --preset stt-1b -m x
says "leave out -m"
run 2 bench --type q8_0
says "--type needs --preset"
run 2 bench --preset mimi --sessions 2
says "this is a codec"
run 2 bench --preset mimi --kv q8_0
says "--kv and --codec-threads need a language model"
run 2 bench --preset mimi --codec-threads 1
says "--kv and --codec-threads need a language model"
run 2 bench --codebooks 8
says "needs a codec"
run 3 bench -m "$dir/nothing"
echo '{"model": "x"}' >other.json
run 2 bench --compare other.json
says "other.json: wanted what moshi bench --json prints"
run 2 bench --compare nothing.json
says "nothing.json"
# 1024 conversations of 7 billion parameters are more than any machine has that runs this.
if grep -q MemAvailable /proc/meminfo 2>/dev/null; then
    run 5 bench --preset moshi-7b --type f32 --sessions 1024
    says "not enough memory: weights take"
    says "are available"
else
    skip "the system does not say how much memory is available"
fi

# ---- interrupted -------------------------------------------------------------------------------
# In the middle of the frames, which a busy machine comes to late.
for pause in 4 15 60; do
    "$moshi" bench --seconds 600 --threads 1 >out 2>err </dev/null &
    pid=$!
    sleep $pause
    kill -INT "$pid"
    wait "$pid"
    code=$?
    if grep -q "this machine: " out; then break; fi
done
check "interrupted: exit code $code" test "$code" = 130
check "and a forecast that was not made is no matter of memory" test -z "$(grep "No forecast" out)"
prints "this machine: "
says "interrupted"

echo "test_bench: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
