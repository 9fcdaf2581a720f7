/* oracle_lm.h - the language model written down a second time: the whole history at once, double
 * precision, plain loops, no key/value cache and no token ring. */
#ifndef MO_TESTS_ORACLE_LM_H
#define MO_TESTS_ORACLE_LM_H

#include "config.h"
#include "tensors.h"

/* Model input of every step and what comes out of it, from the tokens that were given and chosen:
 * user [steps, n_q - dep_q], text [steps], audio [steps, dep_q] -> in [steps, 1 + n_q],
 * out [steps, 1 + dep_q] (MOSHI_NO_TOKEN during the first max_delay steps). */
void oracle_grid(const mo_lm_config *c, int steps, const int32_t *user, const int32_t *text,
                 const int32_t *audio, int32_t *in, int32_t *out);

/* Everything the temporal transformer computes for `n` steps. */
typedef struct oracle_temporal {
    double *hidden; /* [n, layers, dim] output of each layer */
    double *normed; /* [n, dim] after out_norm */
    double *logits; /* [n, text_card_out] */
} oracle_temporal;

/* in: [n, 1 + n_q]; the first row stands at absolute position `pos`. */
void oracle_lm_temporal(const mo_lm_config *c, const tensors *w, const int32_t *in, int n,
                        int64_t pos, oracle_temporal *out);
void oracle_temporal_free(oracle_temporal *o);

/* The depth transformer of one step. `normed` [dim]; the chain is fed text and audio [dep_q]
 * (audio[k] is what follows codebook k, whatever the logits say). Writes hidden [dep_q, dep_dim]
 * and logits [dep_q, card]. */
void oracle_lm_depth(const mo_lm_config *c, const tensors *w, const double *normed, int text,
                     const int32_t *audio, double *hidden, double *logits);
/* As above, but every token is the most likely one: fills audio. */
void oracle_lm_depth_greedy(const mo_lm_config *c, const tensors *w, const double *normed, int text,
                            int32_t *audio);

/* First maximum, and how far the second one is below it. */
int oracle_argmax(const double *logits, int n, double *margin);

#endif
