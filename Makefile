# moshi.c - build, test and install.
#
#   make            library and program
#   make lib        libmoshi: static, shared, moshi.pc
#   make test       every test; ONLY="test_ops test_lm" runs some
#                   SAN=address,undefined or SAN=thread: everything built and run with sanitizers
#   make bench      how fast this machine is
#   make cost       what each number format costs the demo model
#   make catalogue  every known way to garble speech, and what the program says to it
#   make fuzz       fuzz every reader for FUZZ_SECONDS each (needs clang)
#   make lint       format, static checks, rules of the library
#   make install    PREFIX=/usr/local DESTDIR=; make uninstall takes it away again
#   make info       what this build would contain
#
# Objects live in build/<checksum of the configuration>/, so that switching compilers, flags or
# sanitizers never needs a clean. build/current points to the last program built.
# Works with GNU make 3.81 and later.

version_part = $(shell sed -n 's/^.define MOSHI_VERSION_$(1) //p' include/moshi.h)
VERSION := $(call version_part,MAJOR).$(call version_part,MINOR).$(call version_part,PATCH)
SOVERSION := 0

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DESTDIR ?=

CC ?= cc
AR ?= ar
INSTALL ?= install
PKG_CONFIG ?= pkg-config
OPT ?= -O2 -g
CFLAGS ?=
LDFLAGS ?=
SAN ?=
V ?=
ONLY ?=
FUZZ_SECONDS ?= 60

OS := $(shell uname -s)
ARCH := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null)))

# ---- configuration -----------------------------------------------------------------------------
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
# No contraction: a fused multiply-add happens where the source says fmaf() and nowhere else.
BASE := -std=c11 $(WARN) -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno -pthread \
        -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -D_DARWIN_C_SOURCE
ifneq ($(SAN),)
SANFLAGS := -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
endif

# A library counts as present when pkg-config knows it or its header can be included.
HASH := \#
have_lib = $(shell $(PKG_CONFIG) --exists $(1) 2>/dev/null && echo yes || \
    { echo '$(HASH)include <$(2)>' | $(CC) $(CFLAGS) -E -x c - >/dev/null 2>&1 && echo yes; })
HAVE_JANSSON := $(call have_lib,jansson,jansson.h)
HAVE_SNDFILE := $(call have_lib,sndfile,sndfile.h)
JANSSON_CFLAGS := $(shell $(PKG_CONFIG) --cflags jansson 2>/dev/null)
JANSSON_LIBS := $(shell $(PKG_CONFIG) --libs jansson 2>/dev/null || echo -ljansson)
HAVE_CURL := $(call have_lib,libcurl,curl/curl.h)
SNDFILE_CFLAGS := $(shell $(PKG_CONFIG) --cflags sndfile 2>/dev/null)
SNDFILE_LIBS := $(shell $(PKG_CONFIG) --libs sndfile 2>/dev/null || echo -lsndfile)
# Optional: without it `moshi pull` says so.
ifneq ($(HAVE_CURL),)
CURL_CFLAGS := -DAPP_HAVE_CURL $(shell $(PKG_CONFIG) --cflags libcurl 2>/dev/null)
CURL_LIBS := $(shell $(PKG_CONFIG) --libs libcurl 2>/dev/null || echo -lcurl)
endif

# Optional: without it `moshi analyze` says so.
HAVE_KISSFFT := $(call have_lib,kissfft-float,kissfft/kiss_fftr.h)
ifneq ($(HAVE_KISSFFT),)
KISSFFT_CFLAGS := -DAPP_HAVE_KISSFFT $(shell $(PKG_CONFIG) --cflags kissfft-float 2>/dev/null || echo -I/usr/include/kissfft)
KISSFFT_LIBS := $(shell $(PKG_CONFIG) --libs kissfft-float 2>/dev/null || echo -lkissfft-float)
endif

# Optional: without it `moshi analyze` writes no PNG pictures and says so.
HAVE_PNG := $(call have_lib,libpng,png.h)
ifneq ($(HAVE_PNG),)
PNG_CFLAGS := -DAPP_HAVE_PNG $(shell $(PKG_CONFIG) --cflags libpng 2>/dev/null)
PNG_LIBS := $(shell $(PKG_CONFIG) --libs libpng 2>/dev/null || echo -lpng)
endif

# Optional: without it the library computes on the CPU only and says so.
HAVE_VULKAN := $(if $(call have_lib,vulkan,vulkan/vulkan.h),$(shell command -v glslangValidator))
VULKAN_CFLAGS := $(shell $(PKG_CONFIG) --cflags vulkan 2>/dev/null)

CC_VERSION := $(shell $(CC) --version 2>/dev/null | head -n 1)
CONFIG := $(shell printf '%s' '$(CC) $(CC_VERSION) $(OPT) $(CFLAGS) $(LDFLAGS) $(SAN) $(BASE)$(if $(HAVE_CURL),, without curl)$(if $(HAVE_KISSFFT),, without kissfft)$(if $(HAVE_PNG),, without libpng)$(if $(HAVE_VULKAN),, without vulkan)' | cksum | cut -d' ' -f1)
B := build/$(CONFIG)

ifeq ($(V),)
Q := @
say = @printf '  %-7s %s\n' $(1) $(patsubst $(B)/%,%,$@)
else
say = @:
endif

# ---- sources -----------------------------------------------------------------------------------
LIB_SRC := $(wildcard src/*.c) $(wildcard src/cpu/*.c)
ifneq ($(HAVE_VULKAN),)
LIB_SRC += $(wildcard src/vulkan/*.c)
SHADERS := $(B)/vulkan/shaders.h
endif
SHADER_SRC := $(wildcard src/vulkan/shaders/*)
APP_SRC := $(wildcard app/*.c)
TEST_SRC := $(wildcard tests/test_*.c)
# Programs that test scripts start.
HELPER_SRC := tests/http_server.c tests/inject.c
# Devices with one thing wrong each, in the place of src/devices.c.
FAULTY_SRC := tests/faulty_devices.c
# A libvulkan that fails on request, around the real one.
LOST_SRC := tests/lost_vulkan.c
# Linked into every test: reference implementations, model generators, file helpers.
TEST_COMMON_SRC := $(filter-out $(TEST_SRC) $(HELPER_SRC) $(FAULTY_SRC) $(LOST_SRC),$(wildcard tests/*.c))
TEST_SCRIPTS := $(wildcard tests/test_*.sh)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SRC := $(wildcard tests/bench/*.c)

LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
APP_OBJ := $(APP_SRC:%.c=$(B)/%.o)
# Tests may call any part of the program but its main().
APP_PARTS_OBJ := $(filter-out $(B)/app/main.o,$(APP_OBJ))
TEST_OBJ := $(TEST_SRC:%.c=$(B)/%.o)
TEST_COMMON_OBJ := $(TEST_COMMON_SRC:%.c=$(B)/%.o)
HELPER_OBJ := $(HELPER_SRC:%.c=$(B)/%.o)
FAULTY_OBJ := $(FAULTY_SRC:%.c=$(B)/%.o)
FUZZ_OBJ := $(FUZZ_SRC:%.c=$(B)/%.o)
BENCH_OBJ := $(BENCH_SRC:%.c=$(B)/%.o)
TESTS := $(TEST_SRC:%.c=$(B)/%)
LOST := $(if $(HAVE_VULKAN),$(if $(filter Darwin,$(OS)),,$(B)/tests/lost/libvulkan.so.1))
HELPERS := $(HELPER_SRC:%.c=$(B)/%) $(B)/tests/moshi-faulty $(LOST)
FUZZERS := $(FUZZ_SRC:%.c=$(B)/%)
BENCHES := $(BENCH_SRC:%.c=$(B)/%)

ifeq ($(OS),Darwin)
SONAME := libmoshi.$(SOVERSION).dylib
SOFILE := libmoshi.$(VERSION).dylib
SOLINK := libmoshi.dylib
SOFLAGS := -dynamiclib -install_name '$(LIBDIR)/$(SONAME)'
else
SONAME := libmoshi.so.$(SOVERSION)
SOFILE := libmoshi.so.$(VERSION)
SOLINK := libmoshi.so
SOFLAGS := -shared -Wl,-soname,$(SONAME)
# A sanitized library leaves the sanitizer's own symbols to the program.
ifeq ($(SAN),)
SOFLAGS += -Wl,-z,defs
endif
endif

LIB_LIBS := -lm -pthread -ldl
APP_LIBS := $(SNDFILE_LIBS) $(CURL_LIBS) $(KISSFFT_LIBS) $(PNG_LIBS) $(JANSSON_LIBS) -lm -pthread -ldl

# A flag if the compiler knows it: the files made for it are empty without.
flag = $(shell $(CC) $(1) -fsyntax-only -x c /dev/null 2>/dev/null && echo $(1))

# Instruction sets only on the files that hold their kernels: everything else stays portable.
ifneq ($(filter x86_64 amd64,$(ARCH)),)
ISA_AVX2 := -mavx2 -mfma -mf16c
ISA_AVX512 := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512 $(ISA_AVX2)
$(B)/src/cpu/kernels_avx2.o: ISA := $(ISA_AVX2)
$(B)/src/cpu/kernels_avx512.o: ISA := $(ISA_AVX512)
ISA_AVX2_VNNI := $(ISA_AVX2) $(call flag,-mavxvnni)
ISA_AVX512_VNNI := $(ISA_AVX512) -mavx512vnni
$(B)/src/cpu/qkernels_avx2.o: ISA := $(ISA_AVX2)
$(B)/src/cpu/qkernels_avx2_vnni.o: ISA := $(ISA_AVX2_VNNI)
$(B)/src/cpu/qkernels_avx512_vnni.o: ISA := $(ISA_AVX512_VNNI)
ISA_AMX := $(ISA_AVX512_VNNI) $(call flag,-mamx-tile) $(call flag,-mamx-int8)
$(B)/src/cpu/qkernels_amx.o $(B)/src/cpu/digits_amx.o: ISA := $(ISA_AMX)
ISA_AMX_BF16 := $(ISA_AVX512) $(call flag,-mavx512bf16) $(call flag,-mamx-tile) $(call flag,-mamx-bf16)
$(B)/src/cpu/pieces_amx.o: ISA := $(ISA_AMX_BF16)
# With checks of undefined behaviour they take more than a minute each at -O2.
ifneq ($(findstring undefined,$(SAN)),)
$(B)/src/cpu/qkernels_avx2.o $(B)/src/cpu/qkernels_avx2_vnni.o $(B)/src/cpu/qkernels_avx512_vnni.o $(B)/src/cpu/qkernels_amx.o: ISA += -O1
endif
endif
ifneq ($(filter aarch64 arm64,$(ARCH)),)
ISA_NEON_DOT := -march=armv8.2-a+dotprod
$(B)/src/cpu/qkernels_neon_dot.o: ISA := $(ISA_NEON_DOT)
ISA_NEON_I8MM := $(call flag,-march=armv8.2-a+dotprod+i8mm)
$(B)/src/cpu/qkernels_neon_i8mm.o: ISA := $(ISA_NEON_I8MM)
endif
# Loops that the compiler turns into vectors by itself.
$(B)/src/quant_plain.o: ISA := -O3
$(B)/src/quant_avx2.o: ISA := -O3 $(ISA_AVX2)
$(B)/src/quant_avx512.o: ISA := -O3 $(ISA_AVX512)

.PHONY: all lib program tests test device bench cost catalogue fuzz fuzzers lint info install install-lib uninstall clean \
        need-compiler need-jansson need-sndfile FORCE
.DELETE_ON_ERROR:
.SUFFIXES:

all: lib program
lib: $(B)/libmoshi.a $(B)/$(SOFILE) $(B)/moshi.pc
program: $(B)/moshi
	@ln -sfn $(CONFIG) build/current
tests: $(TESTS) $(HELPERS) $(BENCHES)
fuzzers: $(FUZZERS)

# ---- what must be installed --------------------------------------------------------------------
define MISSING_TEXT

moshi.c needs a C11 compiler, pkg-config, jansson (JSON) and libsndfile (audio files). Install:
  Debian, Ubuntu   apt-get install gcc libc6-dev make pkg-config libjansson-dev libsndfile1-dev
  Fedora           dnf install gcc make pkgconf-pkg-config jansson-devel libsndfile-devel
  Arch             pacman -S gcc make pkgconf jansson libsndfile
  macOS            brew install pkg-config jansson libsndfile   (after xcode-select --install)
endef
export MISSING_TEXT

need-compiler:
	@test -n "$(CC_VERSION)" || { echo "No C compiler: '$(CC)' does not run.$$MISSING_TEXT" >&2; exit 1; }
need-jansson:
	@test -n "$(HAVE_JANSSON)" || { echo "jansson.h was not found.$$MISSING_TEXT" >&2; exit 1; }
need-sndfile:
	@test -n "$(HAVE_SNDFILE)" || { echo "sndfile.h was not found.$$MISSING_TEXT" >&2; exit 1; }

# ---- objects -----------------------------------------------------------------------------------
COMPILE = $(CC) $(BASE) $(OPT) $(ISA) $(SANFLAGS) -Iinclude
OUTPUT = $(CFLAGS) -MMD -MP -c $< -o $@

$(LIB_OBJ): $(B)/%.o: %.c | need-compiler
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(COMPILE) $(DEFINES) -Isrc $(OUTPUT)

ifneq ($(HAVE_VULKAN),)
$(B)/src/devices.o $(B)/tests/test_vulkan.o: DEFINES = -DMO_HAVE_VULKAN $(VULKAN_CFLAGS)
$(filter $(B)/src/vulkan/%,$(LIB_OBJ)): DEFINES = $(VULKAN_CFLAGS)
# Includes that the compiler only finds once they are made.
$(B)/src/vulkan/pipelines.o: $(SHADERS)
$(B)/src/vulkan/pipelines.o: DEFINES = -I$(B)/vulkan
$(SHADERS): $(SHADER_SRC)
	$(call say,GLSL)
	$(Q)sh src/vulkan/shaders/compile.sh $(@D)
endif

# The program sees the public header and nothing else of the library.
$(APP_OBJ): $(B)/%.o: %.c | need-compiler need-jansson need-sndfile
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(COMPILE) $(DEFINES) $(SNDFILE_CFLAGS) $(JANSSON_CFLAGS) $(CURL_CFLAGS) $(KISSFFT_CFLAGS) $(PNG_CFLAGS) $(OUTPUT)

# The assembler includes these files, which the dependency output of the compiler does not know.
$(B)/app/embedded.o: app/repos.txt $(wildcard samples/*.wav models/demo/*.json models/demo/*.safetensors models/demo/*.model)

# Written every time, replaced only when git has another name for the sources.
$(B)/sources.txt: FORCE
	@mkdir -p $(@D)
	@name=$$(git describe --always --dirty 2>/dev/null); echo "$${name:+ ($$name)}" >$@.new
	@if cmp -s $@.new $@; then rm -f $@.new; else mv -f $@.new $@; fi
$(B)/app/build.o: $(B)/sources.txt
$(B)/app/build.o: DEFINES = -DAPP_SOURCES="\"$$(cat $(B)/sources.txt)\""

# Tests look inside.
$(TEST_OBJ) $(TEST_COMMON_OBJ) $(HELPER_OBJ) $(FAULTY_OBJ) $(FUZZ_OBJ) $(BENCH_OBJ): $(B)/%.o: %.c | need-compiler need-jansson need-sndfile
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(COMPILE) $(DEFINES) -Isrc -Iapp -Itests $(SNDFILE_CFLAGS) $(JANSSON_CFLAGS) $(KISSFFT_CFLAGS) $(PNG_CFLAGS) $(OUTPUT)

# ---- library and program -----------------------------------------------------------------------
$(B)/libmoshi.a: $(LIB_OBJ)
	$(call say,AR)
	$(Q)rm -f $@ && $(AR) rcs $@ $(LIB_OBJ)

$(B)/$(SOFILE): $(LIB_OBJ)
	$(call say,LD)
	$(Q)$(CC) $(SOFLAGS) $(SANFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(LIB_OBJ) $(LIB_LIBS)
	$(Q)ln -sf $(SOFILE) $(B)/$(SONAME) && ln -sf $(SONAME) $(B)/$(SOLINK)

# Made every time, replaced only when it says something else: it depends on PREFIX.
for_sed = $(subst &,\&,$(subst |,\|,$(subst \,\\,$(1))))
$(B)/moshi.pc: moshi.pc.in FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(call for_sed,$(PREFIX))|' -e 's|@LIBDIR@|$(call for_sed,$(LIBDIR))|' \
	    -e 's|@INCLUDEDIR@|$(call for_sed,$(INCLUDEDIR))|' -e 's|@VERSION@|$(VERSION)|' moshi.pc.in > $@.new
	@if cmp -s $@.new $@; then rm -f $@.new; else mv -f $@.new $@; fi

$(B)/moshi: $(APP_OBJ) $(B)/libmoshi.a
	$(call say,LD)
	$(Q)$(CC) $(SANFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(APP_OBJ) $(B)/libmoshi.a $(APP_LIBS)

# ---- tests -------------------------------------------------------------------------------------
TEST_PARTS := $(TEST_COMMON_OBJ) $(B)/app-parts.a $(B)/libmoshi.a

$(B)/app-parts.a: $(APP_PARTS_OBJ)
	$(call say,AR)
	$(Q)rm -f $@ && $(AR) rcs $@ $(APP_PARTS_OBJ)

$(TESTS) $(HELPER_SRC:%.c=$(B)/%) $(BENCHES): $(B)/%: $(B)/%.o $(TEST_PARTS)
	$(call say,LD)
	$(Q)$(CC) $(SANFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(APP_LIBS)

# An archive gives only what is still missing: the list of devices is found before it is searched.
$(B)/tests/test_selftest: $(FAULTY_OBJ)
$(B)/tests/moshi-faulty: $(APP_OBJ) $(FAULTY_OBJ) $(B)/libmoshi.a
	$(call say,LD)
	$(Q)$(CC) $(SANFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(APP_LIBS)

# It stays loaded, under the name it is looked for: else the real one would be found in its place.
$(B)/tests/lost/libvulkan.so.1: $(LOST_SRC) | need-compiler
	$(call say,LD)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(VULKAN_CFLAGS) -shared -fPIC -Wl,-z,nodelete -Wl,-soname,libvulkan.so.1 -o $@ $< -ldl

test: lib program tests
	@MAKE='$(MAKE)' CC='$(CC)' SAN='$(SAN)' B='$(B)' PKG_CONFIG='$(PKG_CONFIG)' \
	    sh tests/run.sh $(B) $(if $(ONLY),$(ONLY),$(TEST_SRC) $(TEST_SCRIPTS))

# Tests of whole models on another device than the CPU: every recording, the codec of published size,
# adapters, shapes, caches of keys and values, long conversations and the laws of streams.
DEVICE ?= vulkan
device: tests
	@for test in ahead api lm formats mimi lora shapes kv long laws; do \
	    TEST_DEVICE='$(DEVICE)' $(B)/tests/test_$$test || exit 1; done
	@TEST_FULL=1 TEST_DEVICE='$(DEVICE)' $(B)/tests/test_mimi
	@TEST_FRAMES=10000 $(B)/tests/test_vulkan

lint: lib
	@B='$(B)' sh tests/lint.sh

# ---- bench -------------------------------------------------------------------------------------
bench: program $(BENCHES) $(B)/tests/test_ops $(B)/tests/test_attend $(B)/tests/test_qops
	@B='$(B)' sh tests/bench.sh

COST_RECORDINGS ?= 60
cost: program $(B)/tests/bench/bench_cost $(B)/tests/bench/pack_model
	@B='$(B)' sh tests/cost.sh $(COST_RECORDINGS)

# Rows to run; none: all, which takes a quarter of an hour.
ROWS ?=
catalogue: program $(B)/tests/inject $(B)/tests/moshi-faulty
	@B='$(B)' sh tests/catalogue.sh $(ROWS)

# ---- fuzz --------------------------------------------------------------------------------------
# The library is built with coverage and sanitizers in its own build directory.
fuzz:
	@command -v clang >/dev/null || { echo "make fuzz needs clang with libFuzzer (Debian: clang libclang-rt-14-dev)" >&2; exit 1; }
	@$(MAKE) CC=clang SAN=fuzzer-no-link,address,undefined fuzz-run

.PHONY: fuzz-run
fuzz-run: fuzzers
	@B='$(B)' FUZZ_SECONDS='$(FUZZ_SECONDS)' sh tests/fuzz/run.sh $(FUZZERS)

# Without the tests' own malloc, which a sanitizer that starts after it cannot bear.
$(FUZZERS): $(B)/%: $(B)/%.o $(B)/app-parts.a $(B)/libmoshi.a
	$(call say,LD)
	$(Q)$(CC) $(SANFLAGS) -fsanitize=fuzzer $(CFLAGS) $(LDFLAGS) -o $@ $^ $(APP_LIBS)

# ---- install -----------------------------------------------------------------------------------
MAN_PAGES := $(wildcard man/*.1)
install-lib: lib
	$(INSTALL) -d '$(DESTDIR)$(INCLUDEDIR)' '$(DESTDIR)$(LIBDIR)/pkgconfig'
	$(INSTALL) -m 644 include/moshi.h '$(DESTDIR)$(INCLUDEDIR)/moshi.h'
	$(INSTALL) -m 644 $(B)/libmoshi.a '$(DESTDIR)$(LIBDIR)/libmoshi.a'
	$(INSTALL) -m 755 $(B)/$(SOFILE) '$(DESTDIR)$(LIBDIR)/$(SOFILE)'
	ln -sf $(SOFILE) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/$(SOLINK)'
	$(INSTALL) -m 644 $(B)/moshi.pc '$(DESTDIR)$(LIBDIR)/pkgconfig/moshi.pc'

install: install-lib program
	$(INSTALL) -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(MANDIR)/man1'
	$(INSTALL) -m 755 $(B)/moshi '$(DESTDIR)$(BINDIR)/moshi'
	@for page in $(MAN_PAGES); do \
	    $(INSTALL) -m 644 "$$page" '$(DESTDIR)$(MANDIR)/man1/' || exit 1; \
	done

uninstall:
	rm -f '$(DESTDIR)$(BINDIR)/moshi' '$(DESTDIR)$(INCLUDEDIR)/moshi.h' \
	    '$(DESTDIR)$(LIBDIR)/libmoshi.a' '$(DESTDIR)$(LIBDIR)/$(SOFILE)' \
	    '$(DESTDIR)$(LIBDIR)/$(SONAME)' '$(DESTDIR)$(LIBDIR)/$(SOLINK)' \
	    '$(DESTDIR)$(LIBDIR)/pkgconfig/moshi.pc'
	@for page in $(MAN_PAGES:man/%=%); do rm -f '$(DESTDIR)$(MANDIR)/man1'/"$$page"; done

# ---- information -------------------------------------------------------------------------------
lib_line = printf '  %-12s %s\n' $(1) "$$($(PKG_CONFIG) --modversion $(1) 2>/dev/null || echo $(if $(2),"found (pkg-config does not know it)",MISSING))"
tool_line = printf '  %-12s %s\n' $(1) "$$(command -v $(1) || echo 'not found: $(2)')"
info:
	@echo "moshi.c $(VERSION), soname $(SONAME)"
	@echo "  compiler     $(CC): $(CC_VERSION)"
	@echo "  target       $(OS) $(ARCH)"
	@echo "  flags        $(BASE) $(OPT) $(SANFLAGS) $(CFLAGS) $(LDFLAGS)"
	@echo "  build        $(B)"
	@echo "  prefix       $(PREFIX)"
	@echo "devices: cpu$(if $(HAVE_VULKAN), vulkan)"
	@echo "instruction sets (one file each, chosen at run time):"
	@echo "  kernels_avx2.c    $(if $(ISA_AVX2),$(ISA_AVX2),not on $(ARCH))"
	@echo "  kernels_avx512.c  $(if $(ISA_AVX512),$(ISA_AVX512),not on $(ARCH))"
	@echo "  qkernels_avx2_vnni.c    $(if $(ISA_AVX2_VNNI),$(ISA_AVX2_VNNI),not on $(ARCH))"
	@echo "  qkernels_avx512_vnni.c  $(if $(ISA_AVX512_VNNI),$(ISA_AVX512_VNNI),not on $(ARCH))"
	@echo "  qkernels_amx.c          $(if $(ISA_AMX),$(ISA_AMX),not on $(ARCH))"
	@echo "  digits_amx.c            $(if $(ISA_AMX),$(ISA_AMX),not on $(ARCH))"
	@echo "  pieces_amx.c            $(if $(ISA_AMX_BF16),$(ISA_AMX_BF16),not on $(ARCH))"
	@echo "  qkernels_neon_dot.c     $(if $(ISA_NEON_DOT),$(ISA_NEON_DOT),not on $(ARCH))"
	@echo "  qkernels_neon_i8mm.c    $(if $(ISA_NEON_I8MM),$(ISA_NEON_I8MM),not on $(ARCH))"
	@echo "libraries:"
	@$(call lib_line,jansson,$(HAVE_JANSSON))
	@$(call lib_line,sndfile,$(HAVE_SNDFILE))
	@$(call lib_line,libcurl,$(HAVE_CURL))$(if $(HAVE_CURL),,; echo "               (optional: moshi pull; Debian: libcurl4-openssl-dev)")
	@$(call lib_line,kissfft-float,$(HAVE_KISSFFT))$(if $(HAVE_KISSFFT),,; echo "               (optional: moshi analyze; Debian: libkissfft-dev)")
	@$(call lib_line,libpng,$(HAVE_PNG))$(if $(HAVE_PNG),,; echo "               (optional: pictures of moshi analyze; Debian: libpng-dev)")
	@$(call lib_line,vulkan,$(HAVE_VULKAN))$(if $(HAVE_VULKAN),,; echo "               (optional: graphics cards; Debian: libvulkan-dev glslang-tools)")
	@echo "tools for development:"
	@$(call tool_line,clang,second compiler and make fuzz)
	@$(call tool_line,clang-format,make lint checks the format)
	@$(call tool_line,shellcheck,make lint checks the scripts)
	@$(call tool_line,cppcheck,make lint)

clean:
	rm -rf build out

-include $(LIB_OBJ:.o=.d) $(APP_OBJ:.o=.d) $(TEST_OBJ:.o=.d) $(TEST_COMMON_OBJ:.o=.d) $(FAULTY_OBJ:.o=.d) $(FUZZ_OBJ:.o=.d) $(BENCH_OBJ:.o=.d)
