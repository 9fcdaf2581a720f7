/* side.h - one side of a comparison: something that computes now, or a trace of what something else
 * computed before. */
#ifndef APP_SIDE_H
#define APP_SIDE_H

#include "difference.h"
#include "evidence.h"
#include "stimulus.h"
#include "tracefile.h"
#include "variant.h"

typedef struct side {
    variant v;
    bool traced;       /* the recording was read from a file */
    trace_facts facts; /* of the recording, wherever it comes from */
    recording r;
    difference d;   /* from the reference */
    evidence sound; /* its own answer */
    int delay;      /* of its acoustic codebooks; -1: it has none, or this is a trace */
} side;

/* What all sides share. */
typedef struct side_setup {
    model_choice model;
    char model_sha256[SHA_HEX]; /* of its files; "" where no trace is read or written */
    stimulus input;             /* heard by all; loaded when the first engine says at which rate */
    const char *input_path;     /* NULL: the recordings inside the program */
    double hear_s, tail_s;      /* of it at most, and silence after it */
    size_t frames;              /* compared number by number */
    plan common;                /* what all are forced to follow; empty before the first run */
    bool quiet;
} side_setup;

/* From the words of the user. A trace is read whole; it must be of the setup's model, and gives the
 * setup its plan. */
int side_parse(side *s, side_setup *setup, const char *text, app_error *err);
/* Hear the input, then follow the common plan, or make it. Of a trace: is it of this input? */
int side_run(side *s, side_setup *setup, app_error *err);
void side_free(side *s);
void side_setup_free(side_setup *setup);

#endif
