#!/bin/sh
# test_report.sh PROGRAM - the files of `moshi analyze`: a page and pictures, all or none, never over
# something that is read.
set -u
case ${1:?usage: tests/test_report.sh path/to/moshi} in
/*) moshi=$1 ;;
*) moshi=$PWD/$1 ;;
esac
cd "$(dirname "$0")/.." || exit 1
top=$PWD
passed=0 failed=0 skipped=0

dir=$(mktemp -d "${TMPDIR:-/tmp}/moshi-report-XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$dir/here" && cd "$dir/here" || exit 1

check() { # check MESSAGE COMMAND...
    message=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $message" >&2
        head -n 5 "$dir/err" >&2
    fi
}
# run CODE COMMAND...: it ends with that exit code.
run() {
    want=$1
    shift
    "$@" >"$dir/out" 2>"$dir/err" </dev/null
    check "$*: exit code $?, wanted $want" test $? -eq "$want"
}
says() { for text in "$@"; do check "does not say '$text'" grep -qF -e "$text" "$dir/err"; done; }
has() { # has FILE TEXT...
    file=$1
    shift
    for text in "$@"; do check "$file does not have '$text'" grep -qF -e "$text" "$file"; done
}
lacks() { check "$1 has '$2'" test -z "$(grep -F -e "$2" "$1" | head -n 1)"; }
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $1"
}
# Nothing but the named files is here.
only() {
    left=$(find . -mindepth 1 | sed 's|^\./||' | sort | tr '\n' ' ')
    check "here is: $left, wanted: $*" test "$left" = "$(printf '%s ' "$@")"
}
# png FILE: signature, width and height of the figures, end.
png() {
    check "$1 is no PNG file" test "$(head -c 8 "$1" | od -An -tx1 | tr -d ' \n')" = 89504e470d0a1a0a
    width=$(od -An -tu1 -j 16 -N 4 "$1" | awk '{ print $1 * 16777216 + $2 * 65536 + $3 * 256 + $4 }')
    check "$1 is $width wide" test "$width" -eq 1440
    check "$1 has no end" test "$(tail -c 12 "$1" | od -An -tx1 | tr -d ' \n')" = 0000000049454e44ae426082
}

cp "$top/samples/11_make_me_laugh_user.wav" a.wav || exit 1

# ---- more than samples: names, numbers, lengths ----------------------------------------------------
set --
while [ $# -lt 20 ]; do set -- "$@" a.wav; done
run 0 "$moshi" analyze "$@" --quiet
check "twenty files" test "$(grep -c '^a.wav: clean' "$dir/out")" -eq 20
{ head -c 44 a.wav && tail -c +45 a.wav | head -c 62356; } >cut.wav
run 1 "$moshi" analyze cut.wav
has "$dir/out" "[cut-off]" "its header promises 6.16 s, there are 1.30 s"
"$moshi" codec roundtrip a.wav -o whole.wav --quiet && "$moshi" codec roundtrip cut.wav -o part.wav --quiet 2>/dev/null
run 1 "$moshi" analyze part.wav --reference whole.wav
has "$dir/out" "[cut-off]" "of the sound of the reference"
name=$(printf 'x\033[31m.wav')
cp a.wav "$name"
run 0 "$moshi" analyze "$name"
lacks "$dir/out" "$(printf '\033')"
rm -f cut.wav whole.wav part.wav "$name"
if "$moshi" analyze a.wav 2>&1 </dev/null | grep -q "built without kissfft"; then
    echo "SKIP moshi analyze: built without kissfft"
    echo "test_report: 0 passed, 0 failed, 1 skipped"
    exit 0
fi

# ---- a page -------------------------------------------------------------------------------------
run 0 "$moshi" analyze a.wav --report a.html
only a.html a.wav
has a.html '<h1 class="good">clean</h1>' "Waveform" "Modulation" "legacy score" "for comparison only" \
    "score" "$("$moshi" --version | head -n 1 | cut -d' ' -f1-2)"
for banned in http: https: '<script' 'src=' 'url(' '@import' '<link'; do lacks a.html "$banned"; done
if command -v xmllint >/dev/null; then
    run 0 xmllint --nonet --noout a.html
else
    skip "xmllint is not installed (Debian: libxml2-utils)"
fi
cp a.html before
run 0 "$moshi" analyze a.wav --report a.html --json
check "the same page again" cmp -s a.html before
check "JSON beside a page" grep -q '"verdict": "clean"' "$dir/out"
rm before

# What is too short to be judged has no score, whoever asks.
{ head -c 44 a.wav && tail -c +42285 a.wav | head -c 11520; } >cut.wav
"$moshi" codec roundtrip cut.wav -o short.wav --quiet 2>/dev/null
run 0 "$moshi" analyze short.wav --report short.html --json
has "$dir/out" '"verdict": "too short to judge"' '"score": null'
lacks short.html "score 9"
run 1 "$moshi" compare short.wav short.wav
lacks "$dir/out" "score"
rm cut.wav short.wav short.html

# Several, one of them damaged.
cp a.wav '<b>&"'\''.wav'
{ head -c 44 a.wav && tail -c +45 a.wav | dd conv=swab 2>/dev/null; } >swapped.wav
run 1 "$moshi" analyze a.wav '<b>&"'\''.wav' swapped.wav --report three.html
has three.html "1 of 3 recordings failed" "swapped bytes: wrong endianness" \
    "<bdi>&lt;b&gt;&amp;&quot;&#39;.wav</bdi>" 'href="#file-3"' 'id="file-3"'
lacks three.html "<b>&"
command -v xmllint >/dev/null && run 0 xmllint --nonet --noout three.html
rm three.html '<b>&"'\''.wav' swapped.wav

# ---- pictures -----------------------------------------------------------------------------------
pictures=yes
"$moshi" analyze a.wav --png pictures 2>&1 </dev/null | grep -q "built without libpng" && pictures=
if [ "$pictures" ]; then
    only a.html a.wav pictures pictures/modulation.png pictures/spectrogram.png pictures/waveform.png
    for name in modulation spectrogram waveform; do png pictures/$name.png; done
    has a.html "data:image/png;base64,iVBORw0KGgo"
    cp a.wav b.wav
    run 0 "$moshi" analyze a.wav b.wav --png pictures
    for name in a.wav b.wav; do png pictures/$name-waveform.png; done
    rm -r pictures b.wav
    mkdir other && cp a.wav other
    run 2 "$moshi" analyze a.wav other/a.wav --png pictures
    says "two recordings of one name" "pictures/a.wav-waveform.png"
    rm -r other
    only a.html a.wav
    : >file
    run 2 "$moshi" analyze a.wav --png file
    says "file" "is no directory"
    rm file
    run 2 "$moshi" analyze a.wav --png missing/pictures
    says "missing/pictures" "cannot make this directory"
else
    only a.html a.wav
    has a.html "built without libpng"
    skip "pictures: built without libpng"
fi

# ---- what must not be written -------------------------------------------------------------------
rm a.html
cp a.wav before
ln a.wav link.html
for path in a.wav ./a.wav link.html; do
    run 2 "$moshi" analyze a.wav --report "$path"
    says "$path" "is the input file a.wav"
done
run 2 "$moshi" analyze before --reference a.wav --report link.html
says "is the input file a.wav"
check "the input was changed" cmp -s a.wav before
rm link.html before
cp -R "$top/models/demo" model
for file in model/config.json model/mimi_config.json; do
    cp $file before
    run 2 "$moshi" analyze a.wav -m model --report $file
    says "$file, a file of the model"
    check "$file was changed" cmp -s $file before
done
run 0 "$moshi" codec encode a.wav -o codes.safetensors
# Other codes: no guess is better than the nearest of strangers. A file of codes is named.
run 0 "$moshi" codec encode "$top/samples/barge_user.wav" -o other.safetensors
run 1 "$moshi" analyze a.wav --codes other.safetensors
has "$dir/out" "[unlike-codes]" "nothing that is known to happen to codes gives this sound"
lacks "$dir/out" "delays"
run 0 "$moshi" reply a.wav -o b.wav --tokens said.safetensors --quiet
run 0 "$moshi" trace --in said.safetensors -o trace.safetensors --quiet
run 0 "$moshi" analyze b.wav --codes trace.safetensors
has "$dir/out" "as they are"
tr '\000\001' '\377\377' <other.safetensors | tail -c 256 >rest
{ head -c -256 other.safetensors && cat rest; } >bad.safetensors
run 2 "$moshi" analyze a.wav --codes bad.safetensors
says "bad.safetensors: codes: frame"
rm b.wav said.safetensors trace.safetensors other.safetensors bad.safetensors rest
run 2 "$moshi" analyze a.wav --codes codes.safetensors --report codes.safetensors
says "is the input file codes.safetensors"
run 0 "$moshi" analyze a.wav -m model --report a.html
has a.html "codes that come back" "round trip" 'aria-label="Agreement: of the codes of the first of 8 codebooks'
rm -r model codes.safetensors before a.html
run 2 "$moshi" analyze a.wav --report -
says "standard output"
run 2 "$moshi" analyze a.wav --report missing/a.html
says "missing/a.html: cannot write"
# shellcheck disable=SC2086 # two words or none
run 2 "$moshi" analyze a.wav missing.wav --report a.html ${pictures:+--png p}
says "missing.wav"
only a.wav
# The others get their verdict, and the list names every file.
run 2 "$moshi" analyze missing.wav a.wav void.wav
says "missing.wav"
says "void.wav"
has "$dir/out" "a.wav: clean"
run 2 "$moshi" analyze missing.wav a.wav --json
has "$dir/out" '"verdict": "clean"' '"error": "missing.wav'
only a.wav
if [ -c /dev/full ]; then
    run 2 "$moshi" analyze a.wav --report /dev/full
    says "/dev/full: cannot write: No space left on device"
else
    skip "no /dev/full"
fi
# Files that may not grow beyond 4 KB, as on a full disk.
# shellcheck disable=SC2086
run 2 sh -c 'ulimit -f 8; exec "$@"' sh "$moshi" analyze a.wav --report a.html ${pictures:+--png p}
says "cannot write: File too large"
only a.wav

echo "test_report: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
