#!/bin/sh
# lint.sh - the rules that a compiler does not check. `make lint` runs it with B, the build
# directory. Every rule prints what breaks it; the last line is "lint: N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 skipped=0

ok() { passed=$((passed + 1)); }
skip() {
    echo "SKIP $1"
    skipped=$((skipped + 1))
}
# rule NAME FINDINGS: passes when nothing was found.
rule() {
    if [ -z "$2" ]; then
        ok
    else
        echo "FAIL $1:"
        printf '%s\n' "$2" | head -n 40 | sed 's/^/  /'
        failed=$((failed + 1))
    fi
}
have() { command -v "$1" >/dev/null 2>&1; }

c_files=$(find include src app tests tools -name '*.[ch]' | sort)
scripts=$(find tests tools -name '*.sh' | sort)
scripts="demo test .ci/run $scripts"
documents=$(ls ./*.md models/demo/*.md tools/train/*.md tools/ear/*.md 2>/dev/null)
python=$(find tools -name '*.py' | sort)

# ---- text of the sources -----------------------------------------------------------------------
if have clang-format; then
    # shellcheck disable=SC2086 # lists of names without spaces, here and below
    rule "clang-format would change" "$(clang-format --dry-run -Werror $c_files 2>&1 | grep 'error:' | cut -d: -f1 | uniq -c)"
else
    skip "clang-format is not installed"
fi

tab=$(printf '\t')
# shellcheck disable=SC2086
rule "tab or trailing space" "$(grep -nE "$tab| +\$" $c_files $scripts $documents $python | cut -c 1-120)"

# Written so that these lines do not find themselves.
words='TO[D]O|FIX[M]E|HAC[K]|/wor[k]/|/hom[e]/|/roo[t]/|/User[s]/'
# shellcheck disable=SC2086
rule "unfinished work or a path of one machine" \
    "$(grep -nE "$words" $c_files $scripts $documents $python Makefile moshi.pc.in | cut -c 1-120)"

if have shellcheck; then
    # shellcheck disable=SC2086
    rule "shellcheck" "$(shellcheck -x $scripts 2>&1)"
else
    skip "shellcheck is not installed"
fi

if have cppcheck; then
    # shellcheck disable=SC2046
    rule "cppcheck" "$(cppcheck -q -j 2 --std=c11 --enable=warning,portability --inline-suppr \
        --suppress=missingIncludeSystem --suppress=pointerSize:src/util.c -D__GNUC__=12 -D__x86_64__ -Iinclude -Isrc -Iapp \
        $(find src app -name '*.c' ! -name 'kernels_*.c' ! -name embedded.c) 2>&1)"
else
    skip "cppcheck is not installed"
fi

if have git && git rev-parse --git-dir >/dev/null 2>&1; then
    bytes=$(git ls-files -z | xargs -0 cat 2>/dev/null | wc -c)
    rule "tracked files above 40 MB" "$([ "$bytes" -le 41943040 ] || echo "$bytes bytes")"
else
    skip "not a git checkout: size of the tracked tree"
fi

# ---- layers ------------------------------------------------------------------------------------
# The program is a client of the public header; the library knows nothing of the program.
inner=$(find src -name '*.h' -exec basename {} \;)
outer=$(find app -name '*.h' -exec basename {} \;)
rule "the library includes a header of the program" "$(for header in $outer; do
    [ -f "src/$header" ] || grep -rnE "#include \"(.*/)?$header\"" src
done)"
rule "the program includes a header of the library" "$(for header in $inner; do
    [ -f "app/$header" ] || grep -rnE "#include \"(.*/)?$header\"" app
done)"

header_compiles() {
    printf '#include "moshi.h"\nint moshi_header_ok;\n' | "$@" -Wall -Wextra -Werror -pedantic \
        -Iinclude -fsyntax-only - 2>&1
}
rule "moshi.h as C99" "$(header_compiles cc -std=c99 -x c)"
if have c++ || have clang++; then
    rule "moshi.h as C++" "$(header_compiles "$(command -v c++ || command -v clang++)" -std=c++11 -x c++)"
else
    skip "no C++ compiler: moshi.h as C++"
fi

# ---- what the library contains -----------------------------------------------------------------
library=${B:-build/current}/libmoshi.a
shared=$(find "${B:-build/current}/" -name 'libmoshi.so.*.*.*' | head -n 1)
if [ ! -f "$library" ] || ! have nm; then
    skip "no libmoshi.a or no nm: symbols of the library"
else
    # A library does not print, exit, read the environment, open sockets or hide state in libc.
    called=$(nm -u "$library" | awk '$1 == "U" { print $2 }' | sed 's/@.*//; s/^_*//' | sort -u)
    banned='printf|vprintf|fprintf|vfprintf|puts|fputs|putchar|putc|fputc|perror|stdout|stderr|stdin|'
    banned="$banned"'exit|Exit|abort|assert_fail|quick_exit|atexit|getenv|secure_getenv|setenv|putenv|'
    banned="$banned"'system|popen|fork|execve|socket|connect|signal|sigaction|setlocale|rand|srand|'
    banned="$banned"'random|srandom|drand48|strtok|localtime|gmtime|ctime|printf_chk|'
    banned="$banned"'fprintf_chk|vfprintf_chk|vprintf_chk'
    rule "the library calls" "$(printf '%s\n' "$called" | grep -xE "$banned")"
    rule "symbols of the library outside moshi_* and mo_*" \
        "$(nm -g --defined-only "$library" | awk 'NF == 3 { print $3 }' | grep -vE '^_?(moshi|mo)_')"
fi
if [ -f "$library" ] && have objdump; then
    # Constants with pointers in them sit in .data.rel.ro: read-only once the program runs.
    rule "writable global data in the library" "$(objdump -t "$library" |
        awk '$3 == "O" && $4 ~ /^\.(data|bss|tdata|tbss)/ && $4 !~ /^\.data\.rel\.ro/ { print $NF }
             $0 ~ /\*COM\*/ { print $NF }')"
else
    skip "no libmoshi.a or no objdump: global data of the library"
fi
if [ -n "$shared" ]; then
    exported=$(nm -D --defined-only "$shared" | awk 'NF == 3 { print $3 }' | sort)
    declared=$(grep -o 'moshi_[a-z_]*(' include/moshi.h | tr -d '(' | sort -u)
    rule "exported but not moshi_*" "$(printf '%s\n' "$exported" | grep -v '^moshi_')"
    rule "exported but not declared in moshi.h" "$(for name in $exported; do
        printf '%s\n' "$declared" | grep -qx "$name" || echo "$name"
    done)"
    functions=$(sed -n '/MOSHI_API/,/;/p' include/moshi.h | grep -v '^#' | grep -o 'moshi_[a-z_]*(' | tr -d '(' | sort -u)
    rule "declared MOSHI_API but not exported" "$(for name in $functions; do
        printf '%s\n' "$exported" | grep -qx "$name" || echo "$name"
    done)"
else
    skip "no shared library: its exported symbols"
fi

echo "lint: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
