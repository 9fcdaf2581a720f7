/* analyze.h - is a recording intact speech, and if not, what happened to it?
 *
 * Nothing but the samples is needed. Every kind of damage that is looked for has a measure of its
 * own; where damage can be undone (bytes swapped back, frames turned around, another rate), it is
 * undone on trial, and what counts is how much more the result is like speech. */
#ifndef APP_ANALYZE_H
#define APP_ANALYZE_H

#include "finding.h"
#include "level.h"
#include "recode.h"
#include "reference.h"
#include "splice.h"
#include "voice.h"

typedef enum analysis_verdict {
    VERDICT_CLEAN,
    VERDICT_GARBLED,
    VERDICT_NOT_SPEECH,
    VERDICT_SILENT,
    VERDICT_DIFFERENT, /* sound speech, but not what the reference says */
    VERDICT_TOO_SHORT  /* nothing wrong was found, but there was less than ANALYZE_SHORTEST_S of it
                        */
} analysis_verdict;

/* Below this much sound nothing can be said; below a second of speech the direction of
 * time is left open. */
#define ANALYZE_SHORTEST_S 0.3
/* Of longer recordings this much is examined: their loudest stretch is no better evidence. */
#define ANALYZE_LONGEST_S 300.0

typedef struct analysis {
    analysis_verdict verdict;
    /* 100 less the confidence (in percent) in the most likely fault: below 50 the sound fails. It
     * says how sure the verdict is, not how pleasant the voice is. */
    double score;
    findings found; /* hypotheses, most likely first; those of FINDING_FAULT or more are faults */
    int rate_hz;
    double seconds; /* examined */
    level_facts level;
    splice_facts splice;
    voice_facts voice;
    reference_facts reference; /* where there is a reference */
    recode_facts codec;        /* where there is a codec */
} analysis;

/* Examine n mono samples, nominal range -1..1 (values that are no finite numbers count as 0 and
 * are a finding). Fails only for want of memory or of kissfft. Threads: any number at once. */
int analyze_pcm(analysis *out, const float *pcm, size_t n, int rate_hz, app_error *err);

/* Add what the channels of a file say together: `cancel` is the power of their mean relative to the
 * mean of their powers. */
void analyze_channels(analysis *a, double cancel);

/* Compare with what it should be; pcm, n and rate as in analyze_pcm(). */
int analyze_reference(analysis *a, const float *pcm, size_t n, const sound *reference,
                      app_error *err);

/* Through a codec; `codes`, or NULL, are what it should have been decoded from. */
int analyze_codec(analysis *a, const float *pcm, size_t n, const codec_opener *opener,
                  const code_rows *codes, app_error *err);

/* Add what a file says of its own length: found_s of promised_s seconds; 0: it promises nothing
 * else than it holds. */
void analyze_length(analysis *a, double found_s, double promised_s);

/* "clean", "garbled", "not speech", "silent", "not the reference", "too short to judge" */
const char *analysis_verdict_name(analysis_verdict verdict);
/* Did it pass? Clean and too short to judge do: nothing was found against them. */
/* Of what is too short to be judged there is none. */
bool analysis_has_score(const analysis *a);
bool analysis_passes(const analysis *a);

#endif
