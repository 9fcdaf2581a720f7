/* options.c - command-line parser and the search for the nearest word. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_MAX = 64 };

static int min3(int a, int b, int c) {
    int m = a < b ? a : b;
    return m < c ? m : c;
}

int edit_distance(const char *a, const char *b) {
    int row[WORD_MAX + 1];
    size_t na = strlen(a), nb = strlen(b);
    if (na > WORD_MAX) na = WORD_MAX;
    if (nb > WORD_MAX) nb = WORD_MAX;
    for (size_t j = 0; j <= nb; j++) row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = min3(row[j] + 1, row[j - 1] + 1, replaced);
        }
    }
    return row[nb];
}

const char *nearest_word(const char *word, const char *const *words, int n) {
    const char *best = NULL;
    int best_distance = WORD_MAX;
    for (int i = 0; i < n; i++) {
        int distance = edit_distance(word, words[i]);
        if (distance < best_distance) {
            best = words[i];
            best_distance = distance;
        }
    }
    size_t longer = strlen(word);
    if (best && strlen(best) > longer) longer = strlen(best);
    return best && (size_t)best_distance * 2 <= longer ? best : NULL;
}

static int fail_unknown(const arguments *args, const char *name, app_error *err) {
    const char *words[OPTIONS_MAX + 1];
    int n = 0;
    for (; n < args->n_specs; n++) words[n] = args->specs[n].name;
    words[n++] = "help";
    const char *near = nearest_word(name, words, n);
    if (near)
        return app_fail(err, EXIT_USAGE, "unknown option '--%s'; did you mean '--%s'?", name, near);
    return app_fail(err, EXIT_USAGE, "unknown option '--%s'; see --help", name);
}

static int parse_integer(const option_spec *spec, option_value *value, app_error *err) {
    char *end;
    errno = 0;
    value->integer = strtoll(value->text, &end, 10);
    bool whole = end != value->text && !*end && errno == 0 && !strchr(" \t\n", value->text[0]);
    if (whole && (double)value->integer >= spec->min && (double)value->integer <= spec->max)
        return EXIT_OK;
    return app_fail(err, EXIT_USAGE, "--%s: wanted a whole number %.0f..%.0f, found '%s'",
                    spec->name, spec->min, spec->max, value->text);
}

static int parse_real(const option_spec *spec, option_value *value, app_error *err) {
    /* Decimal digits only: strtod would also take "nan", "inf" and hexadecimal. */
    char *end = NULL;
    bool plain = strspn(value->text, "0123456789.eE+-") == strlen(value->text);
    value->real = plain ? strtod(value->text, &end) : 0;
    if (plain && end != value->text && !*end && isfinite(value->real) && value->real >= spec->min &&
        value->real <= spec->max)
        return EXIT_OK;
    return app_fail(err, EXIT_USAGE, "--%s: wanted %s %g..%g, found '%s'", spec->name, spec->value,
                    spec->min, spec->max, value->text);
}

static int parse_seed(const option_spec *spec, option_value *value, app_error *err) {
    char *end = NULL;
    errno = 0;
    bool digits = strspn(value->text, "0123456789") == strlen(value->text);
    if (digits) value->seed = strtoull(value->text, &end, 10);
    if (digits && errno == 0 && value->seed <= INT64_MAX) return EXIT_OK;
    return app_fail(err, EXIT_USAGE,
                    "--%s: wanted a whole number 0..9223372036854775807, found '%s'", spec->name,
                    value->text);
}

static int parse_choice(const option_spec *spec, option_value *value, app_error *err) {
    const char *word = spec->value;
    for (int i = 0; word; i++) {
        size_t n = strcspn(word, "|");
        if (strlen(value->text) == n && !strncmp(word, value->text, n)) {
            value->choice = i;
            return EXIT_OK;
        }
        word = word[n] ? word + n + 1 : NULL;
    }
    return app_fail(err, EXIT_USAGE, "--%s: wanted %s, found '%s'", spec->name, spec->value,
                    value->text);
}

static int parse_value(const option_spec *spec, option_value *value, app_error *err) {
    if (!value->text[0]) return app_fail(err, EXIT_USAGE, "--%s: its value is empty", spec->name);
    switch (spec->kind) {
    case OPTION_INTEGER:
        return parse_integer(spec, value, err);
    case OPTION_REAL:
        return parse_real(spec, value, err);
    case OPTION_SEED:
        return parse_seed(spec, value, err);
    case OPTION_CHOICE:
        return parse_choice(spec, value, err);
    default:
        return EXIT_OK;
    }
}

/* Store one option. `attached` is the text after "=", or NULL; `next` the following argument or
 * NULL; *took_next tells whether that was its value. */
static int store(arguments *args, int index, const char *attached, const char *next,
                 bool *took_next, app_error *err) {
    const option_spec *spec = &args->specs[index];
    option_value *value = &args->values[index];
    *took_next = false;
    if (value->given) return app_fail(err, EXIT_USAGE, "--%s was given twice", spec->name);
    value->given = true;
    if (spec->kind == OPTION_FLAG) {
        if (attached)
            return app_fail(err, EXIT_USAGE, "--%s takes no value, found '%s'", spec->name,
                            attached);
        return EXIT_OK;
    }
    bool numeric =
        spec->kind == OPTION_INTEGER || spec->kind == OPTION_REAL || spec->kind == OPTION_SEED;
    /* Forgetting a value must not swallow the next option. */
    bool is_option = !attached && next && next[0] == '-' && next[1] && !numeric;
    if (!attached && (!next || is_option))
        return app_fail(err, EXIT_USAGE, "--%s needs a value: --%s %s", spec->name, spec->name,
                        spec->value);
    *took_next = !attached;
    value->text = attached ? attached : next;
    return parse_value(spec, value, err);
}

static int find_long(const arguments *args, const char *name, size_t n) {
    for (int i = 0; i < args->n_specs; i++)
        if (strlen(args->specs[i].name) == n && !strncmp(args->specs[i].name, name, n)) return i;
    return -1;
}

static int find_short(const arguments *args, char letter) {
    for (int i = 0; i < args->n_specs; i++)
        if (args->specs[i].letter == letter) return i;
    return -1;
}

static int parse_option(arguments *args, const char *word, const char *next, bool *took_next,
                        app_error *err) {
    if (word[1] != '-') {
        int index = find_short(args, word[1]);
        if (index < 0 || (word[2] && word[2] != '='))
            return app_fail(err, EXIT_USAGE, "unknown option '%s'; see --help", word);
        return store(args, index, word[2] ? word + 3 : NULL, next, took_next, err);
    }
    const char *name = word + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    int index = find_long(args, name, n);
    if (index >= 0) return store(args, index, equals ? equals + 1 : NULL, next, took_next, err);
    char copy[WORD_MAX];
    snprintf(copy, sizeof copy, "%.*s", n < sizeof copy ? (int)n : (int)sizeof copy - 1, name);
    return fail_unknown(args, copy, err);
}

/* --help anywhere before "--" wins over every mistake. */
static bool wants_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
    return false;
}

int options_parse(arguments *args, const option_spec *specs, int n_specs, int max_positional,
                  int argc, char **argv, app_error *err) {
    memset(args, 0, sizeof *args);
    args->specs = specs;
    args->n_specs = n_specs;
    args->help = wants_help(argc, argv);
    if (args->help) return EXIT_OK;
    bool options_ended = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (!options_ended && !strcmp(word, "--")) {
            options_ended = true;
        } else if (!options_ended && word[0] == '-' && word[1]) {
            bool took_next;
            int rc = parse_option(args, word, i + 1 < argc ? argv[i + 1] : NULL, &took_next, err);
            if (rc != EXIT_OK) return rc;
            i += took_next;
        } else if (args->n_positional == max_positional) {
            if (max_positional > 9)
                return app_fail(err, EXIT_USAGE, "more than %d files, '%s' is one too many",
                                max_positional, word);
            return app_fail(err, EXIT_USAGE, "unexpected argument '%s'; see --help", word);
        } else {
            args->positional[args->n_positional++] = word;
        }
    }
    return EXIT_OK;
}

const option_value *option_of(const arguments *args, const char *name) {
    int index = find_long(args, name, strlen(name));
    if (index < 0) abort(); /* a verb asked for an option that its table lacks */
    return &args->values[index];
}

bool option_given(const arguments *args, const char *name) {
    return option_of(args, name)->given;
}

const char *option_text(const arguments *args, const char *name) {
    return option_of(args, name)->text;
}

int option_refuse_with(const arguments *args, const char *name, const char *other, app_error *err) {
    if (!option_given(args, name) || !option_given(args, other)) return EXIT_OK;
    return app_fail(err, EXIT_USAGE, "--%s has no effect with --%s; leave one of them out", name,
                    other);
}
