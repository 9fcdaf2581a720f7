#!/bin/sh
# test_compare.sh PROGRAM - compare finds what was changed and nothing else.
set -u

program=$1
here=$(dirname "$0")
input=$here/../samples/00_what_is_three_plus_seven_user.wav
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
TMPDIR=$work
export TMPDIR
passed=0
failed=0

# expect NAME EXIT-CODE PATTERN COMMAND...: the exit code, and a line of the output
expect() {
    name=$1 code=$2 pattern=$3
    shift 3
    "$@" >"$work/out" 2>"$work/err"
    found=$?
    if [ "$found" = "$code" ] && cat "$work/out" "$work/err" | grep -q -- "$pattern"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $name: wanted exit code $code and '$pattern', found $found and:"
        head -n 40 "$work/out" "$work/err"
    fi
}

compare() {
    "$program" compare "$@" --input "$input" --frames 12
}

expect 'a device with itself' 0 '^verdict  C: both are fine' compare cpu cpu+threads=1
expect 'coarse formats are no faults' 0 '^verdict  C' compare q8_0 q4_0
expect 'delays, second' 1 '^verdict  D: the second one is wrong' compare cpu delay=2

# A device that is wrong on purpose is found, and the operation that is wrong is named.
faulty=$(dirname "$program")/tests/moshi-faulty
wrong() {
    expect "faulty:$1" 1 "first: $2" "$faulty" compare cpu "faulty:$1" --input "$input" --frames 4
}
wrong elu 'ELU of a residual block'
wrong gelu 'activation of the feed-forward part'
wrong trim 'upsampling convolution'
wrong softmax 'attention (scores, softmax, values)'
wrong block 'matrix in_proj'
wrong nan 'convolution'
expect 'faulty first' 1 '^verdict  A' "$faulty" compare faulty:elu cpu --input "$input" --frames 4
expect 'faulty twice' 1 '^verdict  B' "$faulty" compare faulty:elu faulty:elu --input "$input" --frames 4

expect 'json' 1 '"verdict": "D"' compare cpu delay=3 --json
expect 'no such word' 2 "'no/such': no such file" compare cpu no/such
expect 'no such device' 4 'tpu' compare cpu tpu
expect 'nothing to compare with' 2 'what with what' "$program" compare cpu
expect 'no input' 2 'input is missing' "$program" compare cpu cpu
expect 'temporary files are gone' 0 '^0$' sh -c "find '$work' -name 'moshi-compare*' | wc -l"

echo "test_compare: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
