/* options.h - one table-driven parser for the options of every verb.
 *
 * Long options take "--name value" and "--name=value", short ones "-o value"; "--" ends options.
 * Unknown, repeated and out-of-range options are errors that say what was wanted. */
#ifndef APP_OPTIONS_H
#define APP_OPTIONS_H

#include "app.h"

typedef enum option_kind {
    OPTION_FLAG,    /* takes no value */
    OPTION_TEXT,    /* any text that is not empty */
    OPTION_INTEGER, /* within min..max */
    OPTION_REAL,    /* within min..max */
    OPTION_SEED,    /* 0 .. 2^63 - 1, which JSON can carry too */
    OPTION_CHOICE   /* one of `choices` */
} option_kind;

typedef struct option_spec {
    const char *name; /* without the dashes */
    char letter;      /* short form, or 0 */
    option_kind kind;
    const char *value; /* what the value is called in help; for a choice: "file|server" */
    const char *help;
    double min, max;
} option_spec;

typedef struct option_value {
    bool given;
    const char *text; /* as written; NULL for a flag */
    long long integer;
    double real;
    uint64_t seed;
    int choice; /* index into the words of `value` */
} option_value;

enum { ARGUMENTS_MAX = 4096, OPTIONS_MAX = 32 };

/* A parsed command line. `values` is parallel to the table of options. */
typedef struct arguments {
    const option_spec *specs;
    int n_specs;
    option_value values[OPTIONS_MAX];
    const char *positional[ARGUMENTS_MAX];
    int n_positional;
    bool help; /* --help was given; nothing else was checked */
} arguments;

int options_parse(arguments *args, const option_spec *specs, int n_specs, int max_positional,
                  int argc, char **argv, app_error *err);

/* The value of an option that must be in the table. */
const option_value *option_of(const arguments *args, const char *name);
bool option_given(const arguments *args, const char *name);
/* Text of an option, or NULL. */
const char *option_text(const arguments *args, const char *name);

/* Refuse `name` when `other` was given too: "--seed has no effect with --greedy". */
int option_refuse_with(const arguments *args, const char *name, const char *other, app_error *err);

/* How many letters must change to turn a into b. */
int edit_distance(const char *a, const char *b);
/* The nearest of n words, or NULL when none is near enough to be what was meant. */
const char *nearest_word(const char *word, const char *const *words, int n);

#endif
