#!/bin/sh
# test_convert_cli.sh PROGRAM - `moshi convert` as a command: a model in one file answers as it did,
# models are found among the downloads, and what ends early leaves nothing.
set -u
case ${1:?usage: tests/test_convert_cli.sh path/to/moshi} in
/*) moshi=$1 ;;
*) moshi=$PWD/$1 ;;
esac
cd "$(dirname "$0")/.." || exit 1
demo=$PWD/models/demo
recording=$PWD/samples/11_make_me_laugh_user.wav
unset MOSHI_MODEL MOSHI_DEVICE
passed=0 failed=0

dir=$(mktemp -d "${TMPDIR:-/tmp}/moshi-convert-XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1

check() { # check MESSAGE COMMAND...: the command succeeds
    message=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $message" >&2
        sed 's/^/    stderr: /' err | head -n 5 >&2
    fi
}
run() { # run CODE ARGUMENTS...: the program ends with that exit code
    want=$1
    shift
    "$moshi" "$@" >out 2>err </dev/null
    got=$?
    check "moshi $*: exit code $got, wanted $want" [ "$got" = "$want" ]
}
says() { check "does not say '$1'" grep -qF -e "$1" err; }

# The demo model is bfloat16: in these types it keeps every bit.
run 0 reply "$recording" -o before.wav -m "$demo" --greedy --quiet
for type in f32 bf16; do
    mkdir "$type"
    run 0 convert "$demo" "$type/whole.gguf" --type "$type" --quiet
    run 0 reply "$recording" -o after.wav -m "$type/whole.gguf" --greedy --quiet
    check "$type: one file answers otherwise" cmp -s before.wav after.wav
done

# A download as other tools leave it.
commit=0123456789012345678901234567890123456789
mkdir -p hub/models--org--name/refs "hub/models--org--name/snapshots/$commit"
printf %s "$commit" >hub/models--org--name/refs/main
cp "$demo"/*.* "hub/models--org--name/snapshots/$commit"
HF_HUB_CACHE=$dir/hub run 0 convert org/name q.gguf -t q8_0 --verify
check "no errors are listed" grep -q '^BF16  Q8_0  [0-9.]*e-03  transformer' out
HF_HUB_CACHE=$dir/hub run 3 convert org/other r.gguf -t q8_0
says "moshi pull org/other"

run 2 convert "$demo" r.gguf -t q8_0 --keep 'text_liner*=f16'
says "text_linear.weight"
run 2 convert "$demo" r.safetensors -t q4_0
says "q4_0 cannot be stored"
(
    ulimit -f 2000 # 1 MB, or 2 where the unit is larger
    "$moshi" convert "$demo" r.gguf -t q8_0 >out 2>err
)
code=$?
check "a file that cannot grow: exit code $code, wanted 2" [ "$code" = 2 ]
says "cannot write"
check "something was left behind" [ "$(echo r.*)" = "r.*" ]

echo "test_convert_cli: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
