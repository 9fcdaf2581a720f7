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
unset MOSHI_MODEL MOSHI_DEVICE MOSHI_USE_CPU MOSHI_FAULTY
passed=0 failed=0 skipped=0
# Longer than the longest silence of a healthy device on a busy machine.
deadline=8
[ -z "${SAN:-}" ] || deadline=90

dir=$(mktemp -d "${TMPDIR:-/tmp}/moshi-doctor-XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1
HOME=$dir/home/erika
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
prints '"verdict": "works"' '"real_time": ' '"encode_ms": ' '"name": "ELU"' '"threads": 1' '"runs": true'
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

echo "test_doctor: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
