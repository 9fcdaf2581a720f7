#!/bin/sh
# cost.sh [N] - what each number format costs, measured on the demo model: a table in Markdown.
#
# `make cost` runs it with B, the build directory; N (make cost COST_RECORDINGS=N) takes the first N
# of the 60 recordings. Every format is led along the conversations that the model in its own
# numbers, computed exactly, has with these recordings: divergence of the logits (mean of KL, in
# nats) and tokens that a greedy model would have chosen alike. Then it answers the recordings itself
# (`moshi reply`), and the words that are right are counted and what a recogniser understands (see
# eval_demo.py). Takes ten to twenty minutes; says what it is doing on the standard error.
set -eu
cd "$(dirname "$0")/.."
recordings=${MOSHI_GOLDEN:-../shared/golden}/../demo-model/testwavs
program=$B/moshi
if [ ! -f "$recordings/list.tsv" ]; then
    echo "SKIP no recordings in $recordings" >&2
    exit 0
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
python=python3
/usr/bin/python3 -c 'import pocketsphinx' 2>/dev/null && python=/usr/bin/python3
tab=$(printf '\t')
head -n $((${1:-60} + 1)) "$recordings/list.tsv" >"$work/list.tsv"
files=$(sed 1d "$work/list.tsv" | cut -f 1 | sed "s|^|$recordings/|" | tr '\n' ' ')
count=$(sed 1d "$work/list.tsv" | wc -l | tr -d ' ')

# rows: what it is called, model, cache, bytes of everything: language model, codec, tokenizer
: >"$work/rows"
row() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$work/rows"; }
demo_bytes=$(cat models/demo/*.safetensors models/demo/*.model models/demo/*.json | wc -c)
row "bf16 (as it is)" models/demo f32 "$demo_bytes"
for type in f16 q8_0 q6_K q4_K q4_0; do
    echo "converting to $type" >&2
    "$program" convert models/demo "$work/$type.gguf" --type $type --quiet >/dev/null
    bytes=$(wc -c <"$work/$type.gguf")
    row "$type" "$work/$type.gguf" f32 "$bytes"
done
for packing in mlx8 mlx4 int8; do
    mkdir "$work/$packing"
    cp models/demo/*.json models/demo/*.model models/demo/tokenizer-mimi* "$work/$packing"
    "$B/tests/bench/pack_model" models/demo/model.safetensors "$work/$packing/model.safetensors" $packing
    bytes=$(cat "$work/$packing"/* | wc -c)
    case $packing in
    mlx8) name="MLX 8 bits, groups of 64" ;;
    mlx4) name="MLX 4 bits, groups of 32" ;;
    *) name="int8 rows (bitsandbytes)" ;;
    esac
    row "$name" "$work/$packing" f32 "$bytes"
done
row "bf16, cache bf16" models/demo bf16 "$demo_bytes"
row "bf16, cache q8_0" models/demo q8_0 "$demo_bytes"

set --
while IFS=$tab read -r _ model kv _; do set -- "$@" "$model" "$kv"; done <"$work/rows"
"$B/tests/bench/bench_cost" models/demo "$files" "$@" >"$work/marks"

# Words right of one row, and what was understood, as "RIGHT<tab>UNDERSTOOD".
answer() { # answer MODEL KV
    rm -rf "$work/out"
    mkdir "$work/out"
    right=0
    while IFS=$tab read -r file _ expected _; do
        [ "$file" = file ] && continue
        text=$("$program" reply "$recordings/$file" -o "$work/out/${file%.flac}.wav" -m "$1" --kv "$2" \
            --greedy --quiet </dev/null)
        [ "$text" != "$expected" ] || right=$((right + 1))
    done <"$work/list.tsv"
    understood=$("$python" tests/eval_demo.py "$work/list.tsv" "$work/out" 2>/dev/null) || understood=SKIP
    printf '%s\t%s\n' "$right" "$understood"
}

echo "| numbers | file, MB | weights in memory, MB | state, KB | KL text | KL audio | text alike, % | audio alike, % | words right of $count | speech understood |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
while IFS=$tab read -r name model kv bytes; do
    echo "answering: $name" >&2
    answer "$model" "$kv" >"$work/answered"
    line=$(head -n 1 "$work/marks")
    sed 1d "$work/marks" >"$work/rest" && mv "$work/rest" "$work/marks"
    printf '%s\t%s\t%s\t%s\n' "$name" "$(awk "BEGIN { printf \"%.1f\", $bytes / 1e6 }")" "$line" \
        "$(cat "$work/answered")" | sed "s/$tab/ | /g; s/^/| /; s/\$/ |/"
done <"$work/rows"
