/* report_model.h - what `moshi inspect` found out about a model, for people and for machines. */
#ifndef APP_REPORT_MODEL_H
#define APP_REPORT_MODEL_H

#include "moshi.h"
#include "plan.h"
#include "repos.h"

enum { LIKE_MAX = 8 };

typedef struct model_report {
    const moshi_model_info *info;
    const char *name;          /* what the user called it */
    memory_plan plan;          /* n == 0: none, it does not run */
    known_repo like[LIKE_MAX]; /* published repositories with weights of this kind */
    int n_like;
    bool quick;   /* the numbers were not looked at */
    bool tensors; /* list every tensor, not only those with a problem */
} model_report;

/* Fill `like` from what `info` says. */
void report_recognise(model_report *r);
void report_print(const model_report *r);
int report_print_json(const model_report *r, app_error *err);
/* As JSON, of a model that could not be read at all. */
int report_print_unreadable(const char *name, const char *reason, app_error *err);
/* Why it does not run, and what to do about it: "looks like ..., moshi pull ... brings it". */
void report_reason(const model_report *r, char *out, size_t cap);

#endif
