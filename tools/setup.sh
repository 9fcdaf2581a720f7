# setup.sh - sourced by ./demo and ./test: find out what is missing and install it.
#
# shellcheck shell=sh

say() { printf '%s\n' "$*"; }
die() {
    say "$*" >&2
    exit 1
}

cores() {
    nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Does the C compiler find a header and a library?
have_library() {
    have cc && printf '#include <stdio.h>\n#include <%s>\nint main(void) { return 0; }\n' "$1" |
        cc -x c - -x none "-l$2" -o /dev/null >/dev/null 2>&1
}

# What building needs: "package|why" lines for what is missing.
missing_to_build() {
    have cc || say "gcc|the C compiler"
    { have cc && printf '#include <stdlib.h>\n' | cc -E -x c - >/dev/null 2>&1; } ||
        say "libc6-dev|headers of the C library"
    have make || say "make|runs the build"
    have pkg-config || say "pkg-config|finds libraries"
    have_library jansson.h jansson || say "libjansson-dev|reads and writes JSON"
    have_library sndfile.h sndfile || say "libsndfile1-dev|reads and writes audio files"
    have_library curl/curl.h curl || say "libcurl4-openssl-dev|downloads models"
    have_library kissfft/kiss_fftr.h kissfft-float || say "libkissfft-dev|spectra: moshi analyze"
    have_library png.h png || say "libpng-dev|pictures: moshi analyze --report"
    have_library vulkan/vulkan.h vulkan || say "libvulkan-dev|graphics cards"
    have glslangValidator || say "glslang-tools|compiles the shaders for graphics cards"
}

# What only the tests use. Without these, tests say SKIP.
missing_to_test() {
    have clang || say "clang|second compiler: must build without warnings too"
    have clang-format || say "clang-format|checks the format of the sources"
    have shellcheck || say "shellcheck|checks the shell scripts"
    have cppcheck || say "cppcheck|static analysis"
    { have vulkaninfo && vulkaninfo --summary 2>/dev/null | grep -q deviceName; } ||
        say "mesa-vulkan-drivers|a graphics card played by the processor, for tests"
    have vulkaninfo || say "vulkan-tools|tells which graphics cards there are"
    have spirv-val || say "spirv-tools|checks the shaders"
    have spirv-cross || say "spirv-cross|translates the shaders as Apple's machines do"
    [ -f /usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json ] ||
        say "vulkan-validationlayers|watches the use of Vulkan"
    have xmllint || say "libxml2-utils|checks the pages of moshi analyze"
}

other_systems() {
    cat <<'TXT'
  Fedora   sudo dnf install gcc make pkgconf-pkg-config jansson-devel libsndfile-devel libcurl-devel kiss-fft-devel libpng-devel vulkan-headers vulkan-loader-devel glslang
  Arch     sudo pacman -S gcc make pkgconf jansson libsndfile curl libpng vulkan-headers vulkan-icd-loader glslang
  Alpine   sudo apk add build-base pkgconf jansson-dev libsndfile-dev curl-dev libpng-dev vulkan-headers vulkan-loader-dev glslang
  macOS    xcode-select --install; brew install pkg-config jansson libsndfile curl libpng vulkan-headers vulkan-loader glslang molten-vk
For the tests also: clang, clang-format, shellcheck, cppcheck, xmllint, spirv-tools, spirv-cross, the Vulkan validation layers (left out, those checks are skipped).
TXT
}

# Run one command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q || return 1
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $1
}

# install LIST YES: LIST are "package|why" lines, YES is 1 when nobody needs to be asked.
install_packages() {
    list=$1 yes=$2
    [ -n "$list" ] || return 0
    packages=$(printf '%s\n' "$list" | cut -d'|' -f1 | tr '\n' ' ' | sed 's/ $//')
    say "Needed and not here:"
    printf '%s\n' "$list" | while IFS='|' read -r package why; do
        printf '  %-18s %s\n' "$package" "$why"
    done
    if ! have apt-get; then
        say "There is no apt-get on this system. These commands install the same things:" >&2
        other_systems >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ]; then
        command="sudo apt-get update && sudo apt-get install $packages"
        if ! have sudo; then
            say "Run this as root, then start again: apt-get update && apt-get install $packages" >&2
            return 1
        fi
        if [ "$yes" != 1 ]; then
            if ! [ -t 0 ]; then
                say "Nobody can be asked here. Run this, or start again with --yes:" >&2
                say "  $command" >&2
                return 1
            fi
            printf 'Install with "%s"? [y/N] ' "$command"
            read -r answer
            case $answer in
            y | Y | yes | Yes) ;;
            *) say "Nothing was installed." && return 1 ;;
            esac
        fi
    fi
    # Mirrors fail now and then: once more before giving up.
    apt_install "$packages" || { sleep 5 && apt_install "$packages"; } || {
        say "apt-get could not install: $packages" >&2
        return 1
    }
}
