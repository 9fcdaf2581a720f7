#!/bin/sh
# test_pull.sh PROGRAM - downloads from a server on the loopback interface in good and bad moods
# (http_server.c has a list), what is in the cache afterwards, and -m ORG/NAME. The program's hidden
# variables MOSHI_PULL_BACKOFF_MS, MOSHI_PULL_STALL_S and MOSHI_PULL_CHUNK_KB make its pauses and
# the parts of large files small enough for a test.
set -u
case ${1:?usage: tests/test_pull.sh path/to/moshi} in
/*) moshi=$1 ;;
*) moshi=$PWD/$1 ;;
esac
server=$(dirname "$moshi")/tests/http_server
cd "$(dirname "$0")/.." || exit 1
top=$PWD
passed=0 failed=0 skipped=0

unset MOSHI_MODEL MOSHI_DEVICE HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_TOKEN HF_TOKEN_PATH HF_HUB_OFFLINE
unset HUGGING_FACE_HUB_TOKEN http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
export MOSHI_PULL_BACKOFF_MS=2 MOSHI_PULL_CHUNK_KB=64

dir=$(mktemp -d "${TMPDIR:-/tmp}/moshi-pull-XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1

ok() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAIL $*" >&2
    [ ! -s err ] || sed 's/^/    stderr: /' err | tail -n 5 >&2
}
check() { # check MESSAGE COMMAND...: the command succeeds
    message=$1
    shift
    if "$@"; then ok; else fail "$message"; fi
}
run() { # run CODE ARGUMENTS...: the program ends with that exit code; its output is in out and err
    want=$1
    shift
    "$moshi" "$@" >out 2>err </dev/null
    got=$?
    last="$mood: moshi $*"
    if [ "$got" = "$want" ]; then ok; else fail "$last: exit code $got, wanted $want"; fi
}
says() { # says TEXT...: standard error holds each of these texts
    for text in "$@"; do
        if grep -qF -e "$text" err; then ok; else fail "$last: does not say '$text'"; fi
    done
}
prints() {
    for text in "$@"; do
        if grep -qF -e "$text" out; then ok; else fail "$last: does not print '$text'"; fi
    done
}

mood=none
run 0 pull --list
prints "kyutai/moshiko-pytorch-bf16" "kyutai/mimi" "nvidia/personaplex-7b-v1" "gated"
if "$moshi" pull a/b 2>&1 </dev/null | grep -q "built without libcurl"; then
    HF_HOME=$dir/none run 7 pull a/b
    says "libcurl4-openssl-dev"
    echo "SKIP downloads: built without libcurl"
    echo "test_pull: $passed passed, $failed failed, $((skipped + 1)) skipped"
    [ "$failed" = 0 ]
    exit
fi

# ---- the server ---------------------------------------------------------------------------------
commit=0123456789abcdef0123456789abcdef01234567
mkdir files
cp "$top/models/demo/config.json" "$top/models/demo/mimi_config.json" files
cp "$top/models/demo/tokenizer_spm_demo.model" files
head -c 9000 "$top/models/demo/tokenizer-mimi-demo.safetensors" >files/tokenizer-mimi-demo.safetensors
head -c 300000 "$top/models/demo/model.safetensors" >files/model.safetensors

start_server() { # start_server DIRECTORY PORTS: ends when descriptor 3 is closed
    "$server" "$1" "$2" log 3>&- <pipe 2>server.err &
}
: >log
mkfifo pipe
start_server files ports
start_server "$top/models/demo" demo_ports
exec 3>pipe
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -s ports ] && [ -s demo_ports ] && break
    sleep 0.2
done
if ! [ -s ports ] || ! [ -s demo_ports ]; then
    fail "the server does not start: $(cat server.err)"
    echo "test_pull: $passed passed, $failed failed, $skipped skipped"
    exit 1
fi
read -r port _ <ports
read -r demo_port _ <demo_ports

number=0
fresh() { # fresh MOOD: an empty cache, and the server in that mood
    number=$((number + 1))
    export HF_HOME="$dir/cache$number"
    feels "$1"
}
feels() { # feels MOOD: another mood, the same cache
    mood=$1
    export HF_ENDPOINT="http://127.0.0.1:$port/$mood"
    repo=$HF_HOME/hub/models--org--small
    snapshot=$repo/snapshots/$commit
    : >log
}
whole() { # every file is there and is what it should be, and nothing else
    for file in files/*; do
        check "$last: $file" cmp -s "$file" "$snapshot/${file##*/}"
    done
    no_rest
    check "$last: refs/main" test "$(cat "$repo/refs/main")" = "$commit"
}
no_rest() { # nothing half-written
    check "$last: something is left" test -z "$(find "$HF_HOME" -name '*incomplete*' -o -name '*.new')"
}
nothing() { # no large file got a name, and no revision leads to the snapshot
    check "$last: model.safetensors has a name" test ! -e "$snapshot/model.safetensors"
    check "$last: refs/main is there" test ! -e "$repo/refs/main"
    check "$last: a blob of 64 digits" \
        test -z "$(find "$repo/blobs" -size +250k ! -name '*.incomplete' 2>/dev/null)"
}
requests() { grep -v -e ' stall ' -e ' limit ' log | grep -c -e "$1"; }

# ---- all is well --------------------------------------------------------------------------------
test_good() {
    fresh ok
    run 0 pull org/small
    whole
    prints "$snapshot"
    check "only the directory on standard output" test "$(wc -l <out)" -eq 1
    check "links are relative" test "$(readlink "$snapshot/config.json" | cut -c 1-12)" = "../../blobs/"
    check "in ranges" test "$(requests 'GET .*model.safetensors range')" -eq 5
    check "nothing that config.json does not name" test "$(find "$snapshot" -type l | wc -l)" -eq 5
    : >log
    run 0 pull org/small
    check "nothing is loaded twice" test "$(requests 'GET .*resolve')" -eq 0
    run 0 pull org/small@$commit config.json
    HF_HUB_OFFLINE=1 run 0 pull org/small
    : >log
    HF_HUB_OFFLINE=1 run 7 pull org/other
    HF_HUB_OFFLINE=1 run 7 pull org/small other.bin
    says "HF_HUB_OFFLINE"
    check "offline is offline" test "$(requests .)" -eq 0
    fresh ok
    run 0 pull org/small@v2 config.json --quiet
    check "one file only" test "$(find "$snapshot" -type l)" = "$snapshot/config.json"
    check "refs/v2" test "$(cat "$repo/refs/v2")" = "$commit"
    check "quiet" test ! -s err
}

test_token() {
    fresh cdn
    HF_TOKEN=secret run 0 pull org/small
    whole
    check "the hub sees the token" test "$(requests '^hub .* token')" -gt 5
    check "contents come from elsewhere" test "$(requests '^storage GET')" -ge 6
    check "nobody else sees the token" test "$(requests '^storage .* token')" -eq 0
    fresh renamed
    HF_TOKEN=secret run 0 pull org/small
    whole
    HF_TOKEN="secret
X: y" run 2 pull org/small
    says "HF_TOKEN"
}

# ---- trouble that passes ------------------------------------------------------------------------
test_passing_trouble() {
    fresh flaky
    run 0 pull org/small
    whole
    says "500" "trying again"
    fresh cut
    run 0 pull org/small
    whole
    fresh norange
    run 0 pull org/small
    whole
    says "in one piece"
    fresh nolength
    run 0 pull org/small
    whole
    fresh sizeonly
    run 0 pull org/small model.safetensors
    check "a server without hashes" cmp -s files/model.safetensors "$snapshot/model.safetensors"
}

# These wait for whole seconds, so they do it while the other tests run.
begin_waiting() {
    for slow in stall limit; do
        HF_HOME=$dir/$slow HF_ENDPOINT=http://127.0.0.1:$port/$slow MOSHI_PULL_STALL_S=1 \
            "$moshi" pull org/small >$slow.out 2>$slow.err </dev/null &
        eval "$slow=$!"
    done
}
end_waiting() {
    for slow in stall limit; do
        eval "wait \$$slow"
        check "$slow: exit code" test $? -eq 0
        check "$slow: whole" cmp -s files/model.safetensors \
            "$dir/$slow/hub/models--org--small/snapshots/$commit/model.safetensors"
    done
    check "a stalled connection is cut" grep -q "trying again" stall.err
    check "429 is said" grep -q "429" limit.err
    check "Retry-After is respected" grep -q "trying again in 1 s" limit.err
}

# ---- cut off, and on again ----------------------------------------------------------------------
died() { # a cache with 100000 of 300000 bytes
    fresh "die$1"
    run 7 pull org/small
    says "are kept, the same command goes on from there"
    nothing
    check "$last: something is kept" test -n "$(find "$repo/blobs" -name '*.incomplete')"
}
# The bytes that the table of an .incomplete file names: it follows the 300000 bytes of data and three
# words (app/partial.c). How many of the server's 100000 arrived depends on which connection was
# closed first: what a lane had received and not yet written goes with it.
kept_bytes() {
    find "$repo/blobs" -name '*.incomplete' -exec od -An -v -t u8 -w8 -j 300024 {} + |
        awk '{ n += $1 } END { print n + 0 }'
}
test_resume() {
    died 1
    kept=$(kept_bytes)
    check "some of it is kept: $kept" test "$kept" -gt 0 -a "$kept" -le 100000
    feels ok
    run 0 pull org/small
    whole
    # Of this server: one that has died may log a connection only now.
    loaded=$(sed -n 's/^[a-z]* GET ok .*model.safetensors range \([0-9]*\)-\([0-9]*\).*/\1 \2/p' log |
        awk '{ n += $2 - $1 + 1 } END { print n + 0 }')
    check "only the rest is loaded: $loaded of 300000 - $kept" \
        test "$loaded" -eq $((300000 - kept))
    died 2
    feels norange
    run 0 pull org/small
    whole
    died 3
    kept=$(find "$repo/blobs" -name '*.incomplete')
    # Chunks are kept from their beginnings on, but which ones were kept depends on which connection
    # got how far.
    for chunk in 0 1 2 3 4; do
        printf 'damage' | dd of="$kept" conv=notrunc bs=1 seek=$((chunk * 65536)) 2>/dev/null
    done
    feels ok
    run 0 pull org/small
    says "damaged: from the beginning"
    whole
}

# ---- trouble that stays -------------------------------------------------------------------------
refused() { # refused MOOD TEXT: exit code 7, that text, and no file
    fresh "$1"
    run 7 pull org/small model.safetensors
    says "$2"
    nothing
}
test_lasting_trouble() {
    refused broken "500"
    refused empty "127.0.0.1"
    refused garbage "wanted JSON"
    refused longlimit "asks to wait 4000 s"
    refused badhash "wrong content: wanted SHA-256"
    no_rest
    refused short "ended early"
    refused lie "model.safetensors"
    refused more "more bytes than"
    refused absurd "cannot be"
    refused wrongrange "asked for the bytes from"
    refused nothing "neither length nor hash"
    refused eviltag "wanted an ETag"
    refused redirectfile "only http and https"
    refused loop "redirected more than"
    export MOSHI_PULL_CHUNK_KB=1024
    refused short "announced 300000 bytes and now sends 299990"
    refused absurdlength "announced 300000 bytes and now sends"
    export MOSHI_PULL_CHUNK_KB=64
    fresh huge
    run 2 pull org/small model.safetensors
    says "not enough room" "60.0 TB"
    nothing
    fresh ok
    HF_ENDPOINT=http://127.0.0.1:1 run 7 pull org/small
    HF_ENDPOINT=ftp://127.0.0.1 run 2 pull org/small
    says "HF_ENDPOINT"
}

test_not_there() {
    fresh gated
    run 3 pull org/small
    says "$HF_ENDPOINT/org/small" "licence" "HF_TOKEN"
    HF_TOKEN=secret run 3 pull org/small
    says "wait until the account"
    fresh ok
    run 3 pull nobody/nothing
    says "no such repository" "HF_TOKEN"
    run 3 pull kyutai/moshiko-pytorch-bf15
    says "did you mean 'kyutai/moshiko-pytorch-bf16'"
    run 3 pull org/small@none
    says "no revision 'none'"
    run 3 pull org/small confg.json
    says "no file 'confg.json'" "did you mean 'config.json'"
    fresh evil
    run 3 pull org/small
    says "moshi_name" "wanted the name of a file"
    check "nothing outside" test -z "$(find "$dir" -name evil)"
    run 2 pull
    says "moshi pull ORG/NAME"
    for name in small ../small org/../x org/small/x /org/small org/small@../x org/small@; do
        run 2 pull "$name"
        says "wanted ORG/NAME"
    done
    for name in ../x /etc/passwd a/../../x 'a\b'; do
        run 2 pull org/small "$name"
        says "not the name of a file"
    done
    run 2 pull --list org/small
}

# ---- two at once, and none ----------------------------------------------------------------------
wait_for() { # wait_for COMMAND...: until it succeeds, not for ever
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        "$@" 2>/dev/null && return 0
        sleep 0.1
    done
    return 1
}
test_lock() {
    fresh slow
    "$moshi" pull org/small >first.out 2>first.err </dev/null &
    first=$!
    check "the first one begins" wait_for grep -q 'GET .*model.safetensors' log
    run 0 pull org/small
    says "waiting for it"
    whole
    wait "$first"
    check "the first one ends well" test $? -eq 0
    check "loaded once" test "$(requests 'GET .*model.safetensors range')" -eq 5
}
test_interrupt() {
    fresh slow
    "$moshi" pull org/small >out 2>err </dev/null &
    first=$!
    check "it begins" wait_for grep -q 'GET .*model.safetensors range' log
    sleep 0.1
    kill -INT "$first"
    wait "$first"
    check "exit code 130" test $? -eq 130
    last="interrupted pull"
    says "interrupted" "are kept, the same command goes on from there"
    nothing
    feels ok
    run 0 pull org/small
    whole
}

# ---- -m -----------------------------------------------------------------------------------------
test_model_option() {
    fresh ok
    run 3 inspect -m org/demo
    says "moshi pull org/demo"
    run 3 reply "$top/samples/00_what_is_three_plus_seven_user.wav" -o x.wav -m org/demo@v1
    says "moshi pull org/demo@v1"
    check "-m does not use the network" test ! -s log
    export HF_ENDPOINT="http://127.0.0.1:$demo_port/ok" MOSHI_PULL_CHUNK_KB=65536
    run 0 inspect -m org/demo --pull
    prints "runs            yes"
    : >log
    run 0 inspect -m org/demo --pull
    MOSHI_MODEL=org/demo run 0 inspect
    prints "org/demo"
    check "found without the network" test ! -s log
    cp "$top/samples/11_make_me_laugh_user.wav" short.wav
    HF_HOME=$dir/quiet run 0 codec encode short.wav -o x.st -m org/demo --pull --quiet
    check "--pull --quiet" test ! -s err
    # As another tool would have left it.
    export HF_HOME="$dir/other" HF_ENDPOINT=http://127.0.0.1:1
    # A port that nobody listens at is not tried again.
    run 7 pull org/nobody
    says "http://127.0.0.1:1/"
    check "nobody listens: tried again" test -z "$(grep "trying again" err)"
    snapshot=$HF_HOME/hub/models--org--other/snapshots/$commit
    mkdir -p "$snapshot" "$HF_HOME/hub/models--org--other/refs"
    ln -s "$top"/models/demo/*.json "$top"/models/demo/*.safetensors "$top"/models/demo/*.model "$snapshot"
    printf '%s' $commit >"$HF_HOME/hub/models--org--other/refs/main"
    run 0 inspect -m org/other
    mkdir -p org/other
    run 3 inspect -m org/other
    says "org/other: no file in it"
    # A configuration that names a file of another repository.
    split=$HF_HOME/hub/models--org--split/snapshots/$commit codec=$HF_HOME/hub/models--org--codec
    mkdir -p "$split" "$HF_HOME/hub/models--org--split/refs" "$codec/refs" "$codec/snapshots/$commit"
    printf '%s' $commit | tee "$codec/refs/main" >"$HF_HOME/hub/models--org--split/refs/main"
    ln -s "$top"/models/demo/m*.json "$top"/models/demo/model* "$top"/models/demo/*.model "$split"
    sed 's|tokenizer-mimi-demo|hf://org/codec/&|' "$top/models/demo/config.json" >"$split/config.json"
    run 3 codec encode short.wav -o x.st -m org/split
    says "hf://org/codec/tokenizer-mimi-demo.safetensors: not in" \
        "moshi pull org/codec tokenizer-mimi-demo.safetensors"
    ln -s "$top/models/demo/tokenizer-mimi-demo.safetensors" "$codec/snapshots/$commit"
    run 0 codec encode short.wav -o x.st -m org/split --quiet
    run 0 convert "$split" whole.gguf --type q8_0 --quiet
}

begin_waiting
test_good
test_token
test_passing_trouble
test_resume
test_lasting_trouble
test_not_there
end_waiting
test_lock
test_interrupt
test_model_option
exec 3>&-
echo "test_pull: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
