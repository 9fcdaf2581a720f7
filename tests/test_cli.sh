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

# ---- help and version ---------------------------------------------------------------------------
test_help() {
    run 0 --version
    prints "moshi "
    run 0 --help
    prints "Usage:" "Example:" "reply" "codec encode" "trace" "inspect" "pull" "Exit codes"
    run 0 help
    prints "Usage:"
    for verb in reply "codec encode" "codec decode" "codec roundtrip" trace inspect pull; do
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
    run 2 reply short.wav -o o.wav --first-frame sever
    says "wanted file|server, found 'sever'"
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
    says "rate0.wav"
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
    for file in u8 three float one cut; do
        run 0 reply $file.wav -o $file.out.wav --tail 0.5 --greedy --quiet
        check "$file.wav: --quiet is not quiet" test ! -s err
        check "$file.wav: no output" test -s $file.out.wav
    done
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
    head -c $(($(wc -c <codes.st) - 4)) codes.st >cut.st
    run 2 codec decode cut.st -o c.wav
    says "cut.st: array 'codes'"
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
    for seed in 1 2 1; do
        run 0 reply short.wav -o "seed.wav" --seed $seed --tail 3 --quiet --tokens seed.st \
            --text-temp 1.5 --audio-temp 1.5
        mv seed.wav "seed$passed.wav"
        mv seed.st "seed$seed.${first:-a}.st"
        first=b
    done
    check "the same seed gives the same tokens" cmp -s seed1.a.st seed1.b.st
    check "another seed gives other tokens" sh -c '! cmp -s seed1.a.st seed2.b.st'
    run 0 reply short.wav -o g1.wav --greedy --tail 1 --quiet --threads 1
    run 0 reply short.wav -o g2.wav --greedy --tail 1 --quiet --threads 2
    check "greedy is deterministic, whatever the threads" cmp -s g1.wav g2.wav
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
test_disk_full
test_interrupt
test_models
test_golden_models
test_tensor_files
test_results
test_words
echo "test_cli: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
