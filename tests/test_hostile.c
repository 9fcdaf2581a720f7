/* Model files that are missing something, have too much, or are not what they say: each is refused
 * with the file, the tensor or key, what was wanted and what was found. */
#include "check.h"
#include "drive.h"
#include "make_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static model_spec base;

static int try_engine(const made_model *m, moshi_error *err) {
    moshi_engine *engine;
    moshi_engine_options o = {.blobs = m->blobs, .n_blobs = MADE_BLOBS, .threads = 1};
    memset(err, 0, sizeof *err);
    int rc = moshi_engine_open(&engine, &o, err);
    CHECK(rc == 0 || engine == NULL, "an engine was left behind");
    moshi_engine_close(engine);
    return rc;
}

/* The engine refuses, and its words contain all of `words` (separated by |). */
static void refused(const made_model *m, const char *what, const char *words) {
    moshi_error err;
    char word[256];
    int rc = try_engine(m, &err);
    if (!CHECK(rc == MOSHI_EMODEL && err.code == rc, "%s: code %d (%s)", what, rc, err.text))
        return;
    for (const char *p = words; *p; p += *p == '|') {
        size_t n = strcspn(p, "|");
        snprintf(word, sizeof word, "%.*s", (int)n, p);
        CHECK(strstr(err.text, word), "%s: the message does not say \"%s\": %s", what, word,
              err.text);
        p += n;
    }
    /* what inspect says about it must agree */
    moshi_model_info *info;
    moshi_error ignored;
    if (inspect_blobs_of(&info, m->blobs, MADE_BLOBS, &ignored) == 0) {
        CHECK(!info->runs && info->reason && info->reason[0], "%s: inspect says it runs", what);
        moshi_model_info_free(info);
    }
}

static tensor *lm_tensor(made_model *m, const char *name) {
    tensor *t = tensors_find(&m->lm, name);
    if (!t) test_die("no tensor %s", name);
    return t;
}

static tensor *mimi_tensor(made_model *m, const char *name) {
    tensor *t = tensors_find(&m->mimi, name);
    if (!t) test_die("no tensor %s", name);
    return t;
}

static void rename_tensor(tensor *t, const char *name) {
    free(t->name);
    t->name = test_alloc(strlen(name) + 1, 1);
    strcpy(t->name, name);
}

static void drop_tensor(tensors *set, size_t i) {
    free(set->t[i].name);
    free(set->t[i].f);
    set->n--;
    memmove(&set->t[i], &set->t[i + 1], (set->n - i) * sizeof *set->t);
}

/* ---- tensors ------------------------------------------------------------------------------ */

/* Every tensor of both files in turn is missing. */
static void missing_tensors(void) {
    for (int which = 0; which < 2; which++) {
        for (size_t i = 0;; i++) {
            made_model m;
            char words[512], name[256];
            model_make(&m, &base);
            tensors *set = which ? &m.mimi : &m.lm;
            if (i == set->n) {
                model_free(&m);
                break;
            }
            snprintf(name, sizeof name, "%s", set->t[i].name);
            /* the model speaks and hears two of the codec's four codebooks */
            bool unused = strstr(name, "_initialized") || strstr(name, "rvq_rest.vq.layers.1.") ||
                          strstr(name, "rvq_rest.vq.layers.2.");
            snprintf(words, sizeof words, "%s|%s|missing",
                     which ? "mimi.safetensors" : "model.safetensors", name);
            drop_tensor(set, i);
            model_rebuild(&m);
            moshi_error err;
            if (unused)
                CHECK(try_engine(&m, &err) == 0, "%s is not needed: %s", name, err.text);
            else
                refused(&m, name, words);
            model_free(&m);
        }
    }
}

typedef void (*damage)(made_model *m);

static void surplus(made_model *m) {
    tensor *t = tensors_add(&m->lm, "transformer.layers.2.norm1.alpha", 1, (int64_t[]){32});
    t->f[0] = 1;
}

static void surplus_mimi(made_model *m) {
    tensor *t = tensors_add(&m->mimi, "decoder.model.99.conv.conv.bias", 1, (int64_t[]){4});
    t->f[0] = 1;
}

static void wrong_type(made_model *m) {
    lm_tensor(m, "text_linear.weight")->dtype = MO_I32;
}

static void wrong_type_mimi(made_model *m) {
    mimi_tensor(m, "decoder.model.0.conv.conv.weight")->dtype = MO_U8;
}

static void transposed_shape(made_model *m) {
    tensor *t = lm_tensor(m, "depformer_in.1.weight"); /* [16, 32] */
    t->shape[0] = 32;
    t->shape[1] = 16;
}

static void short_shape(made_model *m) {
    tensor *t = lm_tensor(m, "emb.3.weight");
    t->shape[0]--;
    t->count -= (size_t)t->shape[1];
}

static void flat_shape(made_model *m) {
    tensor *t = mimi_tensor(m, "encoder.model.0.conv.conv.weight"); /* [4, 1, 7] */
    t->ndim = 2;
    t->shape[1] = 7;
}

static void zeroed(made_model *m) {
    tensor *t = lm_tensor(m, "transformer.layers.1.gating.linear_in.weight");
    memset(t->f, 0, t->count * sizeof *t->f);
}

static void zeroed_mimi(made_model *m) {
    tensor *t = mimi_tensor(m, "decoder_transformer.transformer.layers.0.linear2.weight");
    memset(t->f, 0, t->count * sizeof *t->f);
}

static void one_nan(made_model *m) {
    tensor *t = lm_tensor(m, "linears.1.weight");
    t->f[t->count - 1] = NAN;
}

static void all_nan(made_model *m) {
    tensor *t = lm_tensor(m, "out_norm.alpha");
    for (size_t i = 0; i < t->count; i++) t->f[i] = NAN;
}

static void nan_mimi(made_model *m) {
    mimi_tensor(m, "quantizer.rvq_rest.vq.layers.0._codebook.embedding_sum")->f[7] = NAN;
}

static void infinite(made_model *m) {
    lm_tensor(m, "depformer_text_emb.weight")->f[3] = -INFINITY;
}

static void infinite_half(made_model *m) {
    tensor *t = lm_tensor(m, "text_emb.weight");
    t->dtype = MO_F16;
    t->f[3] = INFINITY;
}

static void misnamed(made_model *m) {
    rename_tensor(lm_tensor(m, "emb.1.weight"), "audio_embs.1.weight");
}

static void damaged_tensors(void) {
    static const struct {
        damage damage;
        const char *what, *words;
    } cases[] = {
        {surplus, "surplus tensor", "model.safetensors|transformer.layers.2.norm1.alpha"},
        {surplus_mimi, "surplus tensor of the codec",
         "mimi.safetensors|decoder.model.99.conv.conv.bias"},
        {wrong_type, "integer weights", "model.safetensors|text_linear.weight|I32|BF16"},
        {wrong_type_mimi, "byte weights",
         "mimi.safetensors|decoder.model.0.conv.conv.weight|U8|F32"},
        {transposed_shape, "transposed matrix", "depformer_in.1.weight|[16, 32]|[32, 16]"},
        {short_shape, "a row too few", "emb.3.weight|[25, 32]|[24, 32]"},
        {flat_shape, "an axis too few",
         "mimi.safetensors|encoder.model.0.conv.conv.weight|[4, 1, 7]|[4, 7]"},
        {zeroed, "zeroed matrix", "transformer.layers.1.gating.linear_in.weight|zero"},
        {zeroed_mimi, "zeroed matrix of the codec",
         "mimi.safetensors|decoder_transformer.transformer.layers.0.linear2.weight|zero"},
        {one_nan, "one NaN", "model.safetensors|linears.1.weight|NaN"},
        {all_nan, "NaN everywhere", "out_norm.alpha|NaN"},
        {nan_mimi, "NaN in a codebook",
         "quantizer.rvq_rest.vq.layers.0._codebook.embedding_sum|NaN"},
        {infinite, "infinity", "depformer_text_emb.weight|infinit"},
        {infinite_half, "infinity in half precision", "text_emb.weight|infinit"},
        {misnamed, "another tool's name", "emb.1.weight|missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made_model m;
        model_make(&m, &base);
        cases[i].damage(&m);
        model_rebuild(&m);
        refused(&m, cases[i].what, cases[i].words);
        model_free(&m);
    }
}

/* ---- whole files -------------------------------------------------------------------------- */

static void truncated_files(void) {
    made_model m;
    model_make(&m, &base);
    static const char *const names[] = {"config.json", "model.safetensors", "mimi_config.json",
                                        "mimi.safetensors", "text.model"};
    for (int blob = 0; blob < MADE_BLOBS; blob++) {
        const moshi_blob whole = m.blobs[blob];
        test_rng rng = {(uint64_t)blob};
        for (int i = 0; i < 60; i++) {
            /* every length near both ends, some in between; the exact bytes, so that a sanitizer
             * sees the first one read too far */
            size_t n = i < 20 ? (size_t)i : whole.size - 1 - (size_t)(i - 20);
            if (i >= 40) n = (size_t)rng_below(&rng, (int)whole.size);
            uint8_t *part = test_alloc(n, 1);
            memcpy(part, whole.data, n);
            m.blobs[blob] = (moshi_blob){whole.name, part, n};
            moshi_error err;
            int rc = try_engine(&m, &err);
            /* white space behind the last brace may go; so may whole pieces of a tokenizer, whose
             * number is then wrong */
            bool harmless = blob == MADE_CONFIG || blob == MADE_MIMI_CONFIG;
            harmless = harmless && n + 1 >= whole.size;
            CHECK(rc == MOSHI_EMODEL || (harmless && rc == 0), "%s cut to %zu of %zu bytes: %d",
                  whole.name, n, whole.size, rc);
            CHECK(rc == 0 || strstr(err.text, names[blob]),
                  "cut %s: the message does not name it: %s", names[blob], err.text);
            free(part);
        }
        m.blobs[blob] = whole;
    }
    model_free(&m);
}

/* Flip bytes: refused or opened, never a crash; what opens must also run. */
static void flipped_bytes(void) {
    made_model m;
    model_make(&m, &base);
    int opened = 0;
    for (int blob = 0; blob < MADE_BLOBS; blob++) {
        const moshi_blob whole = m.blobs[blob];
        test_rng rng = {(uint64_t)blob + 50};
        for (int i = 0; i < 60; i++) {
            uint8_t *bad = test_alloc(whole.size, 1);
            memcpy(bad, whole.data, whole.size);
            size_t reach = whole.size < 3000 ? whole.size : 3000; /* headers break more than data */
            for (int k = 0; k < 1 + i % 3; k++)
                bad[rng_below(&rng, (int)reach)] = (uint8_t)rng_u64(&rng);
            m.blobs[blob] = (moshi_blob){whole.name, bad, whole.size};
            moshi_error err = {0};
            moshi_engine *engine;
            moshi_engine_options o = {.blobs = m.blobs, .n_blobs = MADE_BLOBS, .threads = 1};
            int rc = moshi_engine_open(&engine, &o, &err);
            CHECK(rc == 0 || (rc == MOSHI_EMODEL && err.text[0]), "flipped bytes gave %d", rc);
            if (rc == 0) {
                int32_t codes[2] = {0};
                moshi_session *session = open_session(engine, NULL);
                opened++;
                if (moshi_push_codes(session, codes, NULL, 1) >= 0) moshi_step(engine);
            }
            moshi_engine_close(engine);
            free(bad);
        }
        m.blobs[blob] = whole;
    }
    CHECK(opened > 0, "not one flipped byte was harmless");
    model_free(&m);
}

static void swapped_files(void) {
    made_model m, other;
    model_spec spec = base;
    model_make(&m, &base);
    moshi_blob lm = m.blobs[MADE_LM], mimi = m.blobs[MADE_MIMI], text = m.blobs[MADE_TEXT];
    m.blobs[MADE_LM].data = mimi.data, m.blobs[MADE_LM].size = mimi.size;
    refused(&m, "a codec as language model", "model.safetensors|missing|Mimi");
    m.blobs[MADE_LM] = lm;
    m.blobs[MADE_MIMI].data = lm.data, m.blobs[MADE_MIMI].size = lm.size;
    refused(&m, "a language model as codec", "mimi.safetensors|missing|language model");
    m.blobs[MADE_MIMI] = mimi;
    m.blobs[MADE_TEXT].data = lm.data, m.blobs[MADE_TEXT].size = lm.size;
    refused(&m, "weights as tokenizer", "text.model");
    m.blobs[MADE_TEXT] = text;
    model_replace(&m, MADE_CONFIG, "PK\3\4", 4);
    refused(&m, "an archive as configuration", "config.json");
    model_free(&m);

    /* a codec of other sizes with its own configuration fits nowhere */
    model_make(&m, &base);
    spec.mimi.bins = base.mimi.bins + 8;
    spec.seed = 9;
    model_make(&other, &spec);
    model_replace(&m, MADE_MIMI, other.blobs[MADE_MIMI].data, other.blobs[MADE_MIMI].size);
    refused(&m, "a codec of other sizes", "mimi.safetensors|_codebook.|[24]|[32]");
    model_replace(&m, MADE_MIMI_CONFIG, other.blobs[MADE_MIMI_CONFIG].data,
                  other.blobs[MADE_MIMI_CONFIG].size);
    refused(&m, "a codec with other codes", "mimi.safetensors|24|32");
    model_free(&m);
    model_free(&other);

    model_make(&m, &base);
    spec = base;
    spec.lm.text_card = base.lm.text_card + 3;
    model_make(&other, &spec);
    model_replace(&m, MADE_TEXT, other.blobs[MADE_TEXT].data, other.blobs[MADE_TEXT].size);
    refused(&m, "another model's tokenizer", "text.model|40|43");
    model_free(&m);
    model_free(&other);
}

static void missing_files(void) {
    for (int blob = 0; blob < MADE_BLOBS; blob++) {
        made_model m;
        model_make(&m, &base);
        char words[64];
        snprintf(words, sizeof words, "%s", m.blobs[blob].name);
        m.blobs[blob].name = "elsewhere";
        refused(&m, "a missing file", words);
        model_free(&m);
    }
    moshi_error err;
    moshi_engine *engine;
    moshi_engine_options o = {.model = "/no/such/place"};
    CHECK(moshi_engine_open(&engine, &o, &err) == MOSHI_EMODEL &&
              strstr(err.text, "/no/such/place"),
          "a missing directory: %s", err.text);
    o.model = "tests"; /* a directory without a model */
    CHECK(moshi_engine_open(&engine, &o, &err) == MOSHI_EMODEL && strstr(err.text, "config.json"),
          "a directory without a model: %s", err.text);
}

/* ---- configurations ----------------------------------------------------------------------- */

/* What is changed in which file, and what the message must say. */
static const struct {
    int blob;
    const char *from, *to, *words;
} wrong_keys[] = {
    {MADE_CONFIG, "\"dim\": 32", "\"dim\": 64", "model.safetensors|[25, 64]|[25, 32]"},
    {MADE_CONFIG, "\"dim\": 32,", "", "config.json|dim"},
    {MADE_CONFIG, "\"dim\": 32", "\"dim\": \"32\"", "config.json|dim|32"},
    {MADE_CONFIG, "\"dim\": 32", "\"dim\": -32", "config.json|dim|-32"},
    {MADE_CONFIG, "\"dim\": 32", "\"dim\": 3.5", "config.json|dim|3.5"},
    {MADE_CONFIG, "\"dim\": 32", "\"dim\": 99999999999999999999", "config.json|dim"},
    {MADE_CONFIG, "\"num_layers\": 2", "\"num_layers\": 3",
     "model.safetensors|transformer.layers.2.|missing"},
    {MADE_CONFIG, "\"num_layers\": 2", "\"num_layers\": 1",
     "model.safetensors|transformer.layers.1."},
    {MADE_CONFIG, "\"num_heads\": 2", "\"num_heads\": 5", "config.json|num_heads|5"},
    {MADE_CONFIG, "\"num_heads\": 2", "\"num_heads\": 0", "config.json|num_heads|0"},
    {MADE_CONFIG, "\"n_q\": 4", "\"n_q\": 6", "config.json|delays|7"},
    {MADE_CONFIG, "\"dep_q\": 2", "\"dep_q\": 5", "config.json|dep_q|5"},
    {MADE_CONFIG, "\"dep_q\": 2", "\"dep_q\": 3", "depformer"},
    {MADE_CONFIG, "\"card\": 24", "\"card\": 25", "mimi.safetensors|25|24"},
    {MADE_CONFIG, "\"text_card\": 40", "\"text_card\": 39", "39"},
    {MADE_CONFIG, "\"context\": 10", "\"context\": 0", "config.json|context|0"},
    {MADE_CONFIG, "[0, 0, 1, 0, 1]", "[0, 0, 1, 0]", "config.json|delays"},
    {MADE_CONFIG, "[0, 0, 1, 0, 1]", "[0, 0, -1, 0, 1]", "config.json|delays|-1"},
    {MADE_CONFIG, "[0, 0, 1, 0, 1]", "[0, 0, 1, 0, 1.5]", "config.json|delays|1.5"},
    {MADE_CONFIG, "[0, 0, 1, 0, 1]", "7", "config.json|delays"},
    {MADE_CONFIG, "\"positional_embedding\": \"rope\"", "\"positional_embedding\": \"sin\"",
     "config.json|positional_embedding|sin"},
    {MADE_CONFIG, "\"norm\": \"rms_norm_f32\"", "\"norm\": \"batch_norm\"",
     "config.json|norm|batch_norm"},
    {MADE_CONFIG, "\"gating\": \"silu\"", "\"gating\": \"gelu\"", "config.json|gating|gelu"},
    {MADE_CONFIG, "\"causal\": true", "\"causal\": false", "config.json|causal"},
    {MADE_CONFIG, "\"layer_scale\": null", "\"layer_scale\": 0.1", "config.json|layer_scale"},
    {MADE_CONFIG, "\"hidden_scale\"", "\"hidden_scale\": 9, \"was\"", "config.json"},
    {MADE_CONFIG, "{\n\"dim\"", "{\n\"frobnicate\": 3, \"dim\"", "config.json|frobnicate"},
    {MADE_CONFIG, "{\n\"dim\"", "{\n\"demux_second_stream\": true, \"dim\"",
     "config.json|demux_second_stream"},
    {MADE_CONFIG, "{\n\"dim\"", "{\n\"cross_attention\": true, \"dim\"",
     "config.json|cross_attention"},
    {MADE_CONFIG, "{\n\"dim\"", "{\n\"conditioners\": {\"a\": {\"type\": \"lut\"}}, \"dim\"",
     "config.json|conditioners"},
    {MADE_CONFIG, "{\n\"dim\"", "{\n\"depformer_weights_per_step_schedule\": [0, 9], \"dim\"",
     "depformer"},
    {MADE_CONFIG, "{\n\"dim\"", "[\n\"dim\"", "config.json"},
    {MADE_CONFIG, "\"moshi_name\": \"model.safetensors\"", "\"moshi_name\": \"gone.safetensors\"",
     "gone.safetensors"},
    {MADE_CONFIG, "\"mimi_name\": \"mimi.safetensors\"", "\"mimi_name\": \"gone.safetensors\"",
     "gone.safetensors"},
    {MADE_CONFIG, "\"tokenizer_name\": \"text.model\"", "\"tokenizer_name\": \"gone.model\"",
     "gone.model"},
    {MADE_MIMI_CONFIG, "\"n_filters\": 4", "\"n_filters\": 8", "mimi.safetensors|[8, 1, 7]"},
    {MADE_MIMI_CONFIG, "\"n_filters\": 4", "\"n_filters\": 1000000",
     "mimi_config.json|n_filters|1000000"},
    {MADE_MIMI_CONFIG, "[8, 6, 5, 4]", "[8, 6, 5]", "mimi.safetensors|encoder.model."},
    {MADE_MIMI_CONFIG, "[8, 6, 5, 4]", "[8, 0, 5, 4]", "mimi_config.json|ratios|0"},
    {MADE_MIMI_CONFIG, "[8, 6, 5, 4]", "[1000, 1000, 1000, 1000]", "mimi_config.json"},
    {MADE_MIMI_CONFIG, "\"n_residual_layers\": 1", "\"n_residual_layers\": 16", "mimi"},
    {MADE_MIMI_CONFIG, "\"n_residual_layers\": 1", "\"n_residual_layers\": 5", "mimi"},
    {MADE_MIMI_CONFIG, "\"compress\": 2", "\"compress\": 0", "mimi_config.json|compress|0"},
    {MADE_MIMI_CONFIG, "\"compress\": 2", "\"compress\": 4", "mimi.safetensors"},
    {MADE_MIMI_CONFIG, "\"bins\": 24", "\"bins\": 23", "mimi"},
    {MADE_MIMI_CONFIG, "\"n_q\": 4", "\"n_q\": 1", "mimi_config.json|n_q|1"},
    {MADE_MIMI_CONFIG, "\"n_q\": 4", "\"n_q\": 3", "mimi.safetensors|layers.2"},
    {MADE_MIMI_CONFIG, "\"true_skip\": true", "\"true_skip\": false", "mimi_config.json|true_skip"},
    {MADE_MIMI_CONFIG, "\"norm\": \"none\"", "\"norm\": \"weight_norm\"",
     "mimi_config.json|norm|weight_norm"},
    {MADE_MIMI_CONFIG, "\"pad_mode\": \"constant\"", "\"pad_mode\": \"reflect\"",
     "mimi_config.json|pad_mode|reflect"},
    {MADE_MIMI_CONFIG, "\"sample_rate\": 24000", "\"sample_rate\": 24001", "mimi_config.json"},
    {MADE_MIMI_CONFIG, "\"seanet\"", "\"sea\"", "mimi_config.json"},
    {MADE_MIMI_CONFIG, "\"quantizer\": {", "\"quantizer\": {\"magic\": 1, ",
     "mimi_config.json|magic"},
    {MADE_MIMI_CONFIG, "\"d_model\": 16", "\"d_model\": 17", "mimi_config.json|d_model|17"},
};

static void wrong_configurations(void) {
    for (size_t i = 0; i < sizeof wrong_keys / sizeof *wrong_keys; i++) {
        made_model m;
        char what[256];
        model_make(&m, &base);
        model_edit(&m, wrong_keys[i].blob, wrong_keys[i].from, wrong_keys[i].to);
        snprintf(what, sizeof what, "%s -> %s", wrong_keys[i].from, wrong_keys[i].to);
        refused(&m, what, wrong_keys[i].words);
        model_free(&m);
    }
}

/* Differences that mean nothing must not get in the way. */
static void harmless_differences(void) {
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"{\n\"dim\"", "{\n\"demux_second_stream\": false, \"conditioners\": {}, \"dim\""},
        {"{\n\"dim\"", "{\n\"cross_attention\": false, \"fuser\": null, \"dim\""},
        {"\"layer_scale\": null,", ""},
        {"\"model_type\": \"moshi\"", "\"model_type\": \"another\""},
        {"{\n\"dim\"", " \t\r\n {\n\"dim\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made_model m;
        moshi_error err;
        model_make(&m, &base);
        model_edit(&m, MADE_CONFIG, cases[i].from, cases[i].to);
        CHECK(try_engine(&m, &err) == 0, "%s -> %s: %s", cases[i].from, cases[i].to, err.text);
        model_free(&m);
    }
}

int main(void) {
    spec_small(&base);
    made_model m;
    moshi_error err;
    model_make(&m, &base);
    CHECK(try_engine(&m, &err) == 0, "the model itself: %s", err.text);
    model_free(&m);
    missing_tensors();
    damaged_tensors();
    truncated_files();
    flipped_bytes();
    swapped_files();
    missing_files();
    wrong_configurations();
    harmless_differences();
    return check_done("test_hostile");
}
