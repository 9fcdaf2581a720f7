/* check.h - the whole test framework: CHECK prints and counts, SKIP is counted apart, and the last
 * line of every test program is "N passed, N failed, N skipped". */
#ifndef MO_TESTS_CHECK_H
#define MO_TESTS_CHECK_H

#include <stdarg.h>
#include <stdio.h>

static int check_passed, check_failed, check_skipped;

__attribute__((unused, format(printf, 4, 5))) static int check_report(int ok, const char *file,
                                                                      int line, const char *fmt,
                                                                      ...) {
    if (ok) {
        check_passed++;
        return 1;
    }
    check_failed++;
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s:%d: FAIL ", file, line);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return 0;
}

/* CHECK(condition, "printf message", ...): evaluates to the condition. */
#define CHECK(cond, ...) check_report(!!(cond), __FILE__, __LINE__, __VA_ARGS__)
/* SKIP("why", ...): something the machine lacks; never counted as passed. */
#define SKIP(...) (check_skipped++, fprintf(stderr, "SKIP " __VA_ARGS__), fputc('\n', stderr))

/* return check_done("test_name"); from main. */
__attribute__((unused)) static int check_done(const char *name) {
    printf("%s: %d passed, %d failed, %d skipped\n", name, check_passed, check_failed,
           check_skipped);
    return check_failed != 0;
}

#endif
