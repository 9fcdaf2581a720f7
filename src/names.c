#include "names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In a PyTorch name # stands for a number. In the other columns: %N is its N-th number, %sN the
 * codebook that owns weight set N-th number, %+N the number plus one. NULL: the same name. */
typedef struct name_rule {
    const char *pytorch, *candle, *mlx;
} name_rule;

#define SLICE_LAYER(rest)                                                                    \
    "depformer.%s1.transformer.layers.%0." rest, "depformer.slices.%s1.transformer.layers.%" \
                                                 "0." rest

static const name_rule rules[] = {
    {"emb.#.weight", NULL, "audio_embs.%0.weight"},
    {"out_norm.alpha", NULL, "out_norm.weight"},
    {"transformer.layers.#.norm1.alpha", NULL, "transformer.layers.%0.norm1.weight"},
    {"transformer.layers.#.norm2.alpha", NULL, "transformer.layers.%0.norm2.weight"},
    {"transformer.layers.#.self_attn.in_proj_weight", NULL,
     "transformer.layers.%0.self_attn.in_proj.weight"},
    {"depformer_text_emb.weight", "depformer.0.emb.weight", "depformer.slices.0.emb.weight"},
    {"depformer_text_emb.low_rank.weight", "depformer.0.emb.low_rank.weight",
     "depformer.slices.0.emb.low_rank.weight"},
    {"depformer_emb.#.weight", "depformer.%+0.emb.weight", "depformer.slices.%+0.emb.weight"},
    {"depformer_emb.#.low_rank.weight", "depformer.%+0.emb.low_rank.weight",
     "depformer.slices.%+0.emb.low_rank.weight"},
    {"linears.#.weight", "depformer.%0.linear_out.weight", "depformer.slices.%0.linear_out.weight"},
    {"depformer_in.#.weight", "depformer.%s0.linear_in.weight",
     "depformer.slices.%s0.linear_in.weight"},
    {"depformer.layers.#.norm1.alpha", "depformer.0.transformer.layers.%0.norm1.alpha",
     "depformer.slices.0.transformer.layers.%0.norm1.weight"},
    {"depformer.layers.#.norm2.alpha", "depformer.0.transformer.layers.%0.norm2.alpha",
     "depformer.slices.0.transformer.layers.%0.norm2.weight"},
    {"depformer.layers.#.self_attn.in_projs.#.weight",
     "depformer.%s1.transformer.layers.%0.self_attn.in_proj_weight",
     "depformer.slices.%s1.transformer.layers.%0.self_attn.in_proj.weight"},
    {"depformer.layers.#.self_attn.out_projs.#.weight", SLICE_LAYER("self_attn.out_proj.weight")},
    {"depformer.layers.#.gating.#.linear_in.weight", SLICE_LAYER("gating.linear_in.weight")},
    {"depformer.layers.#.gating.#.linear_out.weight", SLICE_LAYER("gating.linear_out.weight")},
};

mo_name_scheme mo_names_scheme(const mo_checkpoint *ck) {
    if (mo_checkpoint_find(ck, "audio_embs.0.weight")) return MO_NAMES_MLX;
    if (mo_checkpoint_find(ck, "depformer.0.linear_in.weight")) return MO_NAMES_CANDLE;
    return MO_NAMES_PYTORCH;
}

mo_names mo_names_detect(const mo_checkpoint *ck, const mo_lm_config *cfg) {
    mo_names n = {.scheme = mo_names_scheme(ck), .dep_q = cfg->dep_q};
    for (int k = cfg->dep_q - 1; k >= 0; k--) {
        n.schedule[k] = cfg->dep_schedule[k];
        n.owner[cfg->dep_schedule[k]] = k;
    }
    return n;
}

/* Does `name` have the form of `pattern`? Fills the numbers its # stand for. */
static bool match(const char *pattern, const char *name, int numbers[2]) {
    for (int n = 0; *pattern; pattern++) {
        if (*pattern != '#') {
            if (*pattern != *name++) return false;
            continue;
        }
        char *end;
        if (*name < '0' || *name > '9' || n == 2) return false;
        numbers[n++] = (int)strtol(name, &end, 10);
        name = end;
    }
    return *name == 0;
}

static void expand(const mo_names *names, const char *form, const int numbers[2], char *out) {
    size_t n = 0;
    for (; *form && n + 16 < MO_TENSOR_NAME_BYTES; form++) {
        if (*form != '%') {
            out[n++] = *form;
            continue;
        }
        char how = *++form;
        if (how == 's' || how == '+') form++;
        int number = numbers[*form - '0'];
        if (how == '+') number++;
        if (how == 's' && number >= 0 && number < MO_MAX_CODEBOOKS) number = names->owner[number];
        n += (size_t)snprintf(out + n, 16, "%d", number);
    }
    out[n] = 0;
}

void mo_names_translate(const mo_names *names, const char *name, char out[MO_TENSOR_NAME_BYTES]) {
    int numbers[2] = {0};
    for (size_t i = 0; names->scheme != MO_NAMES_PYTORCH && i < sizeof rules / sizeof *rules; i++) {
        const char *form = names->scheme == MO_NAMES_CANDLE ? rules[i].candle : rules[i].mlx;
        if (!form || !match(rules[i].pytorch, name, numbers)) continue;
        expand(names, form, numbers, out);
        return;
    }
    snprintf(out, MO_TENSOR_NAME_BYTES, "%s", name);
}

bool mo_names_copy_of(const mo_names *names, const char *name, char out[MO_TENSOR_NAME_BYTES]) {
    const char *prefix = names->scheme == MO_NAMES_MLX ? "depformer.slices." : "depformer.";
    size_t n = strlen(prefix);
    if (names->scheme == MO_NAMES_PYTORCH || strncmp(name, prefix, n) != 0) return false;
    if (name[n] < '0' || name[n] > '9') return false;
    char *rest;
    long k = strtol(name + n, &rest, 10);
    if (k < 0 || k >= names->dep_q || *rest != '.') return false;
    bool inner = !strncmp(rest, ".transformer.", 13), in = !strncmp(rest, ".linear_in.", 11);
    /* Norms are shared by all sets, the rest of a small model by the codebooks of its set. */
    bool norm = inner && (strstr(rest, ".norm1.") || strstr(rest, ".norm2."));
    int owner = norm ? 0 : names->owner[names->schedule[k]];
    if ((!inner && !in) || owner == k) return false;
    snprintf(out, MO_TENSOR_NAME_BYTES, "%s%d%s", prefix, owner, rest);
    return true;
}
