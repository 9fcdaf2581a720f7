#!/bin/sh
# test_compare.sh PROGRAM - compare finds what was changed and nothing else, tells a fault of one
# side from one of the files both share, and takes what an earlier run has recorded.
set -u

program=$1
case $program in
/*) ;;
*) program=$PWD/$program ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
input=$here/../samples/00_what_is_three_plus_seven_user.wav
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
TMPDIR=$work
export TMPDIR
passed=0
failed=0
skipped=0

# expect NAME EXIT-CODE PATTERN COMMAND...: the exit code, and a line of the output
expect() {
    name=$1 code=$2 pattern=$3
    shift 3
    "$@" >"$work/out" 2>"$work/err"
    found=$?
    case_name=$name
    if [ "$found" = "$code" ] && cat "$work/out" "$work/err" | grep -q -- "$pattern"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $name: wanted exit code $code and '$pattern', found $found and:"
        head -n 40 "$work/out" "$work/err"
    fi
}

# prints PATTERN...: so does what the last command printed
prints() {
    for pattern in "$@"; do
        if grep -q -e "$pattern" "$work/out"; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "FAIL $case_name: does not print '$pattern'"
            tail -n 4 "$work/out"
        fi
    done
}

# The answer to three seconds of sound is long enough to be judged.
compare() {
    "$program" compare "$@" --input "$input" --tail 1.5 --frames 12
}

# Enough where the numbers decide.
quick() {
    "$@" --input "$input" --hear 0.24 --tail 0 --frames 3
}

expect 'coarse formats are no faults' 0 '^verdict  C: both are fine' \
    compare cpu,q8_0,kv=q8_0 q4_0+kv=bf16
expect 'delays, second' 1 '^verdict  D: the second one is wrong' quick "$program" compare cpu delay=2

# A device that is wrong on purpose is found, and the operation that is wrong is named.
faulty=$(dirname "$program")/tests/moshi-faulty
wrong() {
    expect "faulty:$1" 1 "first: $2" quick "$faulty" compare cpu "faulty:$1"
}
wrong elu 'ELU of a residual block'
wrong gelu 'activation of the feed-forward part'
wrong trim 'upsampling convolution'
wrong softmax 'attention (scores, softmax, values)'
wrong block 'matrix in_proj'
wrong nan 'convolution'
# Neither does a pause hide them, though what is left of its sums is smaller than their rounding.
wrong faint 'last convolution of Mimi'
# That a processor plays: right, and rounded in another order.
quick "$program" compare cpu vulkan:0 >"$work/card" 2>"$work/err"
if grep -q "'vulkan:0' is not available" "$work/err"; then
    echo "SKIP compare cpu vulkan:0: there is no such device"
    skipped=1
else
    expect 'a card' 0 '^B  vulkan:0 on .*: equals the reference within its number formats' cat "$work/card"
fi
# Of a quantised model too: what its arithmetic rounds does not hide them, nor is it a fault.
"$program" convert "$here/../models/demo" "$work/q4.gguf" --type q4_K --quiet
expect 'rounded inputs are no fault' 1 '^verdict  inconclusive' \
    quick "$program" compare cpu exact -m "$work/q4.gguf"
prints 'cannot be told of '
quantised() {
    expect "faulty:$1 of q4_K" 1 "first: $2" \
        quick "$faulty" compare cpu "faulty:$1" -m "$work/q4.gguf"
}
quantised gelu 'activation of the feed-forward part'
expect 'faulty first' 1 '^verdict  A' quick "$faulty" compare faulty:elu cpu
expect 'faulty twice' 1 '^verdict  B' quick "$faulty" compare faulty:elu faulty:elu

# A device that ends its process or cannot be opened costs exit code 4, not the program.
for kind in abort corrupt; do
    expect "faulty:$kind" 4 "device 'faulty:$kind' does not work: ended by SIG.* at: " \
        quick "$faulty" compare cpu "faulty:$kind"
done
expect 'faulty:no-memory' 5 'no-memory: .*out of memory' \
    quick "$faulty" compare cpu faulty:no-memory

# ---- both wrong in the same way: every number agrees, and it is no speech ------------------------
# model NAME: a copy of the demo model, to be damaged
model() {
    mkdir "$work/$1" && ln -s "$here"/../models/demo/* "$work/$1/" && rm "$work/$1/$2"
}
# swap_halves FILE TENSOR: the safetensors file with the halves of that tensor exchanged
swap_halves() {
    length=$(od -An -t u8 -N 8 "$1" | tr -d ' ')
    place=$(head -c $((length + 8)) "$1" | tail -c "$length" |
        sed 's/.*"'"$2"'": *{[^}]*"data_offsets": *\[\([0-9]*\), *\([0-9]*\)\].*/\1 \2/')
    begin=$((length + 8 + ${place% *})) half=$(((${place#* } - ${place% *}) / 2))
    head -c "$begin" "$1"
    tail -c +$((begin + half + 1)) "$1" | head -c "$half"
    tail -c +$((begin + 1)) "$1" | head -c "$half"
    tail -c +$((begin + 2 * half + 1)) "$1"
}
model late config.json
sed '/"delays"/,/\]/s/1/2/' "$here/../models/demo/config.json" >"$work/late/config.json"
expect 'delays of another model' 1 '^verdict  B: .*' compare cpu cpu+threads=1 -m "$work/late"
prints '^reason .*acoustic codebooks one frame early' '^next .*are 2 and should probably be 1; to prove it:'
# Codebook entries in another order: codec and language model no longer speak of the same sounds.
model mixed tokenizer-mimi-demo.safetensors
swap_halves "$here/../models/demo/tokenizer-mimi-demo.safetensors" \
    'quantizer[.]rvq_first[.]vq[.]layers[.]0[.]_codebook[.]embedding_sum' \
    >"$work/mixed/tokenizer-mimi-demo.safetensors"
expect 'a damaged codec' 1 '^verdict  B: ' compare cpu q8_0 -m "$work/mixed"
expect 'too short to be judged' 1 '^verdict  inconclusive' \
    quick "$program" compare cpu cpu
prints 'cannot be told of cpu: ' '^next .*--hear'

# ---- what another build computed ------------------------------------------------------------------
trace=$work/old.trace
expect 'recorded' 0 'A  q8_0 on cpu' quick "$program" compare q8_0 --record "$trace"
expect 'a trace and its like' 1 '^verdict  inconclusive' quick "$program" compare "$trace" cpu
prints '^A .*old.trace, recorded by moshi 0.1.0.*: q8_0 on cpu' 'cannot be told of '
expect 'another input' 2 'was recorded with another input' \
    "$program" compare "$trace" cpu --input "$input" --hear 0.32 --tail 0 --frames 3
expect 'another model' 2 'was recorded with another model' quick "$program" compare "$trace" cpu -m "$work/late"
expect 'wrong, and recorded' 0 'differs from the reference' \
    quick "$program" compare cpu+delay=2 --record "$work/wrong.trace"
expect 'two traces' 1 '^verdict  D' quick "$program" compare "$trace" "$work/wrong.trace"
head -c 200000 "$trace" >"$work/cut.trace"
expect 'cut off' 2 'is it cut off' quick "$program" compare "$work/cut.trace" cpu
: >"$work/empty.trace"
expect 'never written' 2 'empty.trace: not a safetensors file' quick "$program" compare "$work/empty.trace" cpu
expect 'no such format' 2 "q9: device 'q9' is not available" quick "$program" compare cpu q9
expect 'a word twice' 2 "'kv=f32' is the second word of its kind" quick "$program" compare cpu cpu+kv=bf16+kv=f32
expect 'over a file of the model' 2 'config.json' quick "$program" compare cpu --record "$work/late/config.json" -m "$work/late"

# ---- two recordings ------------------------------------------------------------------------------
samples=$here/../samples
{
    head -c 44 "$input"
    tail -c +45 "$input" | dd conv=swab 2>/dev/null
} >"$work/swapped.wav"
expect 'two recordings' 0 '^verdict  C' "$program" compare "$input" "$samples/11_make_me_laugh_user.wav"
prints 'SNR .* dB' '^A .*clean'
expect 'the same twice' 0 'the same samples' "$program" compare "$input" "$input"
expect 'one is damaged' 1 '^verdict  D' "$program" compare "$input" "$work/swapped.wav"
prints '^reason   .*swapped bytes'
expect 'others' 0 'they do not say the same' "$program" compare "$input" "$samples/11_make_me_laugh_user.wav"
head -c 120000 "$input" >"$work/cut.wav"
expect 'one is cut off' 1 '^verdict  D' "$program" compare "$input" "$work/cut.wav"
prints '^reason   .*its beginning or its end is missing'
expect 'both are damaged' 1 '"verdict": "B"' "$program" compare "$work/swapped.wav" "$work/swapped.wav" --json
prints '"finding": "swapped-bytes"' '"equal": true'
expect 'a recording and a device' 2 'only be compared with another recording' quick "$program" compare cpu "$input"

# ---- interrupted: exit code 130, and nothing is left ---------------------------------------------
"$program" compare cpu q4_0 --record "$work/never.trace" --quiet >"$work/out" 2>"$work/err" &
sleep 1
kill -INT $!
wait $!
expect 'interrupted' 0 '^130$' echo $?
expect 'nothing is written' 0 '^0$' sh -c "find '$work' -name '*never*' | wc -l"

expect 'json' 1 '"verdict": "D"' quick "$program" compare cpu delay=3 --json
expect 'kernels of a processor' 4 "the kernels of this processor are c" quick "$program" compare cpu cpu/nonsense
expect 'no such word' 2 "'no/such': no such file" quick "$program" compare cpu no/such
expect 'no such device' 4 'tpu.*kv=f32|bf16|q8_0' quick "$program" compare cpu tpu
expect 'no such numbers' 2 "wanted kv=f32, kv=bf16 or kv=q8_0, found 'f16'" quick "$program" compare cpu kv=f16
expect 'two of a kind' 2 "'q4_K' is the second word of its kind" quick "$program" compare cpu q8_0,q4_K
expect 'no threads' 2 "wanted a whole number 1..256, found '0'" quick "$program" compare cpu threads=0
expect 'nothing to compare with' 2 'what with what' "$program" compare cpu
expect 'temporary files are gone' 0 '^0$' sh -c "find '$work' -name 'moshi-compare*' | wc -l"

echo "test_compare: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
