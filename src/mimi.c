#include "mimi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- loading ------------------------------------------------------------------------------ */

/* One convolution of SEANet; `name` without ".conv.conv.weight". */
static mo_conv load_conv(mo_loader *ld, int out, int in, int k, int stride, int dilation,
                         const char *name) {
    mo_conv c = {.taps = k, .stride = stride, .dilation = dilation};
    c.w = mo_load_conv(ld, out, in, k, "%s.conv.conv.weight", name);
    c.bias = mo_load_vector(ld, out, "%s.conv.conv.bias", name);
    return c;
}

static mo_conv load_convt(mo_loader *ld, int in, int out, int stride, const char *name) {
    mo_conv c = {.taps = 2, .stride = 1, .dilation = 1};
    c.w = mo_load_convt(ld, in, out, 2 * stride, stride, "%s.convtr.convtr.weight", name);
    c.bias = mo_load_vector_tiled(ld, out, stride, "%s.convtr.convtr.bias", name);
    return c;
}

/* Residual blocks of one level; returns the next free module number. */
static int load_residuals(mo_loader *ld, const mo_mimi_config *cfg, const char *side, int index,
                          mo_mimi_level *level) {
    int c = level->channels, hidden = c / cfg->compress, dilation = 1;
    for (int j = 0; j < cfg->residual_layers; j++, dilation *= cfg->dilation_base, index++) {
        char name[96];
        level->res[j].index = index;
        snprintf(name, sizeof name, "%s.model.%d.block.1", side, index);
        level->res[j].wide = load_conv(ld, hidden, c, cfg->residual_kernel, 1, dilation, name);
        snprintf(name, sizeof name, "%s.model.%d.block.3", side, index);
        level->res[j].narrow = load_conv(ld, c, hidden, 1, 1, 1, name);
    }
    return index;
}

/* Do the layers that see two rows a frame take longer to read than to compute? Then the decoder
 * keeps them in 16 bits: nobody hears it. The encoder never does, its codes must be exact. */
static bool is_large(const mo_mimi_config *cfg) {
    return (int64_t)cfg->layers * cfg->dimension * cfg->dimension >= 1 << 20;
}

/* A convolution with `rows` rows a frame: with many it pays to split numbers where the device
 * multiplies pieces faster. Three pieces err less than a float32 sum does: codes stay what they
 * are. Two err by less than 2^-15: nobody hears it. Three are six bytes to read instead of four. */
static int pieces_for(const mo_mimi_config *cfg, int rows, int pieces) {
    return is_large(cfg) && rows >= (pieces == 3 ? 32 : 16) ? pieces : 0;
}

/* Layers with few rows a frame wait for their weights: three digits are a byte less than a float32
 * and err less than its sums, two are the bytes of a float16; either is half of as many pieces,
 * which is why they are taken for 96 rows too. */
static int digits_for(const mo_mimi_config *cfg, int rows, int digits) {
    return is_large(cfg) && rows <= 96 ? digits : 0;
}

/* Modules are numbered as the reference's sequential container does: activations count too. */
static void load_seanet_encoder(mo_loader *ld, mo_mimi *m) {
    const mo_mimi_config *cfg = &m->cfg;
    mo_mimi_half *h = &m->enc;
    char name[96];
    int channels = cfg->filters, index = 1, rows = cfg->frame_samples;
    h->first = load_conv(ld, channels, 1, cfg->kernel, 1, 1, "encoder.model.0");
    for (int i = 0; i < cfg->n_ratios; i++) {
        mo_mimi_level *level = &h->levels[i];
        level->stride = cfg->ratios[cfg->n_ratios - 1 - i];
        level->channels = channels;
        ld->pieces = pieces_for(cfg, rows, 3);
        ld->digits = digits_for(cfg, rows, 3);
        index = load_residuals(ld, cfg, "encoder", index, level) + 1;
        level->index = index++;
        snprintf(name, sizeof name, "encoder.model.%d", level->index);
        rows /= level->stride;
        ld->pieces = pieces_for(cfg, rows, 3);
        ld->digits = digits_for(cfg, rows, 3);
        level->resample =
            load_conv(ld, 2 * channels, channels, 2 * level->stride, level->stride, 1, name);
        channels *= 2;
    }
    ld->pieces = 0;
    h->last_index = index + 1;
    snprintf(name, sizeof name, "encoder.model.%d", h->last_index);
    h->last = load_conv(ld, cfg->dimension, channels, cfg->last_kernel, 1, 1, name);
    ld->digits = 0;
}

static void load_seanet_decoder(mo_loader *ld, mo_mimi *m) {
    const mo_mimi_config *cfg = &m->cfg;
    mo_mimi_half *h = &m->dec;
    char name[96];
    int channels = cfg->filters << cfg->n_ratios, index = 1, rows = cfg->stride;
    ld->half = is_large(cfg); /* up to the first change of rate, whose input has two rows */
    ld->digits = digits_for(cfg, rows, 2);
    h->first = load_conv(ld, channels, cfg->dimension, cfg->kernel, 1, 1, "decoder.model.0");
    for (int i = 0; i < cfg->n_ratios; i++) {
        mo_mimi_level *level = &h->levels[i];
        level->stride = cfg->ratios[i];
        level->channels = channels / 2;
        level->index = index + 1;
        snprintf(name, sizeof name, "decoder.model.%d", level->index);
        ld->pieces = pieces_for(cfg, rows, 2);
        ld->digits = digits_for(cfg, rows, 2);
        level->resample = load_convt(ld, channels, channels / 2, level->stride, name);
        ld->half = false;
        rows *= level->stride;
        ld->pieces = pieces_for(cfg, rows, 2);
        ld->digits = digits_for(cfg, rows, 2);
        index = load_residuals(ld, cfg, "decoder", level->index + 1, level);
        channels /= 2;
    }
    h->last_index = index + 1;
    snprintf(name, sizeof name, "decoder.model.%d", h->last_index);
    h->last = load_conv(ld, 1, channels, cfg->last_kernel, 1, 1, name);
    ld->pieces = 0;
}

static mo_layer_shape mimi_layer_shape(const mo_mimi_config *cfg) {
    return (mo_layer_shape){.dim = cfg->dimension,
                            .heads = cfg->heads,
                            .kv_heads = cfg->heads,
                            .head_dim = cfg->dimension / cfg->heads,
                            .hidden = cfg->feed_forward,
                            .norm = MO_NORM_LAYER,
                            .norm_eps = 1e-5f,
                            .rope = MO_ROPE_PAIRS,
                            .context = cfg->context};
}

static void load_transformer(mo_loader *ld, const mo_mimi_config *cfg, const char *side,
                             mo_mimi_half *h) {
    mo_layer_shape s = mimi_layer_shape(cfg);
    char p[96];
    h->layers = mo_calloc((size_t)cfg->layers + 1, sizeof *h->layers);
    if (!h->layers) {
        if (!ld->failed) ld->failed = mo_fail(ld->err, MOSHI_ENOMEM, "out of memory");
        return;
    }
    h->rope_freq = mo_load_rope_freq(ld, s.head_dim, cfg->max_period);
    for (int i = 0; i < cfg->layers; i++) {
        mo_layer *l = &h->layers[i];
        snprintf(p, sizeof p, "%s_transformer.transformer.layers.%d.self_attn.", side, i);
        l->in_proj = mo_load_projection(ld, p, "in_proj", 0, 1, mo_layer_qkv_rows(&s), s.dim);
        l->out_proj = mo_load_projection(ld, p, "out_proj", 0, 1, s.dim, s.dim);
        snprintf(p, sizeof p, "%s_transformer.transformer.layers.%d", side, i);
        l->norm1 = mo_load_vector(ld, s.dim, "%s.norm1.weight", p);
        l->norm1_bias = mo_load_vector(ld, s.dim, "%s.norm1.bias", p);
        l->norm2 = mo_load_vector(ld, s.dim, "%s.norm2.weight", p);
        l->norm2_bias = mo_load_vector(ld, s.dim, "%s.norm2.bias", p);
        l->scale1 = mo_load_vector(ld, s.dim, "%s.layer_scale_1.scale", p);
        l->scale2 = mo_load_vector(ld, s.dim, "%s.layer_scale_2.scale", p);
        l->linear1 = mo_load_matrix(ld, MO_LAYOUT_STRIPS, s.hidden, s.dim, "%s.linear1.weight", p);
        l->linear2 = mo_load_matrix(ld, MO_LAYOUT_STRIPS, s.dim, s.hidden, "%s.linear2.weight", p);
    }
}

/* Where codebook c lives: group 0 semantic, 1 acoustic, each quantising the latent on its own. */
static void codebook_prefix(const mo_mimi_config *cfg, int c, char *out, size_t cap) {
    bool acoustic = c >= cfg->semantic_codebooks;
    snprintf(out, cap, "quantizer.%s.vq.layers.%d._codebook.", acoustic ? "rvq_rest" : "rvq_first",
             acoustic ? c - cfg->semantic_codebooks : c);
}

static void load_quantizer(mo_loader *ld, mo_mimi *m) {
    static const char *const groups[] = {"rvq_first", "rvq_rest"};
    const mo_mimi_config *cfg = &m->cfg;
    char p[96];
    for (int g = 0; g < 2; g++) {
        snprintf(p, sizeof p, "quantizer.%s.", groups[g]);
        if (g == 1 && m->codebooks <= cfg->semantic_codebooks) {
            mo_load_ignore(ld, p);
            continue;
        }
        ld->digits = digits_for(cfg, 1, 3);
        if (m->has_encoder)
            m->enc.proj[g] =
                mo_load_conv(ld, cfg->codebook_dim, cfg->dimension, 1, "%sinput_proj.weight", p);
        ld->digits = digits_for(cfg, 1, 2);
        if (m->has_decoder)
            m->dec.proj[g] =
                mo_load_conv(ld, cfg->dimension, cfg->codebook_dim, 1, "%soutput_proj.weight", p);
        ld->digits = 0;
        snprintf(p, sizeof p, "quantizer.%s.%s", groups[g],
                 m->has_encoder ? "output_proj." : "input_proj.");
        if (!m->has_encoder || !m->has_decoder) mo_load_ignore(ld, p);
    }
    for (int c = 0; c < cfg->codebooks; c++) {
        codebook_prefix(cfg, c, p, sizeof p);
        if (c >= m->codebooks) {
            mo_load_ignore(ld, p);
            continue;
        }
        ld->half = m->has_encoder && is_large(cfg); /* exact all the same, and so are digits */
        ld->digits = ld->half ? 1 : 0;
        m->search[c] = mo_load_codebook(ld, cfg->bins, cfg->codebook_dim, p);
        m->entries[c] = m->search[c].entries;
        ld->half = false;
        ld->digits = 0;
    }
}

int mo_mimi_load(mo_mimi *m, const mo_mimi_config *cfg, int codebooks, bool encoder, bool decoder,
                 mo_loader *ld) {
    memset(m, 0, sizeof *m);
    m->cfg = *cfg;
    m->codebooks = codebooks;
    m->has_encoder = encoder;
    m->has_decoder = decoder;
    int s = cfg->stride;
    if (encoder) {
        load_seanet_encoder(ld, m);
        ld->digits = digits_for(cfg, s, 3);
        load_transformer(ld, cfg, "encoder", &m->enc);
        if (s > 1)
            m->enc.rate = mo_load_conv(ld, cfg->dimension, cfg->dimension, 2 * s,
                                       "downsample.conv.conv.conv.weight");
        ld->digits = 0;
    } else {
        mo_load_ignore(ld, "encoder.");
        mo_load_ignore(ld, "encoder_transformer.");
        mo_load_ignore(ld, "downsample.");
    }
    if (decoder) {
        load_seanet_decoder(ld, m);
        ld->half = is_large(cfg);
        ld->digits = digits_for(cfg, s, 2);
        load_transformer(ld, cfg, "decoder", &m->dec);
        ld->half = false;
        ld->digits = 0;
        if (s > 1)
            m->dec.rate = mo_load_depthwise(ld, cfg->dimension, 2 * s,
                                            "upsample.convtr.convtr.convtr.weight");
    } else {
        mo_load_ignore(ld, "decoder.");
        mo_load_ignore(ld, "decoder_transformer.");
        mo_load_ignore(ld, "upsample.");
    }
    load_quantizer(ld, m);
    return ld->failed;
}

void mo_mimi_free(mo_mimi *m) {
    free(m->enc.layers);
    free(m->dec.layers);
    memset(m, 0, sizeof *m);
}

/* ---- recording ---------------------------------------------------------------------------- */

static const mo_view absent = {0};

/* What one level works in. Rows are those of a pass: see passes_of. */
typedef struct level_run {
    mo_view x; /* before the change of rate in the encoder, after it in the decoder */
    mo_stream in[MO_MAX_RESIDUAL_LAYERS], hidden[MO_MAX_RESIDUAL_LAYERS];
    mo_stream resample;
} level_run;

/* Of the encoder, or with a transposed convolution in front of `rows` rows the decoder's. */
static level_run level_new(mo_graph *g, const mo_mimi *m, const mo_mimi_level *level, int rows,
                           bool transposed) {
    const mo_conv *resample = &level->resample;
    level_run run = {.x = mo_scratch(g, rows, level->channels)};
    for (int j = 0; j < m->cfg.residual_layers; j++) {
        run.in[j] = mo_stream_new(g, mo_conv_left(&level->res[j].wide), rows, level->channels);
        run.hidden[j] = mo_stream_new(g, 0, rows, level->channels / m->cfg.compress);
    }
    run.resample =
        transposed ? mo_stream_new(g, resample->taps - 1, rows / level->stride, 2 * level->channels)
                   : mo_stream_new(g, mo_conv_left(resample), rows, level->channels);
    return run;
}

/* x += narrow(elu(wide(elu(x)))) for every residual block of a level. */
static void record_residuals(mo_graph *g, const mo_mimi *m, const mo_mimi_level *level,
                             const level_run *run, const char *side) {
    const mo_view x = run->x;
    for (int j = 0; j < m->cfg.residual_layers; j++) {
        const mo_stream *in = &run->in[j], *hidden = &run->hidden[j];
        int n = level->res[j].index;
        mo_act_pass(g, MO_ACT_ELU, x, in->fresh);
        mo_tap_channels(g, in->fresh, "mimi.%s.model.%d.elu1", side, n);
        mo_conv_run(g, &level->res[j].wide, in, absent, hidden->fresh);
        mo_tap_channels(g, hidden->fresh, "mimi.%s.model.%d.conv1", side, n);
        mo_act_pass(g, MO_ACT_ELU, hidden->fresh, hidden->fresh);
        mo_tap_channels(g, hidden->fresh, "mimi.%s.model.%d.elu2", side, n);
        mo_conv_run(g, &level->res[j].narrow, hidden, x, x);
        mo_tap_channels(g, x, "mimi.%s.model.%d", side, n);
    }
}

/* Levels with so many rows a frame go through the codec call by call, several of them one call
 * after the other, for what they work in then stays in a core's cache. The others take all calls
 * at once: their weights are the longer way. A device that has all memory at hand takes all. */
enum { PASS_ROWS = 256 };

static int passes_of(const mo_graph *g, const mo_mimi_run *run) {
    return g->arena->be->ops->caches && run->calls > 1 ? run->calls : 1;
}

/* The transformer stack, in place on x. */
static void record_transformer(mo_graph *g, const mo_mimi *m, const mo_mimi_half *h,
                               const mo_mimi_run *run, const char *side, mo_view x) {
    mo_layer_shape shape = mimi_layer_shape(&m->cfg);
    const int calls = run->calls ? run->calls : 1, rows = x.rows / calls;
    mo_view starts[MO_MIMI_MAX_FRAMES] = {{0}};
    for (int c = 0; c < calls; c++) starts[c] = mo_state_view(g, 1, 1, c * rows);
    mo_layer_time time = {.pos = starts[0],
                          .table = mo_scratch(g, x.rows, shape.head_dim),
                          .calls = calls,
                          .starts = starts};
    mo_layer_scratch s = mo_layer_scratch_new(g, &shape, x.rows);
    /* The reference keeps `context` keys and writes a whole call before it attends, so the first
     * queries of a call miss keys that were just overwritten; room for one call more avoids that.
     */
    int capacity = m->cfg.context + (run->exact_mask ? rows - 1 : 0);
    if (capacity < rows) capacity = rows;
    mo_rope_table(g, h->rope_freq, time.pos, time.table);
    for (int i = 0; i < m->cfg.layers; i++) {
        mo_kv kv = mo_kv_ring(g, MO_F32, shape.kv_heads, capacity, shape.head_dim);
        char name[40];
        snprintf(name, sizeof name, "mimi.%s.transformer.%02d", side, i);
        mo_layer_attention(g, &shape, &h->layers[i], &s, &time, kv, x, name);
        mo_layer_feed_forward(g, &shape, &h->layers[i], &s, x, name);
    }
    for (int c = 0; c < calls; c++) mo_advance(g, starts[c], x.rows);
}

static void record_encoder_level(mo_graph *g, const mo_mimi *m, const mo_mimi_level *level,
                                 const level_run *run, mo_view out) {
    record_residuals(g, m, level, run, "enc");
    mo_act_pass(g, MO_ACT_ELU, run->x, run->resample.fresh);
    mo_tap_channels(g, run->resample.fresh, "mimi.enc.model.%d.elu", level->index);
    mo_conv_run(g, &level->resample, &run->resample, absent, out);
    mo_tap_channels(g, out, "mimi.enc.model.%d", level->index);
}

/* Pass `n` of the first convolution and of levels 0 .. end-1. */
static void record_encoder_pass(mo_graph *g, const mo_mimi *m, const mo_stream *in, int n,
                                const level_run *runs, int end) {
    const mo_mimi_half *h = &m->enc;
    const int rows = runs[0].x.rows;
    const mo_view samples = mo_rows(in->all, n * rows, in->left + rows);
    mo_conv_part(g, &h->first, samples, absent, runs[0].x);
    mo_tap_channels(g, runs[0].x, "mimi.enc.model.0");
    for (int i = 0; i < end; i++) {
        mo_view out = runs[i + 1].x;
        const int fewer = runs[i].x.rows / h->levels[i].stride;
        if (i + 1 == end) out = mo_rows(out, n * fewer, fewer);
        record_encoder_level(g, m, &h->levels[i], &runs[i], out);
    }
}

/* Samples in, latents at the transformer's rate out (written to `latent`). */
static mo_view record_seanet_encoder(mo_graph *g, const mo_mimi *m, const mo_mimi_run *run,
                                     mo_view latent) {
    const mo_mimi_half *h = &m->enc;
    const int n = m->cfg.n_ratios, passes = passes_of(g, run);
    int rows = m->cfg.frame_samples, end = 0;
    level_run runs[MO_MAX_RATIOS + 1];
    mo_stream in = mo_stream_new(g, mo_conv_left(&h->first), run->frames * rows, 1);
    for (int i = 0; i < n; rows /= h->levels[i++].stride) {
        const bool parted = passes > 1 && rows >= PASS_ROWS;
        if (parted) end = i + 1;
        runs[i] = level_new(g, m, &h->levels[i], run->frames / (parted ? passes : 1) * rows, false);
    }
    mo_stream s = mo_stream_new(g, mo_conv_left(&h->last), run->frames * rows, m->cfg.filters << n);
    runs[n].x = mo_scratch(g, s.fresh.rows, s.fresh.cols);
    for (int i = 0; i < (end ? passes : 1); i++) record_encoder_pass(g, m, &in, i, runs, end);
    mo_stream_shift(g, &in);
    for (int i = end; i < n; i++)
        record_encoder_level(g, m, &h->levels[i], &runs[i], runs[i + 1].x);
    mo_act_pass(g, MO_ACT_ELU, runs[n].x, s.fresh);
    mo_tap_channels(g, s.fresh, "mimi.enc.model.%d.elu", h->last_index);
    mo_conv_run(g, &h->last, &s, absent, latent);
    mo_tap_channels(g, latent, "mimi.enc.model.%d", h->last_index);
    mo_tap_channels(g, latent, "mimi.enc.seanet");
    return in.fresh;
}

/* Residual quantisation of the projected latent with codebooks first .. last-1. */
static void record_rvq_encode(mo_graph *g, const mo_mimi *m, mo_view latent, const mo_weight *proj,
                              int first, int last, mo_view codes) {
    mo_view residual = mo_scratch(g, latent.rows, m->cfg.codebook_dim);
    mo_view scores = mo_scratch(g, latent.rows, m->cfg.bins);
    mo_op_linear project = {.w = proj, .in = latent, .out = residual};
    project.taps = project.stride = project.dilation = 1;
    mo_linear(g, &project);
    for (int c = first; c < last; c++) {
        const mo_codebook *book = &m->search[c];
        mo_op_linear score = {
            .w = book->search, .bias = book->half_norms, .in = residual, .out = scores};
        score.taps = score.stride = score.dilation = 1;
        mo_linear(g, &score);
        mo_rvq_pick(g, &(mo_op_rvq_pick){.codebook = book->entries,
                                         .blurs = book->blurs,
                                         .blur = book->blur,
                                         .scores = scores,
                                         .residual = residual,
                                         .codes = mo_cols(codes, c, 1)});
    }
}

void mo_mimi_record_encoder(mo_graph *g, const mo_mimi *m, const mo_mimi_run *run, mo_view *audio,
                            mo_view codes) {
    const mo_mimi_config *cfg = &m->cfg;
    int stride = cfg->stride, rows = run->frames * stride;
    /* The downsampling convolution's buffer is where the transformer works: no copy. */
    mo_stream steps = mo_stream_new(g, stride > 1 ? stride : 0, rows, cfg->dimension);
    mo_view latent = steps.fresh;
    /* calls so far: tells the first one, whose padding is special */
    mo_view calls = mo_state_view(g, 1, 1, 0);
    *audio = record_seanet_encoder(g, m, run, steps.fresh);
    record_transformer(g, m, &m->enc, run, "enc", steps.fresh);
    mo_tap_channels(g, steps.fresh, "mimi.enc.transformer");
    if (stride > 1) {
        mo_conv down = {.w = m->enc.rate, .taps = 2 * stride, .stride = stride, .dilation = 1};
        latent = mo_scratch(g, run->frames, cfg->dimension);
        mo_pad_first(g, steps.all, calls, steps.left);
        mo_conv_run(g, &down, &steps, absent, latent);
    }
    mo_advance(g, calls, 1);
    mo_tap_channels(g, latent, "mimi.enc.latent");
    int semantic =
        cfg->semantic_codebooks < run->codebooks ? cfg->semantic_codebooks : run->codebooks;
    record_rvq_encode(g, m, latent, m->enc.proj[0], 0, semantic, codes);
    if (run->codebooks > semantic)
        record_rvq_encode(g, m, latent, m->enc.proj[1], semantic, run->codebooks, codes);
    mo_tap_i32(g, codes, "mimi.enc.codes");
}

/* Sum of entries first .. last-1, projected; added to `add` when present. */
static void record_rvq_decode(mo_graph *g, const mo_mimi *m, const mo_weight *proj, int first,
                              int last, mo_view codes, mo_view add, mo_view out) {
    mo_view sum = mo_scratch(g, codes.rows, m->cfg.codebook_dim);
    mo_embed_sum(g, &m->entries[first], last - first, mo_cols(codes, first, last - first), sum,
                 false);
    mo_op_linear project = {.w = proj, .in = sum, .add = add, .out = out};
    project.taps = project.stride = project.dilation = 1;
    mo_linear(g, &project);
}

static void record_decoder_level(mo_graph *g, const mo_mimi *m, const mo_mimi_level *level,
                                 const level_run *run, mo_view in) {
    mo_act_pass(g, MO_ACT_ELU, in, run->resample.fresh);
    mo_tap_channels(g, run->resample.fresh, "mimi.dec.model.%d.elu", level->index);
    mo_convt_run(g, &level->resample, &run->resample, run->x);
    mo_tap_channels(g, run->x, "mimi.dec.model.%d", level->index);
    record_residuals(g, m, level, run, "dec");
}

/* Pass `n` of levels first .. and of the last convolution, whose input is `s`; x is what all passes
 * begin with. */
static void record_decoder_pass(mo_graph *g, const mo_mimi *m, int n, const level_run *runs,
                                int first, mo_view x, const mo_stream *s, mo_view audio) {
    const mo_mimi_half *h = &m->dec;
    const int rows = s->fresh.rows;
    for (int i = first; i < m->cfg.n_ratios; i++) {
        const int fewer = runs[i].resample.fresh.rows;
        if (i == first) x = mo_rows(x, n * fewer, fewer);
        record_decoder_level(g, m, &h->levels[i], &runs[i], x);
        x = runs[i].x;
    }
    if (first == m->cfg.n_ratios) x = mo_rows(x, n * rows, rows);
    mo_act_pass(g, MO_ACT_ELU, x, s->fresh);
    mo_tap_channels(g, s->fresh, "mimi.dec.model.%d.elu", h->last_index);
    mo_conv_run(g, &h->last, s, absent, mo_rows(audio, n * rows, rows));
}

static void record_seanet_decoder(mo_graph *g, const mo_mimi *m, const mo_mimi_run *run,
                                  const mo_stream *latent, mo_view audio) {
    const mo_mimi_half *h = &m->dec;
    const int n = m->cfg.n_ratios, passes = passes_of(g, run);
    int rows = m->cfg.stride, first = n;
    level_run runs[MO_MAX_RATIOS];
    mo_view x = mo_scratch(g, latent->fresh.rows, m->cfg.filters << n);
    for (int i = 0; i < n; i++) {
        rows *= h->levels[i].stride;
        const bool parted = passes > 1 && rows >= PASS_ROWS;
        if (parted && first == n) first = i;
        runs[i] = level_new(g, m, &h->levels[i], run->frames / (parted ? passes : 1) * rows, true);
    }
    mo_stream s = mo_stream_new(g, mo_conv_left(&h->last), audio.rows / (first < n ? passes : 1),
                                m->cfg.filters);
    mo_conv_run(g, &h->first, latent, absent, x);
    mo_tap_channels(g, x, "mimi.dec.model.0");
    for (int i = 0; i < first; x = runs[i++].x)
        record_decoder_level(g, m, &h->levels[i], &runs[i], x);
    for (int i = 0; i < (first < n ? passes : 1); i++)
        record_decoder_pass(g, m, i, runs, first, x, &s, audio);
}

void mo_mimi_record_decoder(mo_graph *g, const mo_mimi *m, const mo_mimi_run *run, mo_view codes,
                            mo_view *audio) {
    const mo_mimi_config *cfg = &m->cfg;
    int stride = cfg->stride, taps = stride > 1 ? 2 : 1;
    mo_stream quantized = mo_stream_new(g, taps - 1, run->frames, cfg->dimension);
    mo_stream steps =
        mo_stream_new(g, mo_conv_left(&m->dec.first), run->frames * stride, cfg->dimension);
    int semantic =
        cfg->semantic_codebooks < run->codebooks ? cfg->semantic_codebooks : run->codebooks;
    mo_view q = stride > 1 ? quantized.fresh : steps.fresh;
    record_rvq_decode(g, m, m->dec.proj[0], 0, semantic, codes, absent, q);
    if (run->codebooks > semantic)
        record_rvq_decode(g, m, m->dec.proj[1], semantic, run->codebooks, codes, q, q);
    mo_tap_channels(g, q, "mimi.dec.quantized");
    if (stride > 1) {
        mo_upsample(g, m->dec.rate, taps, stride, quantized.all, steps.fresh);
        mo_stream_shift(g, &quantized);
    }
    mo_tap_channels(g, steps.fresh, "mimi.dec.upsampled");
    record_transformer(g, m, &m->dec, run, "dec", steps.fresh);
    mo_tap_channels(g, steps.fresh, "mimi.dec.transformer");
    *audio = mo_scratch(g, run->frames * cfg->frame_samples, 1);
    record_seanet_decoder(g, m, run, &steps, *audio);
    mo_tap_channels(g, *audio, "mimi.dec.audio");
}
