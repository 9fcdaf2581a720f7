#!/bin/sh
# test_shaders.sh MOSHI - every variant of every shader is valid SPIR-V for Vulkan 1.1 and can be
# translated for Metal, which is what Apple's machines run; and the Khronos validation layers, with
# their checks of memory hazards, have nothing to say about anything the backend's tests do.
set -u
build=$(dirname "$1")
passed=0 failed=0 skipped=0

ok() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAIL $1"
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $1"
}
done_testing() {
    echo "test_shaders: $passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}
have() { command -v "$1" >/dev/null 2>&1; }

if [ ! -f "$build/vulkan/shaders.h" ]; then
    skip "this build has no Vulkan"
    done_testing
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/moshi-shaders-XXXXXX")
trap 'rm -rf "$work"' EXIT

count=0
for spv in "$build"/vulkan/*.spv; do
    name=$(basename "$spv" .spv)
    count=$((count + 1))
    if have spirv-val; then
        if spirv-val --target-env vulkan1.1 "$spv" >"$work/out" 2>&1; then ok; else fail "$name is not valid: $(cat "$work/out")"; fi
    fi
    # Debian's spirv-cross knows no dot products of packed bytes, which drivers that translate to Metal
    # are not given (src/vulkan/variants.c).
    case $name in *_dot) metal= ;; *) metal=1 ;; esac
    if have spirv-cross && [ "$metal" ]; then
        if spirv-cross --msl --msl-version 20100 "$spv" >"$work/out" 2>&1; then ok; else fail "$name does not become Metal: $(cat "$work/out")"; fi
    fi
    # What drivers need not have: nothing, or what the variant is for.
    case $name in
        *_subgroup) needs='GroupNonUniform GroupNonUniformArithmetic' ;;
        *_dot) needs='DotProduct DotProductInput4x8BitPacked' ;;
        *_half) needs='Float16' ;;
        *) needs= ;;
    esac
    if have spirv-dis; then
        found=$(spirv-dis "$spv" | sed -n 's/^ *OpCapability //p' | grep -vx Shader | sort | tr '\n' ' ')
        if [ "${found% }" = "$needs" ]; then ok; else fail "$name needs '$found', not '$needs'"; fi
    fi
done
variants=$(wc -l <src/vulkan/shaders/variants)
if [ "$count" -eq "$variants" ]; then ok; else fail "$count shaders of $variants variants"; fi
have spirv-val || skip "no spirv-val (Debian: spirv-tools)"
have spirv-cross || skip "no spirv-cross (Debian: spirv-cross)"

layer=
for file in /usr/share/vulkan/explicit_layer.d /usr/local/share/vulkan/explicit_layer.d /etc/vulkan/explicit_layer.d; do
    [ ! -f "$file/VkLayer_khronos_validation.json" ] || layer=VK_LAYER_KHRONOS_validation
done
if [ -n "${SAN:-}" ]; then
    skip "the validation layers under a sanitizer"
elif [ -z "$layer" ]; then
    skip "no validation layers (Debian: vulkan-validationlayers)"
elif [ ! -x "$build/tests/test_vulkan" ]; then
    skip "test_vulkan was not built"
else
    VK_INSTANCE_LAYERS=$layer \
        VK_LAYER_ENABLES=VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT \
        "$build/tests/test_vulkan" >"$work/out" 2>&1
    code=$?
    if [ $code -eq 0 ] && grep -q "^test_vulkan: " "$work/out"; then ok; else fail "test_vulkan under the validation layers: code $code"; fi
    if grep -q "VUID-\|SYNC-\|UNASSIGNED-" "$work/out"; then
        fail "the validation layers say: $(grep "VUID-\|SYNC-\|UNASSIGNED-" "$work/out" | head -n 5)"
    else
        ok
    fi
fi
done_testing
