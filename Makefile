# moshi.c - build, test and install.
#
#   make            library and program (build/<configuration>/)
#   make test       all tests; SAN=address,undefined or SAN=thread for sanitized builds
#   make bench      short benchmark on the demo model
#   make fuzz       fuzz every reader for FUZZ_SECONDS each (needs clang)
#   make lint       format and static checks
#   make install    PREFIX=/usr/local
#   make info       what this build contains
#
# Objects live in build/<hash of the configuration>/, so that switching compilers or sanitizers
# never needs a clean.

VERSION := $(shell sed -n 's/^\#define MOSHI_VERSION_MAJOR \(.*\)/\1/p' include/moshi.h).$(shell sed -n 's/^\#define MOSHI_VERSION_MINOR \(.*\)/\1/p' include/moshi.h).$(shell sed -n 's/^\#define MOSHI_VERSION_PATCH \(.*\)/\1/p' include/moshi.h)
SOVERSION := 0

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DESTDIR ?=

CC ?= cc
AR ?= ar
PKG_CONFIG ?= pkg-config
OPT ?= -O2 -g
CFLAGS ?=
LDFLAGS ?=
SAN ?=
V ?=

OS := $(shell uname -s)
MACHINE := $(shell $(CC) -dumpmachine)
ARCH := $(firstword $(subst -, ,$(MACHINE)))

# ---- configuration -----------------------------------------------------------------------------
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
BASE := -std=c11 $(WARN) -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno -pthread \
        -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -D_DARWIN_C_SOURCE
ifneq ($(SAN),)
SANFLAGS := -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
endif
JANSSON_CFLAGS := $(shell $(PKG_CONFIG) --cflags jansson 2>/dev/null)
JANSSON_LIBS := $(shell $(PKG_CONFIG) --libs jansson 2>/dev/null || echo -ljansson)
SNDFILE_CFLAGS := $(shell $(PKG_CONFIG) --cflags sndfile 2>/dev/null)
SNDFILE_LIBS := $(shell $(PKG_CONFIG) --libs sndfile 2>/dev/null || echo -lsndfile)

CONFIG := $(shell printf '%s' '$(CC) $(shell $(CC) --version | head -n 1) $(OPT) $(CFLAGS) $(LDFLAGS) $(SAN) $(BASE)' | cksum | cut -d' ' -f1)
B := build/$(CONFIG)

ifeq ($(V),)
Q := @
say = @printf '  %-7s %s\n' $(1) $(patsubst $(B)/%,%,$@)
else
say = @:
endif

# ---- sources -----------------------------------------------------------------------------------
LIB_SRC := $(wildcard src/*.c) $(wildcard src/cpu/*.c)
APP_SRC := $(wildcard app/*.c)
TEST_SRC := $(wildcard tests/test_*.c)
# Linked into every test: reference implementations, model generators, file helpers.
TEST_COMMON_SRC := $(filter-out $(TEST_SRC),$(wildcard tests/*.c))

LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
APP_OBJ := $(APP_SRC:%.c=$(B)/%.o)
TEST_COMMON_OBJ := $(TEST_COMMON_SRC:%.c=$(B)/%.o)
TESTS := $(TEST_SRC:tests/%.c=$(B)/tests/%)

ifeq ($(OS),Darwin)
SONAME := libmoshi.$(SOVERSION).dylib
SOFILE := libmoshi.$(VERSION).dylib
SOLINK := libmoshi.dylib
SOFLAGS := -dynamiclib -install_name $(LIBDIR)/$(SONAME)
else
SONAME := libmoshi.so.$(SOVERSION)
SOFILE := libmoshi.so.$(VERSION)
SOLINK := libmoshi.so
SOFLAGS := -shared -Wl,-soname,$(SONAME) -Wl,-z,defs
endif

LIB_LIBS := $(JANSSON_LIBS) -lm -pthread
APP_LIBS := $(SNDFILE_LIBS) $(JANSSON_LIBS) -lm -pthread

# Instruction sets only on the files that hold their kernels: everything else stays portable.
ifneq ($(filter x86_64 amd64 i%86,$(ARCH)),)
$(B)/src/cpu/kernels_avx2.o: ISA := -mavx2 -mfma -mf16c
$(B)/src/cpu/kernels_avx512.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c -mprefer-vector-width=512
endif

.PHONY: all lib program test tests bench fuzz lint info install uninstall clean
all: lib program

lib: $(B)/libmoshi.a $(B)/$(SOFILE) $(B)/moshi.pc
program: $(B)/moshi
	@ln -sfn $(CONFIG) build/current

$(B)/src/%.o: src/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(BASE) $(OPT) $(ISA) $(SANFLAGS) -Iinclude -Isrc $(JANSSON_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

# The program sees the public header and nothing else of the library.
$(B)/app/%.o: app/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(BASE) $(OPT) $(SANFLAGS) -Iinclude $(SNDFILE_CFLAGS) $(JANSSON_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

# Tests look inside.
$(B)/tests/%.o: tests/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(BASE) $(OPT) $(SANFLAGS) -Iinclude -Isrc -Iapp -Itests $(SNDFILE_CFLAGS) $(JANSSON_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(B)/libmoshi.a: $(LIB_OBJ)
	$(call say,AR)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/$(SOFILE): $(LIB_OBJ)
	$(call say,LD)
	$(Q)$(CC) $(SOFLAGS) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIB_LIBS)
	$(Q)ln -sf $(SOFILE) $(B)/$(SONAME) && ln -sf $(SONAME) $(B)/$(SOLINK)

$(B)/moshi: $(APP_OBJ) $(B)/libmoshi.a
	$(call say,LD)
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(APP_LIBS)

$(B)/tests/%: $(B)/tests/%.o $(TEST_COMMON_OBJ) $(B)/libmoshi.a
	$(call say,LD)
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(APP_LIBS) -ldl

tests: $(TESTS)

-include $(LIB_OBJ:.o=.d) $(APP_OBJ:.o=.d) $(TEST_COMMON_OBJ:.o=.d) $(TESTS:%=%.d)
