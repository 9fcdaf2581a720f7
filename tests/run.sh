#!/bin/sh
# run.sh BUILD_DIR TEST... - run test programs and test scripts, all of them whatever fails, and
# add up their last lines ("name: N passed, N failed, N skipped").
#
# A TEST is a source file (tests/test_x.c, tests/test_x.sh) or its name (test_x). Programs run from
# the top of the tree; scripts get the built program as $1. Prints what failed and what was skipped
# and ends with one line "tests: N passed, N failed, N skipped". Exit code 1 if anything failed.
# JOBS tests run at once (default: one per core), each for at most TEST_SECONDS.
set -u
unset MOSHI_MODEL MOSHI_DEVICE MOSHI_USE_CPU # tests choose for themselves

cores() {
    nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1
}

# Drivers of graphics cards leak and race in ways that are not ours: under sanitizers there are none.
if [ -n "${SAN:-}" ]; then
    export VK_DRIVER_FILES=/nonexistent VK_ICD_FILENAMES=/nonexistent
fi

# How to start a program: with a time limit where there is one, and with fixed addresses under the
# thread sanitizer, which cannot place its shadow memory on kernels that randomise widely.
launcher() {
    limit=${TEST_SECONDS:-900}
    [ -z "${SAN:-}" ] || limit=${TEST_SECONDS:-2400}
    if command -v timeout >/dev/null 2>&1; then echo "timeout -k 10 $limit"; fi
    case ${SAN:-} in
    *thread*) if setarch "$(uname -m)" -R true 2>/dev/null; then echo "setarch $(uname -m) -R"; fi ;;
    esac
}

# One test: its output goes to a log, its verdict line to a file beside it, and what a reader wants
# to see to stdout in one piece, because several tests run at the same time.
run_one() {
    build=$1 logs=$2 name=$3
    log=$logs/$name.log
    started=$(date +%s)
    if [ -f "tests/$name.sh" ]; then
        # shellcheck disable=SC2046 # the launcher is words
        $(launcher) sh "tests/$name.sh" "$build/moshi" >"$log" 2>&1 </dev/null
    else
        # shellcheck disable=SC2046
        $(launcher) "$build/tests/$name" >"$log" 2>&1 </dev/null
    fi
    code=$?
    seconds=$(($(date +%s) - started))
    line=$(sed -n 's/^'"$name"': \([0-9]* passed, [0-9]* failed, [0-9]* skipped\)$/\1/p' "$log" | tail -n 1)
    case $code in
    124 | 137) ended="ran out of time" ;;
    *) ended="ended with code $code" ;;
    esac
    # Exit code and counts must agree; where they do not, the test itself is broken.
    if [ -z "$line" ]; then
        line="0 passed, 1 failed, 0 skipped"
        echo "$name: FAIL $ended without its last line" >>"$log"
    elif [ "$code" -ne 0 ] && [ "${line#* passed, 0 failed}" != "$line" ]; then
        line="${line%% passed*} passed, 1 failed, ${line##*, }"
        echo "$name: FAIL $ended although nothing failed" >>"$log"
    fi
    echo "$line" >"$logs/$name.verdict"
    {
        printf '  %-22s %s  (%d s)\n' "$name" "$line" "$seconds"
        case $line in
        *" 0 failed, "*) grep '^SKIP' "$log" | sed 's/^/      /' | head -n 20 ;;
        *) tail -n 60 "$log" | sed 's/^/      /' ;;
        esac
    } >"$logs/$name.report"
    cat "$logs/$name.report"
}

if [ "$1" = --one ]; then
    run_one "$2" "$3" "$4"
    exit 0
fi

build=$1
shift
# One directory per run, so that two runs of one build do not disturb each other.
logs=$build/log/$$
for old in "$build"/log/*; do
    kill -0 "$(basename "$old")" 2>/dev/null || rm -rf "$old"
done
mkdir -p "$logs"
# Crash reports and caches of the person who runs the tests are no business of theirs.
export XDG_STATE_HOME="$PWD/$logs/state" XDG_CACHE_HOME="$PWD/$logs/cache"
names=$(for test in "$@"; do basename "$test" | sed 's/\.[a-z]*$//'; done)
echo "running $(echo "$names" | wc -w | tr -d ' ') tests in $build"
echo "$names" | xargs -P "${JOBS:-$(cores)}" -n 1 sh "$0" --one "$build" "$logs"
failing=$(grep -L ' 0 failed, ' "$logs"/*.verdict | sed 's|.*/||; s|\.verdict$||')
if [ -n "$failing" ]; then
    echo "failing: $(echo "$failing" | tr '\n' ' ')"
    echo "full output in $logs"
fi
cat "$logs"/*.verdict | awk -v wanted="$(echo "$names" | wc -w)" '
    { passed += $1; failed += $3; skipped += $5 }
    END {
        if (NR != wanted) failed += wanted - NR # a test that left nothing behind
        printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped
        exit failed != 0
    }'
