#!/bin/sh
# run.sh [CODEC_SECONDS [LM_SECONDS]] - every step, from nothing to a model directory and its scores.
#
# About an hour and a quarter on two cores with AMX. Everything is made in $WORK (default
# build/train); a training that was stopped goes on where it was.
set -eu
cd "$(dirname "$0")/../.."
here=tools/train
python=${PYTHON:-/usr/bin/python3} # Debian's, which has Debian's python3-torch
export WORK="${WORK:-build/train}" PYTHONDONTWRITEBYTECODE=1
# Giving memory back to the system and taking it again costs a third of the time.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=16000000000
export MALLOC_TOP_PAD_=500000000 OMP_NUM_THREADS=1

step() { # step PROGRAM ARGUMENTS...
    program=$1
    shift
    "$python" "$here/$program" "$@"
}

# Two processes, RANK 0 and 1.
pair() { # pair PROGRAM ARGUMENTS BEFORE THE RANK -- ARGUMENTS AFTER IT
    program=$1 before=
    shift
    while [ "$1" != -- ]; do
        before="$before $1"
        shift
    done
    shift
    # shellcheck disable=SC2086 # words
    step "$program" $before 1 "$@" &
    other=$!
    # shellcheck disable=SC2086
    step "$program" $before 0 "$@"
    wait "$other"
}

step check.py .
step make_clips.py
step make_voices.py
step make_tokenizer.py
pair train_codec.py -- 2 "${1:-2160}" 1e9
pair encode_clips.py users -- 2
pair encode_clips.py users2 -- 2
pair train_lm.py -- 2 "${2:-2220}" 1e9
step export.py
step eval_codec.py 60
for first in 0 100 200; do step eval_replies.py 100 "$first"; done
step eval_interrupt.py
step eval_conversation.py
echo "the model is in $WORK/out"
