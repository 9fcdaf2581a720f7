#!/bin/sh
# clean_speech.sh [-n EVERY] [DIRECTORY...] - does `moshi analyze` leave real speech alone?
#
# Every EVERY-th (default 8) of the human recordings in Debian's asterisk-core-sounds-en-wav,
# asterisk-core-sounds-es-wav and alsa-utils, or in the directories given: as they are, with noise,
# quiet, at other sample rates, and spoilt in the ways that matter most. Prints the table of
# tests/bench/bench_analyze; no recording as it is may fail, and of those that are spoilt and last a
# second or more, nine in ten must. Takes a few minutes. Ends like a test with
# "clean_speech: N passed, N failed, N skipped".
set -u
every=8
if [ "${1:-}" = -n ]; then
    every=$2
    shift 2
fi
bench=${MOSHI_BENCH:-$(dirname "$0")/../build/current/tests/bench/bench_analyze}
[ $# -gt 0 ] || set -- /usr/share/asterisk/sounds/en_US_f_Allison \
    /usr/share/asterisk/sounds/es_MX_f_Allison /usr/share/sounds/alsa
if [ ! -x "$bench" ]; then
    echo "SKIP $bench is missing: make tests"
    echo "clean_speech: 0 passed, 0 failed, 1 skipped"
    exit 0
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
# Tones and silence among them are no speech, and are known by their names.
find "$@" -name '*.wav' -size +16k 2>/dev/null | grep -Ev 'silence|beep|tone|ring|Noise|confbridge-(join|leave)' |
    sort | awk -v every="$every" 'NR % every == 1 || every == 1' >"$work/list"
if [ ! -s "$work/list" ]; then
    echo "SKIP no recordings: apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-es-wav alsa-utils"
    echo "clean_speech: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
rows=clean,noise-20-db,quiet-30-db,8000-hz,16000-hz,44100-hz,reversed,frames-reversed
rows=$rows,frames-shuffled,half-speed,double-speed
xargs "$bench" --only "$rows" <"$work/list" | tee "$work/table"

passed=0 failed=0
while read -r name cases found _; do
    case $name in
    clean | noise-20-db | quiet-30-db | *-hz) [ "$found" -eq 0 ] ;;
    reversed | frames-* | *-speed) [ $((found * 10)) -ge $((cases * 9)) ] ;;
    *) continue ;;
    esac && passed=$((passed + 1)) && continue
    failed=$((failed + 1))
    echo "FAIL $name: $found of $cases"
done <"$work/table"
echo "clean_speech: $passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
