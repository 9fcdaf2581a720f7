#!/bin/sh
# catalogue.sh [ROW...] - every known way to garble speech that can be done on purpose, and what the
# instruments say to it: a table in Markdown and its sums. With words, only rows whose name begins
# with one of them.
#
# `make catalogue` runs it with B, the build directory. A row breaks one thing: a recording, a
# configuration, weights, a device. Then it asks one instrument. The fault counts as detected when
# that fails as it should (exit code 1, 3 or 4; a row may ask for words instead), and as named when
# the answer holds the words of the row. Nothing of the table is written here: the last column is
# what was printed. Rows at the end are sound: whatever fails there is a false alarm.
# Exit code 1 when fewer than 95 % were detected or 85 % named, or anything sound failed.
set -u
cd "$(dirname "$0")/.." || exit 1
case $B in /*) ;; *) B=$PWD/$B ;; esac
moshi=$B/moshi faulty=$B/tests/moshi-faulty inject=$B/tests/inject
demo=$PWD/models/demo samples=$PWD/samples
more=${MOSHI_GOLDEN:-../shared/golden}/../demo-model/testwavs
[ -d "$more" ] && more=$(cd "$more" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/moshi-catalogue-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
HOME=$work/person XDG_STATE_HOME=$work/person/state
mkdir -p "$HOME" "$work/run"
export HOME XDG_STATE_HOME
unset MOSHI_MODEL MOSHI_DEVICE MOSHI_USE_CPU MOSHI_FAULTY
tab=$(printf '\t')
only=$*
rows=$work/rows
: >"$rows"

days=$samples/03_tell_me_the_days_of_the_week_user.wav
sum=$samples/00_what_is_three_plus_seven_user.wav
# Several voices: what depends on the voice must not depend on one.
voices="$days $samples/11_make_me_laugh_user.wav"
[ -d "$more" ] && voices="$voices $more/205.flac $more/227.flac"

wanted() { # wanted ROW
    [ -n "$only" ] || return 0
    for word in $only; do case $1 in "$word"*) return 0 ;; esac done
    return 1
}

# The line that says it: what is named, else what was concluded, else the first of all.
gist() { # gist PATTERN
    line=$(grep -m1 -E -e "$1" "$work/answer")
    [ -n "$line" ] || line=$(grep -m1 -E '^(reason|result|conclusion|runs )|why  |(pass|fail|invalid|clean|garbled), score |^moshi: ' "$work/answer")
    [ -n "$line" ] || line=$(head -n 1 "$work/answer")
    printf '%s' "$line" | sed -e "s|$work/[a-z]*/||g; s|$demo/||g; s|$samples/||g; s|$more/||g" \
        -e 's/^moshi: //; s/^ *//; s/  */ /g; s/[|]/\\|/g' | cut -c 1-170
}

note() { # note DETECTED NAMED CASES PATTERN
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$row" "$cause" "$injected" "$asked" "$1" "$2" "$3" \
        "$(gist "$4")" >>"$rows"
    echo "$row $injected: detected $1, named $2 of $3" >&2
}

# begin ROW CAUSE INJECTED ASKED: false when it is not wanted
begin() {
    row=$1 cause=$2 injected=$3 asked=$4
    wanted "$row"
}

# One question: ask PATTERN COMMAND...; `sign` is what shows that it was detected, when that is not
# the exit code
sign=
ask() {
    pattern=$1
    shift
    (cd "$work/run" && exec "$@") >"$work/answer" 2>&1 </dev/null
    code=$?
    detected=0 named=0
    if [ -n "$sign" ]; then
        ! grep -qE -e "$sign" "$work/answer" || detected=1
    else
        case $code in 1 | 3 | 4) detected=1 ;; esac
    fi
    [ $detected = 0 ] || ! grep -qE -e "$pattern" "$work/answer" || named=1
    sign=
    note $detected $named 1 "$pattern"
}

# One broken recording per voice, judged alone, or with the right codes when `codes` says so.
# hear NAME-OF-FINDING VERB WHAT [MORE...]: as inject takes them
codes=
hear() {
    finding=$1 verb=$2 what=$3
    shift 3
    detected=0 named=0 cases=0
    for voice in $voices; do
        "$inject" "$verb" "$what" "$voice" "$work/run/broken.wav" "$@" || exit 1
        if [ -n "$codes" ]; then
            "$moshi" codec encode "$voice" -o "$work/run/right.safetensors" --quiet || exit 1
            "$moshi" analyze "$work/run/broken.wav" --codes "$work/run/right.safetensors" >"$work/last" 2>&1
        else
            "$moshi" analyze "$work/run/broken.wav" >"$work/last" 2>&1
        fi
        code=$?
        cases=$((cases + 1))
        [ $code = 1 ] && detected=$((detected + 1))
        if [ $code = 1 ] && grep -m1 -E '\[[a-z0-9-]+\]' "$work/last" | grep -qE -e "\\[($finding)\\]"; then
            named=$((named + 1))
            cp "$work/last" "$work/answer"
        elif [ $cases = 1 ] || [ $named = 0 ]; then
            cp "$work/last" "$work/answer"
        fi
    done
    codes=
    note $detected $named $cases '\[[a-z0-9-]+\]'
}

# A copy of the demo model, of which files are replaced: model (prints its directory)
model() {
    rm -rf "$work/model"
    mkdir "$work/model"
    ln -s "$demo"/* "$work/model"
}
# config KEY JSON, codec_config KEY JSON, weights WHAT PART [OTHER], codec_weights ...: on that copy
replace() { # replace FILE VERB WHAT...: inject VERB, from the demo's file to the copy's
    file=$1
    shift
    rm -f "$work/model/$file.new"
    "$inject" "$@" || exit 1
    rm -f "$work/model/$file"
    mv "$work/model/$file.new" "$work/model/$file"
}
config() { replace config.json config "$work/model/config.json" "$work/model/config.json.new" "$@"; }
codec_config() { replace mimi_config.json config "$work/model/mimi_config.json" "$work/model/mimi_config.json.new" "$@"; }
weights() {
    what=$1
    shift
    replace model.safetensors weights "$what" "$work/model/model.safetensors" "$work/model/model.safetensors.new" "$@"
}
codec_weights() {
    what=$1
    shift
    replace tokenizer-mimi-demo.safetensors weights "$what" "$work/model/tokenizer-mimi-demo.safetensors" \
        "$work/model/tokenizer-mimi-demo.safetensors.new" "$@"
}
# The file itself, with other bytes.
own() { # own FILE: a copy that may be written to
    cp "$work/model/$1" "$work/model/$1.own"
    mv "$work/model/$1.own" "$work/model/$1"
}

inspect() { ask "$1" "$moshi" inspect "$work/model"; }
check() { ask "$1" "$moshi" check -m "$work/model" --resampler none --fresh --quiet; }
doctor() { ask "$1" "$moshi" doctor -m "$work/model"; }
compare() { ask "$1" "$moshi" compare "$demo" "$work/model" --input "$sum" --frames 30 --quiet; }

. tests/catalogue_rows.sh

# ---- the table ----------------------------------------------------------------------------------
awk -F "$tab" '
    $1 == "sound" { sound += $7; alarms += $5; next }
    {
        if (!n++) print "| | cause | done on purpose | asked | detected | named | it said |\n| --- | --- | --- | --- | --- | --- | --- |"
        printf "| %s | %s | %s | `%s` | %s | %s | %s |\n", $1, $2, $3, $4, mark($5, $7), mark($6, $7), $8
        detected += $5 / $7
        named += $6 / $7
    }
    function mark(k, of) { return of == 1 ? (k ? "yes" : "NO") : k " of " of }
    END {
        if (n) printf "\n%d faults: %.1f %% detected, %.1f %% named. ", n, 100 * detected / n, 100 * named / n
        printf "%d sound recordings, answers, models and devices: %d false alarm%s.\n", sound, alarms, alarms == 1 ? "" : "s"
        exit n && (detected < 0.95 * n || named < 0.85 * n) || alarms > 0
    }' "$rows"
