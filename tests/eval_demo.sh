#!/bin/sh
# eval_demo.sh [PROGRAM [RECORDINGS]] - does the demo model answer people it never heard?
#
# Answers 60 recordings with `moshi reply`, counts the transcripts that are right to the last word
# (57 are wanted), lets a speech recogniser listen to the spoken answers (53 understood, see
# eval_demo.py), and holds the conversation in samples/ (all of its twelve turns). Takes a few
# minutes. Ends with "eval_demo: N passed, N failed, N skipped" like a test.
set -u
program=${1:-${MOSHI_BIN:-build/current/moshi}}
recordings=${2:-${MOSHI_GOLDEN:-../shared/golden}/../demo-model/testwavs}
passed=0 failed=0 skipped=0

check() { # check "what" WANTED FOUND TOTAL
    echo "$1: $3 of $4 (wanted $2)"
    if [ "$3" -ge "$2" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

skip() {
    echo "SKIP $*"
    skipped=$((skipped + 1))
}

conversation="three plus seven is ten
nine plus three is twelve
seven minus zero is seven
one two three four five six seven
eight minus zero is eight
one times three is three
seven minus three is four
seven plus nine is sixteen
three minus zero is three
thursday comes after wednesday
five minus seven is minus two
six times three is eighteen"

out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT

# The system's Python has the system's packages, whatever comes first in the PATH.
python=python3
/usr/bin/python3 -c 'import pocketsphinx' 2>/dev/null && python=/usr/bin/python3

# One recording: the transcript beside the spoken answer.
# shellcheck disable=SC2016 # another shell expands this
answer='"$0" reply "$2" -o "$1/$(basename "$2" .flac).wav" --quiet >"$1/$(basename "$2" .flac).txt"'

if [ -f "$recordings/list.tsv" ]; then
    find "$recordings" -name '*.flac' | sort |
        xargs -P "${JOBS:-2}" -n 1 sh -c "$answer" "$program" "$out"
    total=0 right=0
    tab=$(printf '\t')
    while IFS=$tab read -r file question expected rest; do
        [ "$file" = file ] && continue
        total=$((total + 1))
        text=$(cat "$out/${file%.flac}.txt")
        if [ "$text" = "$expected" ]; then
            right=$((right + 1))
        else
            echo "  $file \"$question\": \"$text\", wanted \"$expected\""
        fi
    done <"$recordings/list.tsv"
    check "words right" 57 "$right" "$total"
    if spoken=$("$python" tests/eval_demo.py "$recordings/list.tsv" "$out"); then
        check "speech understood" 53 "$spoken" "$total"
    else
        skip "speech is not listened to: $spoken"
    fi
else
    skip "no recordings in $recordings"
fi

words=$("$program" reply samples/conversation_user.flac -o "$out/conversation.wav" --quiet)
turns=0 left=$words
while IFS= read -r turn; do
    case $left in
    "$turn"*) turns=$((turns + 1)) ;;
    *)
        echo "  conversation: \"$left\", wanted \"$turn\""
        break
        ;;
    esac
    left=${left#"$turn"}
    left=${left# }
done <<EOF
$conversation
EOF
[ -z "$left" ] || turns=0 # something was said that nobody asked for
check "turns of the conversation right" 12 "$turns" 12

echo "eval_demo: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
