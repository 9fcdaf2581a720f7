/* verb.h - what a subcommand of the program is. One cmd_*.c file each; main.c lists them. */
#ifndef APP_VERB_H
#define APP_VERB_H

#include "options.h"

typedef struct verb {
    const char *name;    /* "reply"; with a space for a verb of a family: "codec encode" */
    const char *usage;   /* what follows the name */
    const char *summary; /* one line */
    const char *text;    /* more about it; paragraphs, lines of at most 80 characters */
    const char *example; /* one or more command lines */
    const option_spec *specs;
    int n_specs;
    int max_positional;
    int (*run)(const arguments *args, app_error *err);
} verb;

#define VERB_OPTIONS(table) .specs = (table), .n_specs = (int)(sizeof(table) / sizeof(table)[0])

extern const verb verb_reply, verb_codec_encode, verb_codec_decode, verb_codec_roundtrip,
    verb_trace, verb_inspect, verb_convert, verb_pull, verb_check, verb_compare, verb_doctor,
    verb_analyze, verb_bench;

#endif
