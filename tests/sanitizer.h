/* sanitizer.h - what kind of build this is. */
#ifndef MO_TESTS_SANITIZER_H
#define MO_TESTS_SANITIZER_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#endif

#if defined(WITH_ASAN) || defined(WITH_TSAN)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#endif
