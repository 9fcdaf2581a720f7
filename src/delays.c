#include "delays.h"

enum { NOT_GENERATED = -2 };

mo_grid mo_grid_new(mo_graph *g, const mo_lm_config *cfg) {
    return (mo_grid){
        .cache = mo_state_view(g, cfg->max_delay + 2, 1 + cfg->n_q, NOT_GENERATED),
        .step = mo_state_view(g, 1, 1, 0),
        .delays = cfg->delays,
        .n_q = cfg->n_q,
        .dep_q = cfg->dep_q,
        .max_delay = cfg->max_delay,
        .text_initial = cfg->text_card,
        .audio_initial = cfg->card,
    };
}
