/* build.c - the Makefile says what git calls the sources; the compiler says who it is. */
#include "build.h"

#include "moshi.h"

#include <stdio.h>

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)
#define VERSION_PARTS \
    TEXT(MOSHI_VERSION_MAJOR) "." TEXT(MOSHI_VERSION_MINOR) "." TEXT(MOSHI_VERSION_PATCH)

#ifndef APP_SOURCES
#define APP_SOURCES ""
#endif
#if defined(__clang__)
#define COMPILER __VERSION__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown compiler"
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED ", sanitized"
#else
#define SANITIZED ""
#endif

const char *build_id(void) {
    return "moshi " VERSION_PARTS APP_SOURCES ", " COMPILER SANITIZED;
}

bool build_program_sha256(char hex[SHA_HEX]) {
    unsigned char block[1 << 14];
    sha hash;
    size_t n;
    FILE *f = fopen("/proc/self/exe", "rb");
    hex[0] = 0;
    if (!f) return false;
    sha_start(&hash, SHA_256);
    while ((n = fread(block, 1, sizeof block, f)) > 0) sha_add(&hash, block, n);
    bool whole = !ferror(f);
    fclose(f);
    if (whole) sha_end(&hash, hex);
    return whole;
}
