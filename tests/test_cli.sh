#!/bin/sh
# test_cli.sh PROGRAM - the contract of the command line: exit codes, messages, help, files that
# appear whole or not at all, and results equal to the recorded ones. Needs nothing but sh.
set -u
case ${1:?usage: tests/test_cli.sh path/to/moshi} in
/*) moshi=$1 ;;
*) moshi=$PWD/$1 ;;
esac
cd "$(dirname "$0")/.." || exit 1
top=$PWD
samples=$top/samples
golden=${MOSHI_GOLDEN:-$top/../shared/golden}
demo_golden=$top/../shared/demo-model/golden
unset MOSHI_MODEL MOSHI_DEVICE
passed=0 failed=0 skipped=0

dir=$(mktemp -d "${TMPDIR:-/tmp}/moshi-cli-XXXXXX") || exit 1
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1

ok() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAIL $*" >&2
    # shellcheck disable=SC2012 # names are ours
    [ ! -s err ] || sed 's/^/    stderr: /' err | head -n 5 >&2
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $*"
}
check() { # check MESSAGE COMMAND...: the command succeeds
    message=$1
    shift
    if "$@"; then ok; else fail "$message"; fi
}

# run CODE ARGUMENTS...: the program ends with that exit code; its output is in out and err.
run() {
    want=$1
    shift
    "$moshi" "$@" >out 2>err </dev/null
    got=$?
    if [ "$got" = "$want" ]; then ok; else fail "moshi $*: exit code $got, wanted $want"; fi
    last="moshi $*"
}
# says TEXT...: standard error holds each of these texts, and standard output nothing.
says() {
    for text in "$@"; do
        if grep -qF -e "$text" err; then ok; else fail "$last: does not say '$text'"; fi
    done
    if [ -s out ]; then fail "$last: wrote to standard output"; else ok; fi
}
prints() { # prints TEXT...: standard output holds each of these texts
    for text in "$@"; do
        if grep -qF -e "$text" out; then ok; else fail "$last: does not print '$text'"; fi
    done
}
no_leftovers() { # nothing but what is named may be in a directory
    left=$(find "$1" -type f ! -name err ! -name out | sort | tr '\n' ' ')
    if [ -z "$left" ]; then ok; else fail "$2: left behind: $left"; fi
}

# ---- making and reading small binary files ------------------------------------------------------
le() { # le BYTES VALUE: little endian
    bytes=$1 value=$2
    while [ "$bytes" -gt 0 ]; do
        # shellcheck disable=SC2059 # the format is the point
        printf "\\$(printf %03o $((value & 255)))"
        value=$((value >> 8)) bytes=$((bytes - 1))
    done
}
wav() { # wav FORMAT CHANNELS RATE BITS DATA_FILE > file
    size=$(wc -c <"$5")
    printf 'RIFF'
    le 4 $((size + 36))
    printf 'WAVEfmt '
    le 4 16 && le 2 "$1" && le 2 "$2" && le 4 "$3"
    le 4 $(($3 * $2 * $4 / 8)) && le 2 $(($2 * $4 / 8)) && le 2 "$4"
    printf 'data'
    le 4 "$size"
    cat "$5"
}
array() { # array FILE NAME: the bytes of one array of a safetensors file
    length=$(od -An -tu8 -N8 "$1" | tr -d ' ')
    offsets=$(tail -c +9 "$1" | head -c "$length" |
        sed -n 's/.*"'"$2"'": *{[^}]*"data_offsets": *\[\([0-9]*\), *\([0-9]*\)\].*/\1 \2/p')
    [ -n "$offsets" ] || return 1
    tail -c +$((9 + length + ${offsets% *})) "$1" | head -c $((${offsets#* } - ${offsets% *}))
}
same_array() { # same_array FILE NAME FILE NAME: equal bytes
    array "$1" "$2" >one.bin && array "$3" "$4" >two.bin && [ -s one.bin ] && cmp -s one.bin two.bin
}
numbers() { od -An -v -tf4 "$1" | tr -s ' ' '\n' | grep .; } # one float32 per line
near_array() { # near_array FILE NAME FILE NAME LIMIT: float32 within the limit
    array "$1" "$2" >one.bin && array "$3" "$4" >two.bin && [ -s one.bin ] || return 1
    [ "$(wc -c <one.bin)" = "$(wc -c <two.bin)" ] || return 1
    numbers one.bin >one.txt && numbers two.bin >two.txt
    paste one.txt two.txt | awk -v limit="$5" '
        { d = $1 - $2; if (d < 0) d = -d; if (!(d <= limit)) bad = 1 } END { exit bad }'
}

head -c 48000 "$samples/00_what_is_three_plus_seven_user.wav" | tail -c +45 >pcm16
head -c 24000 /dev/zero >zeros
wav 1 1 24000 16 pcm16 >short.wav
: >empty
words_file() { # words_file SHAPE BYTES FILE: a token file with user_codes of zeros
    header='{"user_codes":{"dtype":"I32","shape":'$1',"data_offsets":[0,'$2']}}'
    { le 8 ${#header} && printf %s "$header" && head -c "$2" /dev/zero; } >"$3"
}
codes_file() { # codes_file SHAPE BYTES FILE: the same with codes
    header='{"codes":{"dtype":"I32","shape":'$1',"data_offsets":[0,'$2']}}'
    { le 8 ${#header} && printf %s "$header" && head -c "$2" /dev/zero; } >"$3"
}
# A pipe that nobody reads is given up after some seconds: looked at in test_pipes.
mkfifo lonely
{
    "$moshi" reply short.wav -o lonely --tail 0 2>lonely.err >lonely.out </dev/null
    echo $? >lonely.code
} &

# ---- help and version ---------------------------------------------------------------------------
test_help() {
    run 0 --version
    prints "moshi "
    run 0 --help
    prints "Usage:" "Example:" "reply" "codec encode" "trace" "inspect" "pull" "Exit codes"
    run 0 help
    prints "Usage:"
    for verb in reply "codec encode" "codec decode" "codec roundtrip" trace inspect pull analyze; do
        # shellcheck disable=SC2086 # two words on purpose
        run 0 help $verb
        prints "Usage: moshi $verb" "Example:" "--help"
        # shellcheck disable=SC2086
        run 0 $verb --help
        prints "Usage: moshi $verb" "Example:"
    done
    run 0 help codec
    prints "codec encode" "Example:"
    run 0 codec --help
    prints "codec decode"
    run 0 reply --no-such-flag --help
    for verb in '' reply codec 'codec encode' 'codec decode' 'codec roundtrip' trace inspect convert pull; do
        # shellcheck disable=SC2086
        "$moshi" $verb --help >out 2>err
        check "help $verb: lines that are too long: $(awk 'length > 92' out)" \
            test "$(awk 'length > 92' out | wc -l)" -eq 0
    done
}

# ---- usage --------------------------------------------------------------------------------------
test_usage() {
    run 2
    says "no verb"
    run 2 rply
    says "unknown verb 'rply'" "did you mean 'reply'"
    run 2 codec encod short.wav
    says "did you mean 'codec encode'"
    run 2 codec
    says "help codec"
    run 2 xyzzyxyzzy
    says "see moshi --help"
    run 2 help replly
    says "did you mean 'reply'"
    run 0 help help
    prints "Usage: moshi VERB"
    run 2 version
    says "did you mean '--version'"
    run 2 --verison
    says "did you mean '--version'"
    run 2 --version x
    run 2 reply short.wav -o o.wav --gredy
    says "unknown option '--gredy'" "did you mean '--greedy'"
    run 2 reply short.wav -o o.wav --text-temperature 1
    says "did you mean '--text-temp'"
    run 2 reply short.wav -o o.wav -x
    says "unknown option '-x'"
    run 2 reply short.wav -o o.wav --seed 1 --seed 2
    says "--seed was given twice"
    run 2 reply short.wav -o o.wav --seed 1 --greedy
    says "--seed has no effect with --greedy"
    run 2 reply short.wav -o o.wav --text-temp 0 --text-top-k 5
    says "--text-top-k has no effect"
    run 2 reply short.wav -o o.wav --json --times
    says "--times has no effect with --json"
    run 2 reply short.wav -o o.wav --tail abc
    says "--tail: wanted seconds 0..3600, found 'abc'"
    run 2 reply short.wav -o o.wav --tail -1
    says "found '-1'"
    run 2 reply short.wav -o o.wav --tail 1x
    run 2 reply short.wav -o o.wav --tail nan
    run 2 reply short.wav -o o.wav --tail=
    says "--tail: its value is empty"
    run 2 reply short.wav -o o.wav --threads 0
    says "wanted a whole number 1..256, found '0'"
    run 2 reply short.wav -o o.wav --seed 99999999999999999999
    run 2 reply short.wav -o o.wav --seed -1
    says "--seed: wanted a whole number" "found '-1'"
    run 2 reply short.wav -o o.wav --text-temp 2 --text-top-k 1
    says "--text-temp has no effect with --text-top-k 1"
    run 2 reply short.wav -o o.wav --audio-temp 2 --audio-top-k 1
    says "--audio-temp has no effect"
    run 2 reply short.wav -o o.wav --seed 1 --text-temp 0 --audio-top-k 1
    says "--seed has no effect"
    run 2 reply short.wav -o o.wav --pull
    says "--pull has no effect" "wanted a model ORG/NAME"
    run 2 codec encode short.wav -o c.st --pull -m ./nowhere/at/all
    says "--pull has no effect on ./nowhere/at/all"
    run 2 reply short.wav -o o.xyz
    says "o.xyz: wanted a name that ends in .wav, .flac, .ogg, .opus or .mp3, found .xyz"
    run 2 codec roundtrip short.wav -o o.flac --float
    says "--float: wanted an output that ends in .wav, found o.flac"
    run 2 reply '' -o o.wav
    says "the name of the audio file is empty"
    run 2 reply short.wav -o ''
    says "--output: its value is empty"
    run 2 reply - -o o.wav
    says "standard input is not read"
    run 2 trace --in short.wav -o t.st --taps '  '
    says "--taps: wanted patterns, found only spaces"
    run 2 reply short.wav -o o.wav --first-frame sever
    says "wanted file|server, found 'sever'"
    run 2 reply short.wav -o o.wav --kv q4
    says "--kv: wanted f32|bf16|q8_0, found 'q4'"
    for kv in bf16 q8_0; do
        run 2 reply short.wav -o o.wav --exact --kv $kv
        says "--exact computes in float32: leave out --kv $kv"
    done
    run 2 trace --in steps.st -o t.st --kv=bf16 --exact
    run 2 codec encode short.wav -o c.st --kv f32
    says "unknown option '--kv'"
    run 2 reply short.wav -o o.wav --json=yes
    says "takes no value"
    run 2 reply short.wav -o --json
    says "--output needs a value"
    run 2 reply short.wav -o
    says "--output needs a value"
    run 2 reply short.wav
    says "-o is missing"
    run 2 reply -o o.wav
    says "which recording"
    run 2 reply short.wav other.wav -o o.wav
    says "unexpected argument 'other.wav'"
    run 2 reply short.wav -o o.wav --tokens o.wav
    says "same file"
    run 2 reply short.wav -o o.wav --tokens ././o.wav
    says "--tokens ././o.wav and -o o.wav name the same file"
    run 2 reply short.wav -o o.wav --tokens -
    says "--tokens -: the words go to standard output"
    run 2 codec encode short.wav
    says "-o is missing"
    run 2 codec encode short.wav -o c.st -n 0
    says "wanted a whole number 1..64, found '0'"
    run 2 codec decode c.st -o o.wav -n 8
    says "unknown option '-n'"
    run 2 trace -o t.st
    says "--in is missing"
    run 2 inspect a -m b
    says "named twice"
    check "usage errors leave no output" test ! -e o.wav
}

# ---- input files --------------------------------------------------------------------------------
test_bad_input() {
    mkdir bad
    run 2 reply nothing.wav -o bad/o.wav
    says "nothing.wav: cannot open: No such file"
    run 2 reply . -o bad/o.wav
    says ".: is a directory"
    run 2 reply empty -o bad/o.wav
    says "empty: is empty"
    run 2 reply "$top/Makefile" -o bad/o.wav
    says "not an audio file"
    run 2 reply /dev/null -o bad/o.wav
    says "not a regular file"
    wav 1 1 24000 16 empty >none.wav
    run 2 reply none.wav -o bad/o.wav
    says "none.wav: has no samples"
    wav 1 1 0 16 pcm16 >rate0.wav
    run 2 reply rate0.wav -o bad/o.wav
    says "rate0.wav: sample rate: wanted 1000..768000 Hz, found 0"
    wav 1 1 4000000 16 pcm16 >rate4m.wav
    run 2 reply rate4m.wav -o bad/o.wav
    says "sample rate: wanted 1000..768000 Hz, found 4000000"
    wav 1 100 24000 16 pcm16 >ch100.wav
    run 2 reply ch100.wav -o bad/o.wav
    says "channels: wanted 1..64, found 100"
    { head -c 400 zeros && printf '\000\000\300\177' && head -c 400 zeros; } >nan
    wav 3 1 24000 32 nan >nan.wav
    run 2 reply nan.wav -o bad/o.wav
    says "sample 100 of channel 1" "found nan"
    { printf '\000\000\200\177' && head -c 400 zeros; } >inf
    wav 3 1 24000 32 inf >inf.wav
    run 2 codec encode inf.wav -o bad/c.st
    says "sample 0 of channel 1" "found inf"
    { printf '\000\000\372\106' && head -c 400 zeros; } >huge
    wav 3 1 24000 32 huge >huge.wav
    run 2 codec roundtrip huge.wav -o bad/o.wav
    says "found 32000"
    no_leftovers bad "unusable input"
}

test_odd_input() {
    wav 1 1 8000 8 pcm16 >u8.wav
    wav 1 2 48000 16 pcm16 >stereo.wav
    wav 1 3 44100 24 zeros >three.wav
    wav 3 1 16000 32 zeros >float.wav
    head -c 2 pcm16 >sample
    wav 1 1 24000 16 sample >one.wav
    head -c 20001 short.wav >cut.wav
    for file in u8 three float one; do
        run 0 reply $file.wav -o $file.out.wav --tail 0.5 --greedy --quiet
        check "$file.wav: --quiet is not quiet" test ! -s err
        check "$file.wav: no output" test -s $file.out.wav
    done
    # 23978 samples promised; 9978 are there, and are used.
    run 0 reply cut.wav -o cut.out.wav --tail 0.5 --greedy --quiet
    check "a cut recording: warning" grep -qF \
        "warning: cut.wav: is cut off: its header promises 1.00 s, found 0.42 s" err
    check "a cut recording: one warning" test "$(wc -l <err)" -eq 1
    check "a cut recording is used" test "$(wc -c <cut.out.wav)" -eq $((13 * 3840 + 44))
    # Lengths that mean "until the end", and data that is followed by something else.
    { head -c 40 short.wav && le 4 4294967295 && cat pcm16; } >endless.wav
    { cat short.wav && printf 'LIST' && le 4 4 && printf 'INFO'; } >list.wav
    for file in endless list; do
        run 0 codec encode $file.wav -o $file.st --quiet
        check "$file.wav: a warning for nothing" test ! -s err
    done
    run 0 codec encode one.wav -o one.st -n 1
    check "one frame is no frames" grep -qF " 1 frame, 1 codebook, " err
    run 0 reply stereo.wav -o stereo.out.wav --tail 0.5 --greedy
    check "mixing down is not mentioned" grep -q "2 channels" err
    check "resampling is not mentioned" grep -q "from 48000 to 24000 Hz" err
    check "no summary" grep -q "real-time factor" err
    # One sample fills one frame; seven more follow for 0.5 s. 8 * 1920 * 2 bytes and a header.
    check "length of the answer to one sample" test "$(wc -c <one.out.wav)" -eq $((8 * 3840 + 44))
}

# ---- output files -------------------------------------------------------------------------------
test_output() {
    mkdir target readonly
    run 2 reply short.wav -o target
    says "target: is a directory"
    run 2 reply short.wav -o nowhere/o.wav
    says "nowhere/o.wav: cannot write: No such file"
    cp short.wav same.wav
    run 2 reply same.wav -o same.wav
    says "is the input file"
    ln -s same.wav link.wav
    run 2 reply same.wav -o link.wav
    says "is the input file"
    check "the input was touched" cmp -s short.wav same.wav
    run 2 reply short.wav -o -
    says "wanted a file name"
    long=$(printf '%0250d' 0).wav
    run 0 codec roundtrip short.wav -o "$long" --quiet
    check "a name as long as names may be" test -s "$long"
    cp short.wav private.wav
    chmod 600 private.wav
    run 0 codec roundtrip short.wav -o private.wav --quiet
    # shellcheck disable=SC2012 # the mode is in the listing
    check "a file keeps its permissions" test "$(ls -l private.wav | cut -c 1-10)" = -rw-------
    chmod 555 readonly
    if [ -w readonly ]; then
        skip "an unwritable directory: running as root"
    else
        run 2 reply short.wav -o readonly/o.wav
        says "readonly/o.wav: cannot write"
    fi
    run 0 reply short.wav -o target/o.wav --tail 0.2 --quiet --tokens target/t.st
    run 0 reply short.wav -o target/o.wav --tail 0.2 --quiet --tokens target/t.st
    check "temporary files stay" test "$(find target -type f | wc -l)" -eq 2
    run 0 reply short.wav -o /dev/null --tail 0.2 --quiet
    if [ -c /dev/full ]; then
        run 2 reply short.wav -o /dev/full --tail 0.2
        says "/dev/full: cannot write: No space left"
        run 2 codec encode short.wav -o /dev/full
        says "/dev/full: cannot write: No space left"
        "$moshi" reply short.wav -o full.wav --tail 0.2 >/dev/full 2>err
        check "a full standard output must be an error" test $? = 2
        check "a full standard output: message" grep -q "standard output" err
        "$moshi" --help >/dev/full 2>err
        check "help into a full disk must be an error" test $? = 2
    else
        skip "/dev/full: writing to a full disk"
    fi
    { "$moshi" reply short.wav -o pipe.wav --tail 0.2 2>err; echo $? >code; } | :
    check "a closed pipe must be an error" grep -q 2 code
}

# Every format by its name; what is lossless holds the same samples.
test_formats() {
    run 0 codec encode short.wav -o codes.st --quiet
    run 0 codec decode codes.st -o f.wav --quiet
    run 0 codec decode codes.st -o plain --quiet
    check "without an ending: wav" cmp -s f.wav plain
    run 0 codec decode codes.st -o f.FLAC --quiet
    run 0 codec roundtrip f.wav -o back.wav --quiet
    run 0 codec roundtrip f.FLAC -o back2.wav --quiet
    check "flac holds the same samples as wav" cmp -s back.wav back2.wav
    for pair in FLAC:fLaC ogg:OggS opus:OggS; do
        run 0 codec decode codes.st -o f.${pair%:*} --quiet
        check ".${pair%:*} begins with ${pair#*:}" test "$(head -c 4 f.${pair%:*})" = "${pair#*:}"
        run 0 codec encode f.${pair%:*} -o again.st --quiet
    done
    check ".opus is Opus" grep -q OpusHead f.opus
    check ".ogg is Vorbis" grep -q vorbis f.ogg
    if "$moshi" codec decode codes.st -o f.mp3 --quiet 2>err; then
        run 0 codec encode f.mp3 -o again.st --quiet
        check ".mp3 is not wav" test "$(head -c 4 f.mp3)" != RIFF
    elif grep -q "libsndfile cannot write .mp3" err; then
        skip "mp3: this libsndfile has no encoder"
    else
        fail "mp3: neither written nor refused"
    fi
    run 0 reply short.wav -o f.reply.flac --tail 0.2 --quiet
    (
        ulimit -f 8
        "$moshi" codec decode codes.st -o full.flac --quiet >out 2>err
        echo $? >code
    )
    check "flac on a full disk: exit code" grep -q '^2$' code
    check "flac on a full disk: message" grep -q "full.flac: cannot write: File too large" err
    check "flac on a full disk leaves nothing" sh -c '! ls full.flac* >/dev/null 2>&1'
}

# ---- the model's own files ----------------------------------------------------------------------
test_own_files() {
    mkdir own
    cp "$top"/models/demo/*.json "$top"/models/demo/*.safetensors "$top"/models/demo/*.model own
    cat own/* | cksum >own.before
    ln -s own/model.safetensors own-link.wav
    ln own/config.json own-hard.safetensors
    words_file '[8, 1]' 32 steps.st
    codes_file '[8, 1]' 32 codes1.st
    for file in own/*; do
        run 2 reply short.wav -o "$file" -m own
        says "$file: cannot be the output: it is $file, a file of the model"
        run 2 reply short.wav -o new.wav --tokens "$file" -m own
        says "$file: cannot be the output"
        run 2 codec encode short.wav -o "$file" -m own/model.safetensors
        says "$file: cannot be the output"
        run 2 codec decode codes1.st -o "$file" -m own
        says "$file: cannot be the output"
        run 2 codec roundtrip short.wav -o "$file" -m own
        says "$file: cannot be the output"
        run 2 trace --in steps.st -o "$file" -m own
        says "$file: cannot be the output"
    done
    run 2 reply short.wav -o own-link.wav -m own
    says "own-link.wav: cannot be the output: it is own/model.safetensors"
    MOSHI_MODEL=own run 2 codec encode short.wav -o own-hard.safetensors
    says "own-hard.safetensors: cannot be the output: it is own/config.json"
    run 2 trace --in steps.st -o own/../own/config.json -m own/config.json
    says "cannot be the output"
    cp short.wav adapter.safetensors
    run 2 reply short.wav -o new.wav --tokens ./adapter.safetensors --lora adapter.safetensors:1
    says "./adapter.safetensors: cannot be the output: it is adapter.safetensors, an adapter"
    run 2 trace --in steps.st -o ./steps.st
    says "./steps.st: is the input file (steps.st)"
    run 0 trace --in steps.st -o own/trace.safetensors -m own --quiet
    rm own/trace.safetensors
    check "the model was touched" test "$(cat own/* | cksum)" = "$(cat own.before)"
    rm -r own
}

# ---- pipes and standard output ------------------------------------------------------------------
test_pipes() {
    run 0 codec encode short.wav -o codes.st --quiet
    "$moshi" codec encode short.wav -o - 2>err | cat >piped.st
    check "codec encode -o -" cmp -s codes.st piped.st
    check "the summary names standard output" grep -q "written to standard output" err
    run 0 codec decode codes.st -o f.wav --quiet
    "$moshi" codec decode codes.st -o - --quiet | cat >piped.wav
    # Only the two lengths in the header differ.
    tail -c +45 f.wav >one.bin
    tail -c +45 piped.wav >two.bin
    check "codec decode -o -: samples" cmp -s one.bin two.bin
    run 0 codec encode piped.wav -o again.st --quiet
    mkfifo pipe
    { sleep 0.2 && cat pipe >from-pipe.wav; } &
    reader=$!
    run 0 codec decode codes.st -o pipe --quiet
    wait $reader
    check "a pipe: samples" cmp -s piped.wav from-pipe.wav
    cat pipe >tokens.st &
    reader=$!
    run 0 reply short.wav -o f.wav --tail 0.2 --greedy --tokens pipe --quiet
    wait $reader
    run 0 reply short.wav -o f.wav --tail 0.2 --greedy --tokens same.st --quiet
    check "tokens into a pipe" cmp -s tokens.st same.st
    run 2 trace --in tokens.st -o pipe
    says "pipe: takes data in order only"
    run 2 trace --in tokens.st -o -
    says "standard output: takes data in order only"
    mkfifo pipe.mp3
    run 2 reply short.wav -o pipe.mp3
    says "pipe.mp3: takes data in order only"
    run 0 reply short.wav -o /dev/null --tokens /dev/null --tail 0.2 --quiet
    run 0 codec encode short.wav -o /dev/null --quiet
    run 0 trace --in tokens.st -o /dev/null --quiet
    # A reader that does not read: the program sits in a write, and can be ended all the same.
    mkfifo stuck.wav
    "$moshi" reply short.wav -o stuck.wav --tail 600 --quiet >out 2>err &
    pid=$!
    exec 3<stuck.wav
    sleep 1
    kill -s TERM $pid
    wait $pid
    check "a signal while a pipe is full" test $? = 143
    exec 3<&-
    "$moshi" reply short.wav -o pipe --quiet >out 2>err &
    pid=$!
    n=0
    while ! grep -q waiting err && [ $n -lt 100 ]; do
        sleep 0.05
        n=$((n + 1))
    done
    kill -s INT $pid
    wait $pid
    check "a signal while waiting for a reader" test $? = 130
    "$moshi" reply short.wav -o closed.wav --tail 2 --quiet >&- 2>err
    check "standard output is closed" test $? = 2
    check "standard output is closed: message" grep -q "standard output" err
    check "standard output is closed: no output" test ! -e closed.wav
    wait
    check "a pipe that nobody reads" test "$(cat lonely.code)" = 2
    check "a pipe that nobody reads: message" grep -q "lonely: is a pipe that nobody reads" lonely.err
}

# Words come when they are spoken, also into a pipe.
test_live() {
    mkfifo words.pipe
    "$moshi" reply "$samples/00_what_is_three_plus_seven_user.wav" -o live.wav --greedy --tail 3600 \
        --quiet >words.pipe 2>err &
    pid=$!
    exec 3<words.pipe
    first=$(dd bs=1 count=5 <&3 2>/dev/null)
    check "words while the model speaks: '$first'" test "$first" = three
    check "words come before the end" kill -s TERM $pid
    wait $pid
    check "it was still speaking" test $? = 143
    exec 3<&-
    rm -f words.pipe
}

# A limit on the size of files: the write fails half-way, and nothing may be left.
test_disk_full() {
    mkdir quota
    (
        ulimit -f 64
        "$moshi" reply short.wav -o quota/o.wav --tail 10 --quiet >out 2>err
        echo $? >code
    )
    check "half-way failure: exit code" grep -q '^2$' code
    check "half-way failure: message" grep -q "quota/o.wav: cannot write" err
    no_leftovers quota "half-way failure"
}

# ---- interruption -------------------------------------------------------------------------------
interrupt() { # interrupt SIGNAL CODE ARGUMENTS...
    signal=$1 want=$2
    shift 2
    "$moshi" "$@" >out 2>err </dev/null &
    pid=$!
    n=0
    # Wait until it has begun: its temporary file is there.
    while [ -z "$(find stop -type f)" ] && [ $n -lt 100 ]; do
        sleep 0.1
        n=$((n + 1))
    done
    kill -s "$signal" $pid
    wait $pid
    got=$?
    if [ $got = "$want" ]; then ok; else fail "SIG$signal: exit code $got, wanted $want"; fi
    no_leftovers stop "SIG$signal"
}
test_interrupt() {
    mkdir stop
    interrupt INT 130 reply short.wav -o stop/o.wav --tail 3600 --tokens stop/t.st
    interrupt TERM 143 reply short.wav -o stop/o.wav --tail 3600
    interrupt QUIT 131 reply short.wav -o stop/o.flac --tail 3600 --tokens stop/t.st
    interrupt HUP 129 reply short.wav -o stop/o.opus --tail 3600
    words_file '[8, 200000]' 6400000 steps.st
    interrupt QUIT 131 trace --in steps.st -o stop/t.st
    codes_file '[8, 200000]' 6400000 long.st
    interrupt TERM 143 codec decode long.st -o stop/o.wav
    rm steps.st long.st
    head -c 20000000 /dev/zero >long
    wav 1 1 24000 16 long >long.wav
    interrupt INT 130 codec encode long.wav -o stop/c.st
    rm long long.wav
}

# ---- models -------------------------------------------------------------------------------------
test_models() {
    mkdir broken
    run 3 reply short.wav -o m.wav -m nowhere
    says "nowhere"
    run 3 reply short.wav -o m.wav -m broken
    says "broken"
    echo '{"dim": "wide"}' >broken/config.json
    run 3 inspect broken
    run 3 codec encode short.wav -o m.st -m nowhere
    MOSHI_MODEL=nowhere run 3 reply short.wav -o m.wav
    says "nowhere"
    MOSHI_MODEL=nowhere run 3 inspect
    MOSHI_MODEL=off run 0 inspect
    MOSHI_MODEL='' run 0 inspect
    MOSHI_DEVICE=toaster run 4 reply short.wav -o m.wav
    says "toaster"
    MOSHI_DEVICE=no run 0 codec encode short.wav -o m.st --quiet
    run 4 reply short.wav -o m.wav --device toaster
    check "a wrong model leaves no output" test ! -e m.wav
    run 0 inspect
    prints "reads 16" "runs            yes" "delays" "codec" "BF16"
    run 0 inspect --tensors
    prints "out_norm.alpha"
    run 0 inspect --sessions 3
    prints "memory          weights " " at 1 session," " at 3 sessions," " at 8 sessions"
    run 2 inspect --sessions 0
    run 0 inspect "$top/models/demo"
    prints "$top/models/demo"
    head -c 5000000 "$top/models/demo/model.safetensors" >broken/model.safetensors
    cp "$top"/models/demo/*.json "$top"/models/demo/tokenizer* broken
    run 3 inspect broken
    run 3 reply short.wav -o m.wav -m broken
    says "model.safetensors"
}

# refuses MODEL WORD...: inspect refuses it, in words and as JSON, and reply for the same reason
refuses() {
    model=$1
    shift
    run 3 reply short.wav -o m.wav -m "$model"
    says "$@"
    for as in --tensors --json; do
        run 3 inspect "$model" "$as"
        for word in "$@"; do
            check "$last: does not say '$word'" grep -qF -e "$word" err
        done
    done
    prints '"runs": false' '"reason": "' "$@"
}

test_damaged_models() {
    mkdir sick
    refuses sick "it is empty"
    cp "$top"/models/demo/*.json "$top"/models/demo/*.safetensors "$top"/models/demo/*.model sick
    run 0 inspect sick
    prints "health          no NaN, no zeros, nothing odd" "Mimi's encoder "
    # The codec with its data zeroed behind the table of tensors.
    codec=sick/tokenizer-mimi-demo.safetensors
    size=$(wc -c <$codec)
    head -c 16384 $codec >zeroed
    head -c $((size - 16384)) /dev/zero >>zeroed
    mv zeroed $codec
    refuses sick "tokenizer-mimi-demo.safetensors: " "zeros"
    prints "Mimi's encoder" "helicopter"
    printf '<!DOCTYPE html><html><head><title>Sign in</title>' >$codec
    refuses sick "tokenizer-mimi-demo.safetensors: this is a web page"
    printf '<!DOCTYPE html><html><head><title>Sign in</title>' >sick/config.json
    refuses sick "config.json: this is a web page"
    mv sick/model.safetensors sick/weights.bin
    cp "$top"/models/demo/*.json "$top"/models/demo/*.safetensors sick
    rm sick/model.safetensors
    refuses sick "model.safetensors: no such file" "'weights.bin' there looks like it"
    refuses "$top/README.md" "this is text ("
    refuses "$top/samples/11_make_me_laugh_user.wav" "a WAV recording"
}

test_golden_models() {
    if [ ! -d "$golden/stt-tiny" ]; then
        skip "models of other kinds: $golden is not there"
        return
    fi
    run 3 reply short.wav -o m.wav -m "$golden/stt-tiny"
    says "cannot reply" "speaks 0"
    run 3 reply short.wav -o m.wav -m "$golden/mimi-tiny"
    run 3 inspect "$golden/tts-tiny"
    run 0 inspect "$golden/mimi-tiny"
    prints "32 codebooks"
    for model in moshi-tiny stt-tiny; do
        file=$golden/$model/golden.bf16w.safetensors
        run 0 trace -m "$golden/$model" --in "$file" -o trace.st --taps "lm.embed *.attn" --quiet
        for name in in_tokens text_token out_tokens out_valid audio_tokens dep_step_index; do
            array "$file" $name >/dev/null || continue
            check "$model: $name" same_array "$file" $name trace.st $name
        done
        for name in text_logits transformer_out hidden dep_logits dep_hidden; do
            array "$file" $name >/dev/null || continue
            check "$model: $name" near_array "$file" $name trace.st $name 2e-4
        done
        check "$model: --taps lm.embed" array trace.st lm.embed >/dev/null
        check "$model: --taps with a pattern" array trace.st lm.layer.00.attn >/dev/null
    done
    # Weights at random: here sampling is seen. A temperature too small for a float is not the default.
    run 0 reply short.wav -m "$golden/moshi-tiny" -o m.wav --tokens greedy.st --greedy --tail 1 --quiet
    run 0 reply short.wav -m "$golden/moshi-tiny" -o m.wav --tokens tiny.st --tail 1 --quiet \
        --text-temp 1e-300 --audio-temp 1e-300
    check "a temperature next to 0 is greedy" cmp -s greedy.st tiny.st
    rm m.wav
    run 2 trace -m "$golden/moshi-tiny" --in "$golden/stt-tiny/golden.bf16w.safetensors" -o w.st
    says "user_codes" "wanted I32 [8, any], found I32 [32, 64]"
    run 2 trace -m "$golden/moshi-tiny" --in "$golden/moshi-tiny/golden.bf16w.safetensors" -o w.st \
        --taps "no.such.*"
    says "no tap of this model matches"
    run 0 codec encode "$golden/mimi-tiny/input.wav" -m "$golden/mimi-tiny" -o codes.st --quiet
    check "streaming codes" same_array "$golden/mimi-tiny/golden.safetensors" stream1.enc.codes \
        codes.st codes
    run 0 codec encode "$golden/mimi-tiny/input.wav" -m "$golden/mimi-tiny" -o codes.st --quiet --whole
    check "codes of the whole file" same_array "$golden/mimi-tiny/golden.safetensors" \
        offline.enc.codes codes.st codes
    run 0 codec decode codes.st -m "$golden/mimi-tiny" -o decoded.wav --whole --float --quiet
    check "length of decoded audio" test "$(wc -c <decoded.wav)" -eq $((75 * 1920 * 4 + 44))
}

# ---- token files --------------------------------------------------------------------------------
test_tensor_files() {
    run 0 codec encode short.wav -o codes.st -n 3 --quiet
    run 0 codec decode codes.st -o a.wav --quiet
    run 0 codec roundtrip short.wav -o b.wav -n 3 --quiet
    check "decode after encode is not the round trip" cmp -s a.wav b.wav
    run 2 codec decode short.wav -o c.wav
    says "short.wav: not a safetensors file"
    run 2 codec decode nothing.st -o c.wav
    says "nothing.st: cannot open"
    run 2 codec decode - -o c.wav
    says "-: standard input is not read"
    head -c $(($(wc -c <codes.st) - 4)) codes.st >cut.st
    run 2 codec decode cut.st -o c.wav
    says "cut.st: array 'codes'" "is it cut off?"
    { cat codes.st && printf 'xyz'; } >more.st
    run 2 codec decode more.st -o c.wav
    says "more.st: wanted a file that ends with its last array, at $(wc -c <codes.st) bytes"
    codes_file '[8, 0]' 0 zero.st
    run 2 codec decode zero.st -o c.wav
    says "zero.st: array 'codes': wanted [codebooks, frames], both at least 1, found [8, 0]"
    codes_file '[8, 3]' 32 shape.st
    run 2 codec decode shape.st -o c.wav
    says "shape.st: array 'codes': wanted 96 bytes for I32 [8, 3], found data_offsets of 32"
    codes_file '[9, 1]' 36 nine.st
    run 2 codec decode nine.st -o c.wav
    says "nine.st: codebooks: wanted 1..8, which" "found 9"
    run 2 codec encode short.wav -o c.st -n 9
    says "-n: codebooks: wanted 1..8, which" "found 9"
    run 2 codec roundtrip short.wav -o c.wav -n 64
    says "-n: codebooks: wanted 1..8, which" "found 64"
    run 2 trace --in codes.st -o c.st
    says "codes.st: wanted an array 'user_codes', found codes I32 [3, 13]"
    {
        header='{"\u001b[31m":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}'
        le 8 ${#header} && printf %s "$header" && le 4 0
    } >colour.st
    run 2 codec decode colour.st -o c.wav
    says "found ?[31m I32 [1]"
    {
        header='{"codes":{"dtype":"I32","shape":[1,1],"data_offsets":[0,4]}}'
        le 8 ${#header}
        printf %s "$header"
        le 4 70000
    } >range.st
    run 2 codec decode range.st -o c.wav
    says "range.st: codes[0][0]: wanted 0..255, found 70000"
    { le 8 4611686018427387904 && echo '{}'; } >long.st
    run 2 codec decode long.st -o c.wav
    says "long.st: not a safetensors file"
    check "bad codes leave no output" test ! -e c.wav
}

# ---- results ------------------------------------------------------------------------------------
test_results() {
    for name in 1 2 1.again; do
        run 0 reply short.wav -o seed.wav --seed ${name%.*} --tail 3 --quiet --tokens seed$name.st \
            --text-temp 1.5 --audio-temp 1.5
    done
    check "the same seed gives the same tokens" cmp -s seed1.st seed1.again.st
    check "another seed gives other tokens" test "$(cksum <seed1.st)" != "$(cksum <seed2.st)"
    run 0 reply short.wav -o g1.wav --greedy --tail 1 --quiet --threads 1
    run 0 reply short.wav -o g2.wav --greedy --tail 1 --quiet --threads 2
    check "greedy is deterministic, whatever the threads" cmp -s g1.wav g2.wav
    run 0 reply short.wav -o g6.wav --greedy --tail 1 --quiet --threads 1 --codec-threads 2
    check "an encoder that hears ahead changes nothing" cmp -s g1.wav g6.wav
    run 2 reply short.wav -o g7.wav --codec-threads -1
    run 0 reply short.wav -o g3.wav --greedy --tail 1 --quiet --float
    check "--float: four bytes per sample" \
        test $((($(wc -c <g3.wav) - 44) / 2)) -eq $(($(wc -c <g1.wav) - 44))
    run 0 reply short.wav --output=g4.wav --greedy --tail=1 --quiet --
    check "--name=value" cmp -s g1.wav g4.wav
    cp short.wav ./-dash.wav
    run 0 reply -o g5.wav --greedy --tail 1 --quiet -- -dash.wav
    check "-- ends options" cmp -s g1.wav g5.wav
}

test_words() {
    question=$samples/00_what_is_three_plus_seven_user.wav
    run 0 reply "$question" -o words.wav --greedy --tail 0.96 --tokens words.st
    check "words" test "$(cat out)" = "three plus seven is ten"
    check "summary" grep -q "73 frames, 5.84 s of audio" err
    run 0 reply "$question" -o words.wav --greedy --tail 0.96 --times --quiet
    check "--times: one line per word" test "$(wc -l <out)" -eq 5
    prints "  three"
    run 0 reply "$question" -o words.wav --greedy --tail 0.96 --json --quiet --first-frame server \
        --tokens server.st
    prints '"text": "three plus seven is ten"' '"word": "seven"' '"start_s"' '"stop_s"' '"frame"' \
        '"frames": 72' '"sample_rate": 24000' '"greedy": true' '"real_time_factor"' \
        '"output": "words.wav"' '"timings"' '"model"'
    if command -v python3 >/dev/null 2>&1; then
        check "JSON of reply" sh -c 'python3 -m json.tool <out >/dev/null'
        run 0 inspect --json --tensors
        check "JSON of inspect" sh -c 'python3 -m json.tool <out >/dev/null'
    else
        skip "JSON validity: no python3"
    fi
    for kv in f32 bf16 q8_0; do
        run 0 reply "$question" -o words.wav --greedy --tail 0.96 --json --quiet --kv $kv
        prints '"text": "three plus seven is ten"' "\"kv\": \"$kv\""
        state_bytes=$(sed -n 's/.*"state_bytes": \([0-9]*\).*/\1/p' out)
        # 6 layers of 4 heads of 64, 100 frames: keys and values
        saved=$((6 * 4 * 100 * 2 * $(case $kv in f32) echo 0 ;; bf16) echo 128 ;; *) echo 188 ;; esac)))
        [ $kv != f32 ] || f32_bytes=$state_bytes
        check "--kv $kv: memory" test $((f32_bytes - state_bytes)) -eq "$saved"
    done
    run 0 trace --in words.st -o kv.st --kv q8_0 --quiet
    run 0 trace --in words.st -o f32.st --exact --kv f32 --quiet
    check "trace --kv: logits" near_array kv.st text_logits f32.st text_logits 0.5
    check "trace --kv: rounded" sh -c '! cmp -s kv.st f32.st'
    # What was saved is what trace takes: forced to say the same, the model finds it most likely.
    for name in words server; do
        run 0 trace --in $name.st -o $name.trace.st --quiet
        for what in text_token audio_tokens; do
            check "$name: $what of reply and trace" same_array $name.st $what $name.trace.st $what
        done
        array $name.trace.st out_tokens | tail -c "$(array $name.st out_tokens | wc -c)" >two.bin
        array $name.st out_tokens >one.bin
        check "$name: out_tokens of reply and trace" cmp -s one.bin two.bin
        array $name.trace.st text_logits >one.bin
        array $name.st text_token >two.bin
        od -An -v -tf4 -w1024 one.bin | awk '{ best = 1
            for (i = 2; i <= NF; i++) if ($i + 0 > $best + 0) best = i
            print best - 1 }' >one.txt
        od -An -v -td4 -w4 two.bin | tr -d ' ' >two.txt
        check "$name: the saved words are the most likely" cmp -s one.txt two.txt
    done
    if [ ! -d "$demo_golden" ]; then
        skip "tokens of the demo model: $demo_golden is not there"
        return
    fi
    name=$demo_golden/00_what_is_three_plus_seven_user
    for pair in words:inference server:server; do
        for what in in_codes out_tokens; do
            check "$what as recorded (${pair#*:})" \
                same_array "$name.${pair#*:}.safetensors" $what "${pair%:*}.st" $what
        done
    done
}

test_help
test_usage
test_bad_input
test_odd_input
test_output
test_formats
test_own_files
test_live
test_disk_full
test_interrupt
test_models
test_damaged_models
test_golden_models
test_tensor_files
test_results
test_words
test_pipes
echo "test_cli: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
