#!/bin/sh
# test_doctor.sh PROGRAM - `moshi doctor`, crash reports and the choice of devices. The program
# moshi-faulty beside the tests has devices that are wrong on purpose (tests/faulty_devices.c).
set -u
case ${1:?usage: tests/test_doctor.sh path/to/moshi} in
/*) moshi=$1 ;;
*) moshi=$PWD/$1 ;;
esac
faulty=$(dirname "$moshi")/tests/moshi-faulty
cd "$(dirname "$0")/.." || exit 1
sample=$PWD/samples/11_make_me_laugh_user.wav
long=$PWD/samples/conversation_user.flac
unset MOSHI_MODEL MOSHI_DEVICE MOSHI_USE_CPU MOSHI_FAULTY
passed=0 failed=0 skipped=0
# Longer than the longest silence of a healthy device on a busy machine.
deadline=8
[ -z "${SAN:-}" ] || deadline=90

dir=$(mktemp -d "${TMPDIR:-/tmp}/moshi-doctor-XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1
HOME=$dir/erika
XDG_STATE_HOME=$HOME/state
reports=$XDG_STATE_HOME/moshi
export HOME XDG_STATE_HOME
mkdir -p "$HOME"

ok() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAIL $*" >&2
    sed 's/^/    stderr: /' err | head -n 5 >&2
}
check() { # check MESSAGE COMMAND...
    message=$1
    shift
    if "$@"; then ok; else fail "$message"; fi
}
# run CODE PROGRAM ARGUMENTS...: ends with that exit code; output in out and err
run() {
    want=$1
    shift
    "$@" >out 2>err </dev/null
    got=$?
    last="$(basename "$1") $2 (${MOSHI_FAULTY:-all})"
    if [ "$got" = "$want" ]; then ok; else fail "$last: exit code $got, wanted $want"; fi
}
prints() { # standard output holds each of these texts
    for text in "$@"; do
        if grep -qF -e "$text" out; then ok; else fail "$last: does not print '$text'"; fi
    done
}
prints_not() {
    for text in "$@"; do
        if grep -qF -e "$text" out; then fail "$last: prints '$text'"; else ok; fi
    done
}
says() { # standard error holds each of these texts
    for text in "$@"; do
        if grep -qF -e "$text" err; then ok; else fail "$last: does not say '$text'"; fi
    done
}

# ---- the page --------------------------------------------------------------------------------
run 0 "$moshi" doctor
prints "device cpu: works" "answers    all right" "x real time" "model the demo model inside the program: sound" \
    "build        moshi 0." "processor" "memory" "libraries    jansson" "1 of 1 devices work"
prints_not "erika" "$dir"
run 0 "$moshi" doctor --json --threads 1
prints '"verdict": "works"' '"read_bytes_s": ' '"preset": "moshi-7b"' '"real_time": ' '"encode_ms": ' '"name": "ELU"' '"threads": 1' '"runs": true'
prints_not '"problem"'
run 4 "$moshi" doctor --device toaster
says "device 'toaster' is not available"
run 2 "$moshi" doctor --deadline 0

# A model that does not run: the devices are examined all the same, and its path shows no name.
mkdir -p "$HOME/model"
echo '{' >"$HOME/model/config.json"
run 1 "$moshi" doctor -m "$HOME/model"
prints "device cpu: works" "model ~/model: does not run" "config.json"
prints_not "erika"

# A child finds a model under any name that a directory can have.
odd=$HOME/$(printf 'm\344\303\244 "x"')
mkdir "$odd" && cp "${sample%/samples/*}"/models/demo/* "$odd"
run 0 "$moshi" doctor --device cpu -m "$odd"
prints "device cpu: works" "x real time"
check "a hand does not start what children do" test "$("$moshi" --probe devices 2>&1 </dev/null)" = \
    "moshi: unknown option '--probe'; the verb comes first: see moshi --help"

# One that runs and has something wrong with it: its numbers.
damaged=$HOME/damaged
mkdir "$damaged" && cp "${sample%/samples/*}"/models/demo/* "$damaged"
length=$(od -An -t u8 -N 8 "$damaged/model.safetensors" | tr -d ' ')
printf '\300\177' | dd of="$damaged/model.safetensors" bs=1 seek=$((length + 8)) conv=notrunc 2>/dev/null
run 1 "$moshi" doctor -m "$damaged"
prints "model ~/damaged: " "damaged" "NaN"
prints_not "model ~/damaged: sound"

# ---- wrong answers: each fault is named by the operations it touches --------------------------
MOSHI_FAULTY=elu,gelu,trim,softmax,block,nan
export MOSHI_FAULTY
run 1 "$faulty" doctor
prints "device faulty:elu: wrong answers" "why        wrong answers from: ELU" \
    "why        wrong answers from: GELU" \
    "why        wrong answers from: transposed convolution, upsampling" \
    "why        wrong answers from: attention (softmax)" \
    "linear f16, linear bf16" "WRONG      linear f32: 7 of 8 cases" "is nan instead of" \
    "device cpu: works" "1 of 7 devices work"
run 4 "$faulty" bench --device faulty:elu --frames 1 # devices are tried without a model, too
says "device 'faulty:elu' does not work: wrong answers"

# ---- devices that end the process, hang, refuse: the program goes on ---------------------------
MOSHI_FAULTY=refuse,no-memory,abort,exception,corrupt,hang
run 1 "$faulty" doctor --deadline $deadline
prints "device faulty:refuse: failed" "wanted driver 2.0, found 1.0 (at: open)" \
    "device faulty:no-memory: failed" "out of memory while loading weights (at: weights 21/" \
    "device faulty:abort: crashed" "ended by SIGABRT at: open" \
    "it said: terminate called after throwing an instance of 'std::runtime_error' what(): no adapter" \
    "device faulty:corrupt: crashed" "ended by SIGSEGV at: weights 21/" "self_attn.out_proj.weight" \
    "device faulty:hang: hung" "hung at: first frame (encode)" \
    "device cpu: works" "1 of 7 devices work"
MOSHI_FAULTY=abort run 4 "$faulty" doctor --device faulty:abort --json
prints '"verdict": "crashed"' '"stage": "open"' '"reason": "ended by SIGABRT at: open'
check "children of doctor leave no crash reports" test ! -d "$reports"
unset MOSHI_FAULTY

# ---- which device a verb computes on -----------------------------------------------------------
# Asked for by name: that one or none.
MOSHI_FAULTY=elu,abort
export MOSHI_FAULTY
run 4 "$faulty" reply "$sample" -o a.wav --device faulty:elu
says "device 'faulty:elu' does not work: wrong answers from: ELU"
check "no answer from a wrong device" test ! -e a.wav
MOSHI_DEVICE=faulty:abort run 4 "$faulty" codec encode "$sample" -o a.st
says "device 'faulty:abort' does not work: ended by SIGABRT at: open"
MOSHI_DEVICE=faulty:abort MOSHI_USE_CPU=1 run 2 "$faulty" codec encode "$sample" -o a.st
says "MOSHI_DEVICE=faulty:abort has no effect: MOSHI_USE_CPU in the environment forces the CPU"
MOSHI_USE_CPU=1 run 2 "$faulty" codec encode "$sample" -o a.st --device faulty:elu
says "--device faulty:elu has no effect"
# Otherwise: the best that works, and a word about the others.
run 0 "$faulty" codec encode "$sample" -o a.st
says "device 'faulty:elu' does not work: wrong answers from: ELU" \
    "device 'faulty:abort' does not work: ended by SIGABRT at: open" "computing on 'cpu'"
run 0 "$moshi" codec encode "$sample" -o b.st --quiet
check "the right device says nothing" test ! -s err
check "the fallback computes the same" cmp -s a.st b.st
MOSHI_USE_CPU=1 run 0 "$faulty" codec encode "$sample" -o a.st --quiet
check "MOSHI_USE_CPU: no other device is tried" test ! -s err
MOSHI_DEVICE=faulty:elu run 0 "$faulty" codec encode "$sample" -o a.st --quiet --device cpu
check "--device wins over MOSHI_DEVICE" test ! -s err
MOSHI_FAULTY=corrupt
run 0 "$faulty" reply "$sample" -o a.wav --device auto --greedy
says "device 'faulty:corrupt' does not work: ended by SIGSEGV at: weights 21/" "computing on 'cpu'"
run 0 "$moshi" reply "$sample" -o b.wav --greedy
check "the answer is that of the CPU" cmp -s a.wav b.wav
# A model that does not open is not blamed on the device.
run 3 "$faulty" reply "$sample" -o a.wav -m "$HOME/model"
says "config.json"

# ---- crash reports -----------------------------------------------------------------------------
count() { find "$reports" -name 'crash-*.txt' 2>/dev/null | wc -l | tr -d ' '; }
# crash COMMAND...: ended by a signal, or by the sanitizer that had the signal before
crash() {
    "$@" >out 2>err </dev/null
    got=$?
    last="$(basename "$1") $2"
    if [ "$got" -gt 128 ] || { [ -n "${SAN:-}" ] && [ "$got" != 0 ]; }; then ok; else fail "$last: did not die, $got"; fi
}
check "no crash so far, no report" test "$(count)" = 0
# It dies in its 11th call; the file's 789 frames go 61 at once.
MOSHI_FAULTY=late MOSHI_FAULTY_CALLS=10
export MOSHI_FAULTY_CALLS
crash "$faulty" codec encode "$long" -o c.st --quiet
says "ended by SIGSEGV at: encode, frame 610 (faulty:late); report: $reports/crash-"
check "a report" test "$(count)" = 1
report=$(echo "$reports"/crash-*.txt)
for line in "signal: SIGSEGV" "verb: codec encode" "stage: encode, frame 610" "device: faulty:late" \
    "driver: faulty 1.0" "model: the demo model inside the program" "build: moshi 0." "started: 20"; do
    check "the report holds '$line'" grep -q "^$line" "$report"
done
check "the report holds a hash of the model" grep -Eq '^model hash: [0-9a-f]{64}$' "$report"
check "the report holds a backtrace" grep -q 'moshi-faulty(' "$report"
check "nobody else may read it" test -n "$(find "$report" -perm 600)"
proven="|faulty:late|the CPU with one thing wrong|faulty 1.0|"
check "what worked is remembered with its driver" grep -qF "$proven" "$reports/devices.txt"
sed 's/faulty 1\.0/faulty 0.9/' "$reports/devices.txt" >other && cp other "$reports/devices.txt"
run 0 "$faulty" codec encode "$long" -o c.st --quiet
says "a run of 'codec encode' was ended by SIGSEGV at: encode, frame 610 on faulty:late (~/state" \
    "not using that device this time" "computing on 'cpu'"
crash "$faulty" codec encode "$long" -o c.st --quiet # once, it said
run 0 "$faulty" codec encode "$long" -o c.st --quiet
run 0 "$faulty" codec encode "$long" -o c.st --quiet
says "faulty:late crashed 2 times; not using it"
crash "$faulty" codec encode "$long" -o c.st --device faulty:late --quiet
check "also where it was named; another driver counts for nothing" grep -qF "$proven" "$reports/devices.txt"
run 0 "$faulty" doctor --device cpu
prints "SIGSEGV of codec encode at: encode, frame 610 on faulty:late; ~/state"
prints_not erika
unset MOSHI_FAULTY

# A signal in any verb, on the CPU: told once at the next start, and never more than five reports.
# die SIGNAL: a conversation that gets it in the middle
die() {
    rm -rf answers
    mkdir answers
    "$moshi" reply "$long" -o answers/a.wav --device cpu --quiet 2>err >out &
    waited=0
    while [ -z "$(find answers -type f)" ] && [ $waited -lt 300 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
    kill "-$1" $!
    wait $!
    check "ended by SIG$1" test $? != 0
}
for _ in 1 2 3; do die ABRT; done
says "ended by SIGABRT at: " "(cpu); report: "
run 0 "$moshi" inspect
says "a run of 'reply' was ended by SIGABRT at: " " on cpu (" "going on as usual"
check "five reports are kept" test "$(count)" = 5
run 0 "$moshi" inspect
check "told once" test ! -s err
# Where nothing can be written, the signal still does what it does.
: >"$dir/no-directory"
XDG_STATE_HOME=$dir/no-directory
die SEGV
says "no report could be written"

echo "test_doctor: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
