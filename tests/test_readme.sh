#!/bin/sh
# test_readme.sh PROGRAM - what README.md shows must be true: its C program compiles and runs, its
# shell lines run, its transcript is what ./demo prints, and the files it names are there.
#
#   ```c NAME        a whole file, written under that name
#   ```sh            lines that run in order, in a directory that holds samples/ and models/
#   ```transcript    output of ./demo; a line "..." stands for any lines; speeds may differ
#   ```console       only shown
set -u
program=$1
cd "$(dirname "$0")/.." || exit 1
top=$PWD
program=$(cd "$(dirname "$program")" && pwd)/$(basename "$program")
passed=0 failed=0 skipped=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

check() { # check NAME COMMAND...
    name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        sed 's/^/  /' "$work/log" | tail -n 30
    fi
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $1"
}

# Blocks of one kind, one after the other.
blocks() {
    awk -v kind="$1" '/^```/ { inside = !inside && $1 == "```" kind; next } inside' "$2"
}

# ---- files that are named ----------------------------------------------------------------------
for document in README.md MODEL.md SPEED.md CONTRIBUTING.md GARBLED.md models/demo/RECIPE.md; do
    grep -o '](\([^)]*\))' "$document" | sed 's/^](//; s/)$//; s/#.*//' | grep -v '^http' | sort -u >"$work/links"
    while read -r link; do
        check "$document: $link exists" test -e "$(dirname "$document")/$link"
    done <"$work/links"
    places=$(grep -n '@@' "$document")
    check "$document has no number left to fill in: $places" test -z "$places"
done

# ---- the program and the shell lines, against an installed library -----------------------------
stage=$work/usr
check "make install" "${MAKE:-make}" -j1 CC="${CC:-cc}" SAN="${SAN:-}" PREFIX="$stage" install
mkdir "$work/here"
ln -s "$top/samples" "$top/models" "$work/here/"
blocks c README.md >"$work/here/reply.c"
check "the C program is there" grep -q main "$work/here/reply.c"
{
    echo 'set -eux'
    blocks sh README.md
} >"$work/lines.sh"
check "the shell lines are there" grep -q 'moshi reply' "$work/lines.sh"
# cc: the compiler under test with its sanitizer; warnings are errors.
mkdir "$work/bin"
compiler=$(command -v "${CC:-cc}")
printf '#!/bin/sh\nexec %s %s -std=c11 -Wall -Wextra -Werror -Wl,-rpath,%s/lib "$@"\n' \
    "$compiler" "${SAN:+-fsanitize=$SAN}" "$stage" >"$work/bin/cc"
chmod +x "$work/bin/cc"
if command -v pkg-config >/dev/null 2>&1; then
    run_lines() {
        cd "$work/here" || return 1
        PATH="$work/bin:$stage/bin:$PATH" \
            PKG_CONFIG_PATH="$stage/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}" \
            sh "$work/lines.sh" >"$work/said"
    }
    check "every shell line runs" run_lines
    cd "$top" || exit 1
    for file in answer.wav codes.safetensors decoded.wav heard-and-said.safetensors; do
        check "$file was written" test -s "$work/here/$file"
    done
    # The last lines are the words of the C program, the checkpoint's sampling and the default seed.
    check "the C program prints the joke" test \
        "$(tail -n 10 "$work/said" | sed 's/.*: //' | tr '\n' ' ')" = "why is six afraid of seven because seven eight nine "
else
    skip "no pkg-config: the shell lines"
fi

# ---- the transcript ----------------------------------------------------------------------------
# Speeds are of another machine, and the directory is another one.
same_everywhere() {
    sed -e 's/ in [0-9.]* s: real-time factor [0-9.]*/ in N s: real-time factor N/' -e "s|$work/out|out|" "$1"
}
if [ -n "${SAN:-}" ]; then
    skip "the transcript: the demo is slow with sanitizers, and runs without them"
else
    ./demo --program "$program" --out "$work/out" >"$work/demo" 2>&1
    check "./demo runs" test $? = 0
    same_everywhere "$work/demo" >"$work/demo.same"
    blocks transcript README.md >"$work/transcript"
    same_everywhere "$work/transcript" >"$work/transcript.same"
    check "the transcript is there" test "$(wc -l <"$work/transcript")" -gt 20
    # Lines must follow each other as shown; after "..." the search goes on to the next match.
    # shellcheck disable=SC2016 # the dollars are awk's
    check "the transcript is what ./demo prints" awk '
        NR == FNR { out[++n] = $0; next }
        $0 == "..." { skipping = 1; next }
        !started { skipping = started = 1 }
        { do at++; while (skipping && at <= n && out[at] != $0)
          if (at > n || out[at] != $0) { print "README: " $0; print "demo:   " out[at]; exit 1 }
          skipping = 0 }' "$work/demo.same" "$work/transcript.same"
    check "a reply for every sample" test "$(find "$work/out" -name '*_reply.wav' | wc -l)" = "$(find samples -name '*_user.*' | wc -l)"
fi

echo "test_readme: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
