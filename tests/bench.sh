#!/bin/sh
# bench.sh - how fast this machine is: the whole conversation, models and codec in their published
# sizes, the products of matrices. `make bench` runs it with B, the build directory. SPEED.md explains.
set -eu
cd "$(dirname "$0")/.."
program=$B/moshi
unset MOSHI_MODEL MOSHI_DEVICE || true
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1)
[ -n "$cpu" ] || cpu=$(sysctl -n machdep.cpu.brand_string 2>/dev/null || uname -m)
echo "machine: $cpu, $(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN) processors, $(uname -s)"
echo "kernels: $("$program" reply samples/11_make_me_laugh_user.wav -o "$answer" --tail 0 --json --quiet |
    sed -n 's/.*"kernels": "\(.*\)".*/\1/p')"
echo

echo "moshi reply samples/conversation_user.flac --greedy, the demo model, best of three:"
for threads in 1 2; do
    for _ in 1 2 3; do
        "$program" reply samples/conversation_user.flac -o "$answer" --greedy --threads $threads 2>&1 >"$answer.txt" |
            sed -n 's/.*, \([0-9.]* s of audio in .*(real-time factor [0-9.]*)\).*/\1/p'
    done | sort -t '(' -k 2 | head -n 1 | sed "s/^/  $threads threads: /"
done
rm -f "$answer.txt"
echo

for run in "" "--context 3000" "--preset mimi --threads 1" "--preset stt-1b --type q8_0" \
    "--preset stt-1b --type q4_K" "--preset hibiki-1b --type q4_K"; do
    echo "moshi bench $run"
    # shellcheck disable=SC2086 # several words
    "$program" bench $run --seconds 3 | sed -n '/^loaded/,/^this machine/p'
    echo
done
"$B/tests/bench/bench_mimi"
echo
"$B/tests/test_ops" --bench
"$B/tests/test_qops" --bench
"$B/tests/test_attend" --bench
