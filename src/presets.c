#include "presets.h"

#include "foreign.h"

#include "names.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- the table ------------------------------------------------------------------------------ */

/* moshi-7b: kyutai/moshiko-* and kyutai/moshika-*, which carry no config.json: the defaults that
 *   Kyutai's loader has for them. 7 687 729 152 parameters.
 * personaplex-7b: nvidia/personaplex-7b-v1, whose config.json gives a name and a version only: the
 *   same with all 16 channels spoken. 8 371 408 896 parameters.
 * stt-1b, stt-2.6b: kyutai/stt-1b-en_fr and kyutai/stt-2.6b-en, whose configurations get lost when
 *   the weights are converted. 989 204 480 parameters without the extra heads, and 2 617 118 720.
 *
 * To measure with; the published ones bring their own config.json:
 * hibiki-2b: the config.json of kyutai/hibiki-2b-pytorch-bf16, without its condition.
 * hibiki-1b: rust/s2st-1b.toml of Kyutai's repository, without its condition.
 * tts-1.6b: the config.json of kyutai/tts-1.6b-en_fr, without what this version does not compute:
 *   cross-attention, conditions and the second text stream, 282 of 1837 million parameters. */
static const mo_preset presets[] = {
    {"moshi-7b",
     "{\"model_type\": \"moshi\", \"dim\": 4096, \"num_layers\": 32, \"num_heads\": 32,\n"
     " \"hidden_scale\": 4.125, \"causal\": true, \"context\": 3000, \"max_period\": 10000,\n"
     " \"gating\": \"silu\", \"norm\": \"rms_norm_f32\", \"positional_embedding\": \"rope\",\n"
     " \"n_q\": 16, \"dep_q\": 8, \"card\": 2048, \"text_card\": 32000,\n"
     " \"existing_text_padding_id\": 3,\n"
     " \"delays\": [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1],\n"
     " \"depformer_dim\": 1024, \"depformer_num_layers\": 6, \"depformer_num_heads\": 16,\n"
     " \"depformer_dim_feedforward\": 4224, \"depformer_gating\": \"silu\",\n"
     " \"depformer_pos_emb\": \"none\", \"depformer_multi_linear\": true,\n"
     " \"depformer_weights_per_step\": true}\n",
     false},
    {"personaplex-7b",
     "{\"model_type\": \"personaplex\", \"dim\": 4096, \"num_layers\": 32, \"num_heads\": 32,\n"
     " \"hidden_scale\": 4.125, \"causal\": true, \"context\": 3000, \"max_period\": 10000,\n"
     " \"gating\": \"silu\", \"norm\": \"rms_norm_f32\", \"positional_embedding\": \"rope\",\n"
     " \"n_q\": 16, \"dep_q\": 16, \"card\": 2048, \"text_card\": 32000,\n"
     " \"existing_text_padding_id\": 3,\n"
     " \"delays\": [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1],\n"
     " \"depformer_dim\": 1024, \"depformer_num_layers\": 6, \"depformer_num_heads\": 16,\n"
     " \"depformer_dim_feedforward\": 4224, \"depformer_gating\": \"silu\",\n"
     " \"depformer_pos_emb\": \"none\", \"depformer_multi_linear\": true,\n"
     " \"depformer_weights_per_step\": true}\n",
     false},
    {"stt-1b",
     "{\"model_type\": \"stt\", \"dim\": 2048, \"num_layers\": 16, \"num_heads\": 16,\n"
     " \"hidden_scale\": 4.125, \"causal\": true, \"context\": 750, \"max_period\": 100000,\n"
     " \"gating\": \"silu\", \"norm\": \"rms_norm_f32\", \"positional_embedding\": \"rope\",\n"
     " \"n_q\": 32, \"dep_q\": 0, \"card\": 2048, \"text_card\": 8000,\n"
     " \"existing_text_padding_id\": 3,\n"
     " \"delays\": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,\n"
     "  0, 0, 0, 0, 0, 0, 0, 0],\n"
     " \"extra_heads_num_heads\": 4, \"extra_heads_dim\": 6,\n"
     " \"stt_config\": {\"audio_delay_seconds\": 0.5, \"audio_silence_prefix_seconds\": 0.0},\n"
     " \"lm_gen_config\": {\"temp\": 0, \"temp_text\": 0}}\n",
     false},
    {"stt-2.6b",
     "{\"model_type\": \"stt\", \"dim\": 2048, \"num_layers\": 48, \"num_heads\": 32,\n"
     " \"hidden_scale\": 4.125, \"causal\": true, \"context\": 375, \"max_period\": 100000,\n"
     " \"gating\": \"silu\", \"norm\": \"rms_norm_f32\", \"positional_embedding\": \"rope\",\n"
     " \"n_q\": 32, \"dep_q\": 0, \"card\": 2048, \"text_card\": 4000,\n"
     " \"existing_text_padding_id\": 3,\n"
     " \"delays\": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,\n"
     "  0, 0, 0, 0, 0, 0, 0, 0],\n"
     " \"stt_config\": {\"audio_delay_seconds\": 2.5, \"audio_silence_prefix_seconds\": 1.0},\n"
     " \"lm_gen_config\": {\"temp\": 0, \"temp_text\": 0}}\n",
     false},
    {"hibiki-1b",
     "{\"model_type\": \"hibiki\", \"dim\": 2048, \"num_layers\": 16, \"num_heads\": 16,\n"
     " \"hidden_scale\": 4.125, \"causal\": true, \"context\": 3000, \"max_period\": 100000,\n"
     " \"gating\": \"silu\", \"norm\": \"rms_norm_f32\", \"positional_embedding\": \"rope\",\n"
     " \"n_q\": 16, \"dep_q\": 8, \"card\": 2048, \"text_card\": 48000,\n"
     " \"existing_text_padding_id\": 3,\n"
     " \"delays\": [0, 0, 2, 2, 2, 2, 2, 2, 2, 0, 2, 2, 2, 2, 2, 2, 2],\n"
     " \"depformer_dim\": 1024, \"depformer_num_layers\": 6, \"depformer_num_heads\": 16,\n"
     " \"depformer_dim_feedforward\": 4224, \"depformer_gating\": \"silu\",\n"
     " \"depformer_pos_emb\": \"none\", \"depformer_multi_linear\": true,\n"
     " \"depformer_weights_per_step\": true}\n",
     true},
    {"hibiki-2b",
     "{\"model_type\": \"hibiki\", \"dim\": 2560, \"num_layers\": 24, \"num_heads\": 20,\n"
     " \"hidden_scale\": 4.125, \"causal\": true, \"context\": 1500, \"max_period\": 100000,\n"
     " \"gating\": \"silu\", \"norm\": \"rms_norm_f32\", \"positional_embedding\": \"rope\",\n"
     " \"n_q\": 32, \"dep_q\": 16, \"card\": 2048, \"text_card\": 48000,\n"
     " \"existing_text_padding_id\": 3,\n"
     " \"delays\": [0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,\n"
     "  0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2],\n"
     " \"depformer_dim\": 1024, \"depformer_num_layers\": 4, \"depformer_num_heads\": 16,\n"
     " \"depformer_dim_feedforward\": 3072, \"depformer_gating\": \"silu\",\n"
     " \"depformer_pos_emb\": \"none\", \"depformer_multi_linear\": true,\n"
     " \"depformer_weights_per_step\": true, \"depformer_low_rank_embeddings\": 128,\n"
     " \"depformer_weights_per_step_schedule\":\n"
     "  [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8, 8, 8, 8]}\n",
     true},
    {"tts-1.6b",
     "{\"model_type\": \"tts\", \"dim\": 2048, \"num_layers\": 16, \"num_heads\": 16,\n"
     " \"hidden_scale\": 4.125, \"causal\": true, \"context\": 500, \"max_period\": 10000,\n"
     " \"gating\": \"silu\", \"norm\": \"rms_norm_f32\", \"positional_embedding\": \"rope\",\n"
     " \"n_q\": 32, \"dep_q\": 32, \"card\": 2048, \"text_card\": 8000,\n"
     " \"existing_text_padding_id\": 3,\n"
     " \"delays\": [0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,\n"
     "  2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2],\n"
     " \"depformer_dim\": 1024, \"depformer_num_layers\": 4, \"depformer_num_heads\": 16,\n"
     " \"depformer_dim_feedforward\": 3072, \"depformer_gating\": \"silu\",\n"
     " \"depformer_pos_emb\": \"none\", \"depformer_multi_linear\": true,\n"
     " \"depformer_weights_per_step\": true, \"depformer_low_rank_embeddings\": 128,\n"
     " \"depformer_weights_per_step_schedule\":\n"
     "  [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8, 8, 8, 8,\n"
     "   9, 9, 9, 9, 9, 9, 9, 9, 10, 10, 10, 10, 10, 10, 10, 10]}\n",
     true},
};

const mo_preset *mo_preset_at(size_t i) {
    return i < sizeof presets / sizeof *presets ? &presets[i] : NULL;
}

/* ---- reading shapes ------------------------------------------------------------------------- */

typedef struct reader {
    const mo_checkpoint *ck;
    mo_names names;
} reader;

/* A tensor by its PyTorch name. */
static const mo_tensor_view *find(const reader *r, const char *fmt, va_list ap) {
    char name[MO_TENSOR_NAME_BYTES], translated[MO_TENSOR_NAME_BYTES];
    vsnprintf(name, sizeof name, fmt, ap);
    mo_names_translate(&r->names, name, translated);
    return mo_checkpoint_find(r->ck, translated);
}

/* Rows of a matrix in any number format; 0 when there is none. */
MO_PRINTF(2, 3)
static int rows(const reader *r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const mo_tensor_view *t = find(r, fmt, ap);
    va_end(ap);
    return t && t->ndim == 2 && t->shape[0] <= INT32_MAX ? (int)t->shape[0] : 0;
}

/* Elements of a vector. */
MO_PRINTF(2, 3)
static int width(const reader *r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const mo_tensor_view *t = find(r, fmt, ap);
    va_end(ap);
    return t && t->count <= INT32_MAX ? (int)t->count : 0;
}

/* How many there are of a numbered tensor, from 0 on. */
static int count(const reader *r, const char *prefix, const char *suffix) {
    int n = 0;
    while (n < MO_MAX_CHANNELS && width(r, "%s.%d.%s", prefix, n, suffix)) n++;
    return n;
}

static int less_one(int n) {
    return n > 0 ? n - 1 : 0;
}

/* Rows of the attention's first projection, as each port spells it. */
static int in_proj_rows(const reader *r, const char *layer) {
    int n = rows(r, "%s.self_attn.in_proj_weight", layer);
    if (n == 0) n = rows(r, "%s.self_attn.in_proj.weight", layer);
    return n ? n : rows(r, "%s.self_attn.in_projs.0.weight", layer);
}

/* Is there a tensor with `part` in its name? */
static bool has_part(const mo_checkpoint *ck, const char *part) {
    for (size_t i = 0; i < ck->n_tensors; i++)
        if (strstr(ck->tensors[i].name, part)) return true;
    return false;
}

bool mo_lm_shapes_read(mo_lm_shapes *out, const mo_checkpoint *ck) {
    reader r = {.ck = ck, .names = {.scheme = mo_names_scheme(ck), .dep_q = MO_MAX_CODEBOOKS}};
    for (int k = 0; k < MO_MAX_CODEBOOKS; k++) r.names.owner[k] = r.names.schedule[k] = k;
    memset(out, 0, sizeof *out);
    int text = rows(&r, "text_emb.weight");
    if (text == 0) return false;
    out->text_card = less_one(text);
    out->text_card_out = rows(&r, "text_linear.weight");
    out->dim = width(&r, "out_norm.alpha");
    out->layers = count(&r, "transformer.layers", "norm1.alpha");
    out->hidden = rows(&r, "transformer.layers.0.gating.linear_in.weight") / 2;
    int kv = (in_proj_rows(&r, "transformer.layers.0") - out->dim) / 2;
    out->kv_repeat = kv > 0 ? out->dim / kv : 0;
    out->n_q = count(&r, "emb", "weight");
    out->card = less_one(rows(&r, "emb.0.weight"));
    out->dep_q = count(&r, "linears", "weight");
    out->dep_dim = width(&r, "depformer.layers.0.norm1.alpha");
    out->dep_layers = count(&r, "depformer.layers", "norm1.alpha");
    out->dep_hidden = rows(&r, "depformer.layers.0.gating.0.linear_in.weight") / 2;
    out->dep_sets = r.names.scheme == MO_NAMES_PYTORCH ? count(&r, "depformer_in", "weight") : -1;
    out->low_rank = rows(&r, "depformer_text_emb.low_rank.weight") > 0;
    out->extras = has_part(ck, "condition_provider.") || has_part(ck, ".cross_attention.");
    return true;
}

void mo_lm_shapes_text(const mo_lm_shapes *s, char *out, size_t cap) {
    int n = snprintf(out, cap,
                     "dim %d, num_layers %d, feed-forward of %d, n_q %d, dep_q %d, card %d, "
                     "text_card %d",
                     s->dim, s->layers, s->hidden, s->n_q, s->dep_q, s->card, s->text_card);
    if (s->dep_q > 0 && n > 0 && (size_t)n < cap)
        snprintf(out + n, cap - (size_t)n,
                 ", depformer_dim %d, depformer_num_layers %d, feed-forward of %d%s", s->dep_dim,
                 s->dep_layers, s->dep_hidden, s->low_rank ? ", embeddings of low rank" : "");
}

/* ---- choosing ------------------------------------------------------------------------------- */

static bool fits(const mo_lm_shapes *s, const mo_lm_config *c) {
    bool temporal = s->dim == c->dim && s->layers == c->layers && s->hidden == c->hidden &&
                    s->kv_repeat == c->kv_repeat && s->n_q == c->n_q && s->card == c->card &&
                    s->text_card == c->text_card && s->text_card_out == c->text_card_out;
    bool depth = s->dep_q == c->dep_q && s->dep_dim == c->dep_dim &&
                 s->dep_layers == c->dep_layers && s->dep_hidden == c->dep_hidden &&
                 (s->dep_sets < 0 || s->dep_sets == c->dep_sets) &&
                 s->low_rank == (c->dep_low_rank > 0);
    return temporal && depth && !s->extras;
}

static int fail_unknown(const mo_checkpoint *ck, const char *model_type, moshi_error *err) {
    char guess[MO_FOREIGN_BYTES], type[96] = "";
    mo_foreign_checkpoint(ck, guess);
    if (model_type[0]) snprintf(type, sizeof type, "; config.json calls it '%s'", model_type);
    return mo_fail(err, MOSHI_EMODEL,
                   "%s: wanted a language model of the Moshi family, found none of its tensors "
                   "under any of their known names%s%s%s",
                   ck->file.name, *guess ? "; " : "", guess, type);
}

int mo_preset_find(const mo_preset **out, const mo_checkpoint *ck, const char *model_type,
                   moshi_error *err) {
    mo_lm_shapes shapes;
    mo_lm_config c;
    char text[256];
    *out = NULL;
    if (!mo_lm_shapes_read(&shapes, ck)) return fail_unknown(ck, model_type, err);
    for (const mo_preset *p = presets; p < presets + sizeof presets / sizeof *presets; p++) {
        int rc = mo_lm_config_parse(&c, p->config, strlen(p->config), p->name, err);
        if (rc < 0) return rc;
        if (p->has_config || !fits(&shapes, &c) ||
            (model_type[0] && strcmp(model_type, c.model_type) != 0))
            continue;
        *out = p;
        return 0;
    }
    mo_lm_shapes_text(&shapes, text, sizeof text);
    return mo_fail(err, MOSHI_EMODEL,
                   "%s: no config.json gives the model's sizes, and no built-in preset has these: "
                   "%s%s; wanted a config.json with them and with what shapes do not tell: "
                   "num_heads, context, max_period, delays, existing_text_padding_id%s",
                   ck->file.name, text, shapes.extras ? ", with conditions" : "",
                   shapes.dep_q ? ", depformer_num_heads" : "");
}
