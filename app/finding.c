/* finding.c - the list of what was found. */
#include "finding.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *id, *name;
} KINDS[] = {
#define FINDING_ROW(kind, id, name) {id, name},
    FINDING_LIST(FINDING_ROW)
#undef FINDING_ROW
};

const char *finding_id(finding_kind kind) {
    return KINDS[kind].id;
}

const char *finding_name(finding_kind kind) {
    return KINDS[kind].name;
}

double finding_confidence(double measured, double threshold, double width) {
    return 1 / (1 + exp(-2 * (measured - threshold) / width));
}

finding *findings_add(findings *f, finding_kind kind, double confidence, const char *measure,
                      double measured, double threshold) {
    int at = 0;
    while (at < f->n && f->list[at].confidence >= confidence) at++;
    if (at == FINDINGS_MAX) at--;
    int last = f->n < FINDINGS_MAX ? f->n : FINDINGS_MAX - 1;
    memmove(&f->list[at + 1], &f->list[at], (size_t)(last - at) * sizeof f->list[0]);
    if (f->n < FINDINGS_MAX) f->n++;
    f->list[at] = (finding){.kind = kind,
                            .confidence = confidence,
                            .measure = measure,
                            .measured = measured,
                            .threshold = threshold};
    return &f->list[at];
}

void findings_remove(findings *f, finding_kind kind) {
    int kept = 0;
    for (int i = 0; i < f->n; i++)
        if (f->list[i].kind != kind) f->list[kept++] = f->list[i];
    f->n = kept;
}

double findings_confidence(const findings *f, finding_kind kind) {
    for (int i = 0; i < f->n; i++)
        if (f->list[i].kind == kind) return f->list[i].confidence;
    return 0;
}
