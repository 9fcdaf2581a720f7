#!/bin/sh
# test_install.sh PROGRAM - install into an empty directory, use what lies there as a stranger would
# (pkg-config, header, shared and static library, program), take it away again.
set -u
program=$1
cd "$(dirname "$0")/.." || exit 1
build=$(dirname "$program")
passed=0 failed=0 skipped=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

check() { # check NAME COMMAND...
    name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $name: $*"
        sed 's/^/  /' "$work/log" | tail -n 30
    fi
}
matches() { echo "$1" | grep -qE -e "$2"; } # matches TEXT PATTERN
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $1"
}

make=${MAKE:-make}
compiler=${CC:-cc}
pkg_config=${PKG_CONFIG:-pkg-config}
san=${SAN:-}
stage="$work/stage with a space"
prefix=/opt/moshi

# The same configuration as the program under test, so that nothing is compiled again.
run_make() { "$make" -j1 CC="$compiler" SAN="$san" PREFIX="$prefix" DESTDIR="$stage" "$@"; }
check "make install" run_make install

root="$stage$prefix"
case $(uname -s) in
Darwin) shared=$root/lib/libmoshi.dylib ;;
*) shared=$root/lib/libmoshi.so ;;
esac
check "program" test -x "$root/bin/moshi"
check "header" cmp include/moshi.h "$root/include/moshi.h"
check "static library" test -s "$root/lib/libmoshi.a"
check "shared library" test -s "$shared"
for page in man/*.1; do
    [ ! -f "$page" ] || check "manual page" cmp "$page" "$root/share/man/man1/$(basename "$page")"
done
check "installed program runs" "$root/bin/moshi" --version
version=$("$root/bin/moshi" --version | sed 's/^moshi //')
check "version is three numbers" matches "$version" '^[0-9]+\.[0-9]+\.[0-9]+$'

# A program of somebody else: it opens nothing, it calls the library and prints its version.
cat >"$work/user.c" <<'C'
#include <moshi.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    moshi_engine *engine = NULL;
    moshi_error err;
    moshi_engine_options options;
    memset(&options, 0, sizeof options);
    options.model = "/nonexistent";
    if (moshi_engine_open(&engine, &options, &err) != MOSHI_EMODEL || !err.text[0]) return 1;
    moshi_engine_close(engine);
    puts(moshi_version());
    return 0;
}
C

# What pkg-config says, with the stage put before its paths: what an installation without DESTDIR
# would say. Paths with spaces need the arguments taken apart here.
if command -v "$pkg_config" >/dev/null 2>&1; then
    pc() { PKG_CONFIG_PATH="$root/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}" "$pkg_config" "$@" moshi; }
    check "pkg-config knows it" pc --exists
    check "pkg-config: version" test "$(pc --modversion)" = "$version"
    check "pkg-config: include path" test "$(pc --variable=includedir)" = "$prefix/include"
    check "pkg-config: library path" test "$(pc --variable=libdir)" = "$prefix/lib"
    check "pkg-config: dynamic linking" matches "$(pc --libs)" -lmoshi
    check "pkg-config: dynamic linking needs no more" test "$(pc --libs-only-l | tr -d ' ')" = -lmoshi
    check "pkg-config: static linking needs more" matches "$(pc --libs --static)" -lm
    static_libs=$(pc --libs-only-l --libs-only-other --static | sed 's/-lmoshi//')
    check "pkg-config: the library needs no other" test -z "$(pc --print-requires --print-requires-private)"
else
    skip "no pkg-config: what moshi.pc says"
    static_libs='-lm -pthread'
fi

sanitize=${san:+-fsanitize=$san}
mkdir "$work/static"
cp "$root/lib/libmoshi.a" "$work/static/"
# shellcheck disable=SC2086 # lists of flags
check "link with the shared library" "$compiler" $sanitize -Wall -Werror -I"$root/include" "$work/user.c" \
    -o "$work/user_shared" -L"$root/lib" -lmoshi -Wl,-rpath,"$root/lib"
# shellcheck disable=SC2086
check "link with the static library" "$compiler" $sanitize -Wall -Werror -I"$root/include" "$work/user.c" \
    -o "$work/user_static" -L"$work/static" -lmoshi $static_libs
runs_with_version() { test "$("$1")" = "$version"; }
check "program with the static library" runs_with_version "$work/user_static"
if [ "$(uname -s)" = Darwin ]; then
    skip "the shared library carries the path it will be installed under: not run from the stage"
else
    check "program with the shared library" runs_with_version "$work/user_shared"
fi

if [ "$(uname -s)" = Linux ] && command -v objdump >/dev/null 2>&1; then
    soname=$(objdump -p "$shared" | awk '$1 == "SONAME" { print $2 }')
    check "soname has one number" matches "$soname" '^libmoshi\.so\.[0-9]+$'
    check "soname is a file" test -e "$root/lib/$soname"
    check "the program above asks for the soname" \
        matches "$(objdump -p "$work/user_shared")" "NEEDED.*$soname"
    # Sanitizers bring functions of their own.
    if [ -z "$san" ]; then
        foreign=$(nm -D --defined-only "$shared" | awk 'NF == 3 && $3 !~ /^moshi_/ { print $3 }')
        check "only moshi_* is exported; found: $foreign" test -z "$foreign"
    fi
else
    skip "no objdump: soname and exported symbols"
fi

check "make uninstall" run_make uninstall
left=$(find "$stage" ! -type d)
check "nothing is left behind; found: $left" test -z "$left"
check "the build was not touched" test -x "$build/moshi"

# A prefix with a space (and with what sed takes for its own) that is used where it is.
if command -v "$pkg_config" >/dev/null 2>&1 && [ "$(uname -s)" != Darwin ]; then
    stage='' prefix="$work/its own & prefix"
    check "make install under a prefix with spaces" run_make install
    flags=$(PKG_CONFIG_PATH="$prefix/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}" \
        "$pkg_config" --cflags --libs moshi)
    # pkg-config writes its answer for a shell.
    # shellcheck disable=SC2086 # flags of the sanitizer
    build_there() { eval "\"\$compiler\" $sanitize \"\$work/user.c\" -o \"\$work/user_there\" $flags"; }
    check "compile and link with what pkg-config says: $flags" build_there
    runs_there() { test "$(LD_LIBRARY_PATH=$prefix/lib "$work/user_there")" = "$version"; }
    check "program with the library under that prefix" runs_there
    check "make uninstall under a prefix with spaces" run_make uninstall
    left=$(find "$prefix" ! -type d)
    check "nothing is left under that prefix; found: $left" test -z "$left"
else
    skip "a prefix with spaces"
fi

echo "test_install: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
