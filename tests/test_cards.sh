#!/bin/sh
# test_cards.sh MOSHI - a graphics card that is not there, has no driver, is lost, gives no answer or
# has no memory left ends the program with its exit code, and with a message that names the card,
# what was wanted and what was found; no output is left behind. lost_vulkan.c plays such drivers.
set -u
case ${1:?usage: tests/test_cards.sh path/to/moshi} in
/*) moshi=$1 ;;
*) moshi=$PWD/$1 ;;
esac
cd "$(dirname "$0")/.." || exit 1
sample=$PWD/samples/11_make_me_laugh_user.wav
lost=$(dirname "$moshi")/tests/lost
unset MOSHI_MODEL MOSHI_DEVICE MOSHI_USE_CPU
passed=0 failed=0 skipped=0

ok() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAIL $*"
    sed 's/^/    stderr: /' err | head -n 5
}
done_testing() {
    echo "test_cards: $passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $*"
    done_testing
}
# ends CODE DEVICE TEXT...: so does an answer on that device, and says all of it.
ends() {
    want=$1 device=$2
    shift 2
    "$moshi" reply "$sample" -o a.wav --device "$device" --quiet >out 2>err </dev/null
    got=$?
    if [ "$got" = "$want" ]; then ok; else fail "$what: exit code $got, wanted $want"; fi
    for text in "$@"; do
        if grep -qF -e "$text" err; then ok; else fail "$what: does not say '$text'"; fi
    done
    if [ -e a.wav ]; then fail "$what: left an output"; else ok; fi
}

dir=$(mktemp -d "${TMPDIR:-/tmp}/moshi-cards-XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1
# Nobody has tried these cards before: the trial finds it, and a card that fails it is not available.
export XDG_STATE_HOME="$dir/state" XDG_CACHE_HOME="$dir/cache"

"$moshi" doctor --device vulkan:999 >out 2>err </dev/null
grep -q 'vulkan:0' err || skip "there is no vulkan:0"
what="a card that is not there"
ends 4 vulkan:999 "device 'vulkan:999' is not available: wanted " "vulkan:0"
what="no driver"
VK_ICD_FILENAMES=$dir/none.json VK_DRIVER_FILES=$dir/none.json ends 4 vulkan:0 "device 'vulkan:0'"

[ -f "$lost/libvulkan.so.1" ] || skip "no libvulkan to fail on request"
LOST_VULKAN_REAL=$({ ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | awk '$1 == "libvulkan.so.1" { print $NF; exit }')
[ -n "$LOST_VULKAN_REAL" ] || skip "ldconfig does not tell where libvulkan is"
LD_LIBRARY_PATH=$lost${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LOST_VULKAN LOST_VULKAN_REAL LD_LIBRARY_PATH
what="a card that is lost"
LOST_VULKAN=lost:2
ends 4 vulkan:0 "vulkan:0 (" "the driver has lost it"
what="a card that gives no answer"
LOST_VULKAN=silent:2
ends 4 vulkan:0 "vulkan:0 (" "wanted an answer, found none within 120 seconds"
what="a card without memory"
LOST_VULKAN=full:30
ends 4 vulkan:0 "does not work: out of memory" "vulkan:0 (" "wanted " " MB"

# Once a trial has found that the card works, memory is what is missing, not the card.
what="a card that works"
LOST_VULKAN=
{
    printf 'RIFF\244\045\000\000WAVEfmt \020\000\000\000\001\000\001\000\300\135\000\000'
    printf '\200\273\000\000\002\000\020\000data\200\045\000\000'
    head -c 9600 /dev/zero
} >short.wav
sample=$dir/short.wav
if "$moshi" reply short.wav -o b.wav --device vulkan:0 --tail 0 --quiet >out 2>err; then ok; else fail "$what"; fi
what="a program that was stopped in a frame"
LOST_VULKAN=slow:2
if "$moshi" reply short.wav -o c.wav --device vulkan:0 --tail 0 --quiet >out 2>err && cmp b.wav c.wav; then
    ok
else
    fail "$what"
fi
what="a card whose memory others have taken"
LOST_VULKAN=full:30
ends 5 vulkan:0 "out of memory" "vulkan:0 (" "wanted " " MB"
done_testing
