#!/bin/sh
# test_check.sh PROGRAM - the audio test mode: the two blocks of commands that a report of garbled
# speech gave for telling a GPU's fault from the code's, run to the letter; records; what is skipped,
# what is left alone; faults on purpose; interruption.
set -u
case ${1:?usage: tests/test_check.sh path/to/moshi} in
/*) moshi=$1 ;;
*) moshi=$PWD/$1 ;;
esac
cd "$(dirname "$0")/.." || exit 1
top=$PWD
passed=0 failed=0 skipped=0
unset MOSHI_MODEL MOSHI_DEVICE MOSHI_USE_CPU MOSHI_TEST_MODE

dir=$(mktemp -d "${TMPDIR:-/tmp}/moshi-check-XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
HOME=$dir
export HOME
mkdir -p "$dir/.local/bin" "$dir/here"
ln -s "$moshi" "$dir/.local/bin/moshi"
cd "$dir/here" || exit 1
experiments=tmp/experiments

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
prints() { for text in "$@"; do check "does not print '$text'" grep -qF -e "$text" "$dir/out"; done; }
says() { for text in "$@"; do check "does not say '$text'" grep -qF -e "$text" "$dir/err"; done; }
runs() { find "$experiments" -mindepth 1 -maxdepth 1 -type d ! -name '.*' | wc -l | tr -d ' '; }
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $1"
}

# ---- the two blocks, as they were written --------------------------------------------------------
# Clear old results
rm -rf ./tmp/experiments/ && rm -f ./tmp/moshi-response.wav

# Run with Metal (GPU)
MOSHI_TEST_MODE=1 ~/.local/bin/moshi --dev >"$dir/out" 2>"$dir/err"
check "the first block passes" test $? -eq 0
prints "three plus seven is ten" "nine times nine is eighty one" "5 runs: 5 pass" \
    "the instruments tell speech from broken speech" "scenario" "conclusion" "next  "

# Listen to audio
skip "afplay ./tmp/moshi-response.wav: nobody listens"

# Analyze waveform
run 0 ~/.local/bin/moshi analyze ./tmp/moshi-response.wav

# Save for comparison
cp ./tmp/moshi-response.wav ./tmp/moshi-metal.wav
check "the answer was saved" test -s ./tmp/moshi-metal.wav

# Clear old results
rm -rf ./tmp/experiments/ && rm -f ./tmp/moshi-response.wav

# Run with CPU (forced)
MOSHI_USE_CPU=1 MOSHI_TEST_MODE=1 ~/.local/bin/moshi --dev >"$dir/out" 2>"$dir/err"
check "the second block passes" test $? -eq 0
prints "cpu-stored-config_1_ultra_high_quality-299792458" "5 runs: 5 pass" "scenario B" "is ruled out"
cp "$dir/out" "$dir/conclusion"

# Analyze waveform
run 0 ~/.local/bin/moshi analyze ./tmp/moshi-response.wav

# Save for comparison
cp ./tmp/moshi-response.wav ./tmp/moshi-cpu.wav

# Processors that play graphics cards are not taken for devices.
devices=$("$moshi" check --device no-such 2>&1 | sed 's/.*wanted //; s/, or all//; s/, vulkan:[0-9]* (a[^)]*)//g')
if [ "$devices" = cpu ]; then
    cp "$dir/conclusion" "$dir/out"
    prints "There is one device here: cpu" "scenario B" "moshi compare"
    check "one device, two answers" cmp -s ./tmp/moshi-metal.wav ./tmp/moshi-cpu.wav
    skip "there is no GPU: both blocks ran on the CPU"
fi

# ---- records ------------------------------------------------------------------------------------
check "five runs, five directories" test "$(runs)" -eq 5
record=$(ls $experiments/*config_2*/record.json)
for field in timestamp config name description resampler_sinc_len resampler_f_cutoff \
    resampler_interpolation resampler_oversampling resampler_window transcription word_count \
    intelligible audio_path run_id seed device driver build program_sha256 sha256 config_sha256 \
    active kernel_sha256 measured snr_db encode_ms temporal_ms depth_ms decode_ms resample_ms \
    real_time_factor text scores controls verdict; do
    check "the record has no $field" grep -q "\"$field\":" "$record"
done
check "active settings" grep -q '"resampler_interpolation": "Cubic"' "$record"
heard=$(dirname "$record")/heard.wav
if command -v sha256sum >/dev/null; then
    check "the recorded hash is the file's" grep -q "$(sha256sum "$heard" | cut -d' ' -f1)" "$record"
fi
kernels=$(cat $experiments/*/record.json | grep '"kernel_sha256": "[0-9a-f]' | sort -u | wc -l)
check "other settings, other weights: $kernels of 3" test "$kernels" -eq 3
sounds=$(cat $experiments/*/record.json | grep '"output_pcm_sha256"' | sort -u | wc -l)
check "other settings, other sound: $sounds of 5" test "$sounds" -eq 5

# ---- what is skipped, done again, left alone -----------------------------------------------------
echo '{"timestamp": "20251109_180800", "config": {"name": "config_1_ultra_high_quality"}}' \
    >$experiments/experiment_20251109_180800.json
mkdir $experiments/mine && echo mine >$experiments/mine/record.json
rm tmp/moshi-response.wav
cp "$record" "$dir/before"
printf 'x' >>"$(ls $experiments/*config_3*/heard.wav)"
run 0 "$moshi" check --resampler 2,3
prints "skipped: it was done" "with the same inputs" "--fresh" "2 runs: 2 pass"
says "heard.wav is missing or was changed: it is done again"
check "a skipped run is left as it is" cmp -s "$record" "$dir/before"
check "the latest answer is there again" test -s tmp/moshi-response.wav
run 0 "$moshi" check --resampler 2 --report page.html
if command -v xmllint >/dev/null; then
    run 0 xmllint --nonet --noout page.html
else
    skip "xmllint is not installed: the page is well-formed"
fi
check "the page has the run" grep -q "config_2_cubic.*/heard.wav" page.html
check "the page has its verdict" grep -q '<p class="good">moshi check: pass' page.html
run 2 "$moshi" check --report "$top/models/demo/config.json" -m "$top/models/demo"
says "a file of the model"
run 0 "$moshi" check --resampler 2
prints "1 of them were there already"

short="--input $top/samples/00_what_is_three_plus_seven_user.wav --tail 0.5 --quiet"
# shellcheck disable=SC2086 # words, here and below
run 0 "$moshi" check $short --resampler 1,3 --rate 24000 --fresh
prints "no effect: resampler" # both let the samples through
check "fresh: two runs are left" test "$(find $experiments -name answer.wav | wc -l)" -eq 2
check "fresh leaves old records alone" test -s $experiments/experiment_20251109_180800.json
check "fresh leaves foreign directories alone" test -s $experiments/mine/record.json
# shellcheck disable=SC2086
run 0 "$moshi" check $short --resampler 1,3 --rate 24000 --json
prints '"verdict": "pass"' '"skipped": true' '"no_effect"'

# ---- the environment ------------------------------------------------------------------------------
for value in 0 no off ''; do
    MOSHI_TEST_MODE=$value run 2 "$moshi" --dev
    says "MOSHI_TEST_MODE=1" "moshi check"
done
MOSHI_USE_CPU=1 run 2 "$moshi" check --device gpu
says "MOSHI_USE_CPU" "no effect"
MOSHI_USE_CPU=0 run 4 "$moshi" check --device gpu
run 2 "$moshi" check --resampler 6
run 2 "$moshi" check --seed 1,x
run 2 "$moshi" check --type q8
run 2 "$moshi" check --input missing.wav
run 3 "$moshi" check -m missing

# ---- faults on purpose ----------------------------------------------------------------------------
# The delays of another model of the family: text and codes stay sane, the voice does not.
mkdir late && ln -s "$top"/models/demo/*.safetensors "$top"/models/demo/*.model late/
cp "$top/models/demo/mimi_config.json" late/
sed '/"delays"/,/\]/s/1/2/' "$top/models/demo/config.json" >late/config.json
# shellcheck disable=SC2086
run 1 "$moshi" check $short --resampler none -m late
prints "fail, score 0" "acoustic codebooks one frame early" "scenario A is ruled out"

# Devices that crash cost their own runs, those that compute wrong are found by theirs.
faulty=$(dirname "$moshi")/tests/moshi-faulty
MOSHI_FAULTY=abort,nan
export MOSHI_FAULTY
# shellcheck disable=SC2086
run 1 "$faulty" check $short --device all --resampler none
says "device 'faulty:abort' does not work: ended by SIGABRT at: open" "its runs are left out" \
    "device 'faulty:nan': wrong answers from: "
prints "device   faulty:nan" "2 runs: " "0 % of its codes come back" "scenario    A" \
    "moshi compare cpu DEVICE"
# shellcheck disable=SC2086
run 4 "$faulty" check $short --device faulty:abort
says "device 'faulty:abort' does not work: ended by SIGABRT at: open"
unset MOSHI_FAULTY

# Where the input has no speech, nothing can be said of an answer to it.
head -c 96000 /dev/zero >silence.raw
{
    printf 'RIFF\044\167\001\000WAVEfmt \020\000\000\000\001\000\001\000\300\135\000\000\200\273\000\000'
    printf '\002\000\020\000data\000\167\001\000'
    cat silence.raw
} >silence.wav
run 1 "$moshi" check --input silence.wav --resampler none --quiet
prints "invalid" "too little speech" "these runs prove nothing"

# ---- interruption -----------------------------------------------------------------------------------
rm -rf $experiments
# shellcheck disable=SC2086
"$moshi" check $short --seed 1,2,3,4,5,6,7,8 >"$dir/out" 2>"$dir/err" </dev/null &
pid=$!
waited=0
while [ "$(find $experiments -name answer.wav 2>/dev/null | wc -l)" -lt 2 ] && [ $waited -lt 600 ]; do
    sleep 0.1
    waited=$((waited + 1))
done
kill -INT $pid
wait $pid
check "interrupted: exit code $?" test $? -eq 130
says "interrupted:" "are done and whole"
left=$(find $experiments -name '.moshi-part-*')
check "left behind: $left" test -z "$left"
for run in "$experiments"/cpu-*; do
    check "$run is whole" test -s "$run/record.json" -a -s "$run/heard.wav" -a -s "$run/answer.wav"
done

echo "test_check: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
