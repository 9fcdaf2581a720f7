/* build.c - the Makefile says what git calls the sources; the compiler says who it is. */
#include "build.h"

#include "moshi.h"

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
