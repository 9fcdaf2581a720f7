#!/bin/sh
# test_catalogue.sh PROGRAM - a few quick rows of `make catalogue`: faults of each kind are done, found
# and named, and its sums are right.
set -u
B=$(dirname "${1:?usage: tests/test_catalogue.sh path/to/moshi}")
export B
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0

expect() { # expect NAME PATTERN
    if printf '%s\n' "$table" | grep -qE -e "$2"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $1: no line like '$2' in"
        printf '%s\n' "$table"
    fi
}

table=$(sh tests/catalogue.sh 1a 9a 36 49 2>&1)
expect 'a configuration' '^\| 1a .*\| yes \| yes \| .*wanted shape'
expect 'weights' '^\| 9a .*\| yes \| yes \| .*NaN'
expect 'a recording' '^\| 36 .*\| ([0-9]) of \1 \| \1 of \1 \| .*silent'
expect 'a device' '^\| 49 .*\| yes \| yes \| '
expect 'the sums' '^4 faults: 100.0 % detected, 100.0 % named'

echo "test_catalogue: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
