#!/bin/sh
# compile.sh OUT: every line of `variants` (name, file, macros) as OUT/NAME.spv, and all of them as
# OUT/shaders.h: arrays of words and a table of them by name.
set -eu
here=$(dirname "$0") out=$1
table='' includes=''
mkdir -p "$out"
while read -r name file macros; do
    # shellcheck disable=SC2086 # macros are words
    set -- -V --quiet --target-env vulkan1.1 $macros "$here/$file"
    glslangValidator "$@" -o "$out/$name.spv" || exit 1
    glslangValidator "$@" --vn "spirv_$name" -o "$out/$name.h" || exit 1
    sed -i.bak 's/^const /static const /' "$out/$name.h" && rm -f "$out/$name.h.bak"
    includes="$includes#include \"$name.h\"
"
    table="$table    {\"$name\", spirv_$name, sizeof spirv_$name},
"
done <"$here/variants"
cat >"$out/shaders.h" <<END
${includes}static const struct {
    const char *name;
    const uint32_t *words;
    size_t bytes;
} shaders[] = {
${table}};
END
