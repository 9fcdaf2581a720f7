/* Models that are damaged, incomplete or not what they say: moshi_inspect() tells each of them
 * apart, and an engine opens exactly those that it says run. */
#include "check.h"
#include "drive.h"
#include "make_model.h"
#include "presets.h"
#include "sparse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/moshi-test-findings-XXXXXX";
static model_spec base;

static const moshi_finding *find_kind(const moshi_model_info *info, const char *kind) {
    for (size_t i = 0; i < info->n_findings; i++)
        if (!strcmp(info->findings[i].kind, kind)) return &info->findings[i];
    return NULL;
}

/* All of `words` (separated by |) are in the text. */
static void says(const char *what, const char *text, const char *words) {
    char word[256];
    for (const char *p = words; *p; p += *p == '|') {
        size_t n = strcspn(p, "|");
        snprintf(word, sizeof word, "%.*s", (int)n, p);
        CHECK(strstr(text, word), "%s: does not say \"%s\": %s", what, word, text);
        p += n;
    }
}

/* Engine and inspection agree on whether it runs, and what the gravest finding says is the reason.
 */
static void agree(const moshi_model_info *info, const moshi_blob *blobs, size_t n,
                  const char *what) {
    moshi_engine *engine;
    moshi_error err = {0};
    moshi_engine_options o = {.blobs = blobs, .n_blobs = n, .threads = 1};
    int rc = moshi_engine_open(&engine, &o, &err);
    CHECK(rc == (info->runs ? 0 : MOSHI_EMODEL), "%s: runs %d, opening says %d: %s", what,
          info->runs, rc, err.text);
    CHECK(info->runs ? !info->reason
                     : info->reason && !strcmp(info->reason, info->findings[0].text),
          "%s: the reason is %s", what, info->reason ? info->reason : "none");
    moshi_engine_close(engine);
}

/* ---- tensors -------------------------------------------------------------------------------- */

static tensor *lm_tensor(made_model *m, const char *name) {
    tensor *t = tensors_find(&m->lm, name);
    if (!t) test_die("no tensor %s", name);
    return t;
}

static void fill(tensor *t, float value) {
    for (size_t i = 0; i < t->count; i++) t->f[i] = value;
}

static void scale(tensor *t, float by) {
    for (size_t i = 0; i < t->count; i++) t->f[i] *= by;
}

static void clear_codec(made_model *m, const char *globs) {
    for (size_t i = 0; i < m->mimi.n; i++)
        if (mo_glob(globs, m->mimi.t[i].name)) fill(&m->mimi.t[i], 0);
}

static void nothing(made_model *m) {
    (void)m;
}
static void one_nan(made_model *m) {
    lm_tensor(m, "linears.1.weight")->f[3] = NAN;
}
static void nan_in_norm(made_model *m) {
    lm_tensor(m, "out_norm.alpha")->f[3] = NAN;
}
static void one_infinity(made_model *m) {
    lm_tensor(m, "emb.2.weight")->f[0] = -INFINITY;
}
static void zeros(made_model *m) {
    fill(lm_tensor(m, "text_linear.weight"), 0);
}
static void constant(made_model *m) {
    fill(lm_tensor(m, "text_linear.weight"), 0.5f);
}
static void mostly_zeros(made_model *m) {
    tensor *t = lm_tensor(m, "text_linear.weight");
    memset(t->f, 0, t->count * 19 / 20 * sizeof *t->f);
}
static void too_large(made_model *m) {
    scale(lm_tensor(m, "emb.1.weight"), 1000);
}
static void too_small(made_model *m) {
    scale(lm_tensor(m, "emb.1.weight"), 1e-3f);
}
static void zero_norm(made_model *m) {
    fill(lm_tensor(m, "transformer.layers.0.norm1.alpha"), 0);
}
static void absurd_norm(made_model *m) {
    scale(lm_tensor(m, "transformer.layers.0.norm1.alpha"), 1e9f);
}
static void no_tensor(made_model *m) {
    lm_tensor(m, "out_norm.alpha")->name[0] = 'x';
}
static void wrong_shape(made_model *m) {
    tensor *t = lm_tensor(m, "emb.3.weight");
    t->shape[0]--;
    t->count -= (size_t)t->shape[1];
}
static void zero_encoder(made_model *m) {
    clear_codec(m, "encoder.* encoder_transformer.*");
}
static void zero_decoder(made_model *m) {
    clear_codec(m, "decoder.* decoder_transformer.*");
}
static void zero_quantiser(made_model *m) {
    clear_codec(m, "quantizer.*");
}

static const struct {
    const char *what;
    void (*damage)(made_model *m);
    const char *kind, *tensor, *words; /* of the gravest finding; kind NULL: there is none */
    int runs;
} tensor_cases[] = {
    {"a sound model", nothing, NULL, NULL, "", 1},
    {"a NaN", one_nan, "damaged", "linears.1.weight", "contains NaN (1 of its ", 0},
    {"a NaN in a vector", nan_in_norm, "damaged", "out_norm.alpha", "contains NaN (1 of its 32", 0},
    {"an infinity", one_infinity, "damaged", "emb.2.weight", "infinite numbers (1 of its", 0},
    {"zeros", zeros, "damaged", "text_linear.weight", "is all zeros", 0},
    {"a constant", constant, "odd", "text_linear.weight", "nothing but the number 0.5", 1},
    {"19 zeros of 20", mostly_zeros, "odd", "text_linear.weight", "consists of zeros to 95.", 1},
    {"too large", too_large, "odd", "emb.1.weight", "times as large as the others", 1},
    {"too small", too_small, "odd", "emb.1.weight", "times as small as the others", 1},
    {"a norm of zeros", zero_norm, "odd", "transformer.layers.0.norm1.alpha", "is all zeros", 1},
    {"an absurd norm", absurd_norm, "odd", "transformer.layers.0.norm1.alpha", "RMS", 1},
    {"a missing tensor", no_tensor, "missing", "out_norm.alpha", "(wanted shape [32])", 0},
    {"another shape", wrong_shape, "unfit", "emb.3.weight", "wanted shape [25, 32], found [24, 32]",
     0},
    {"a zeroed encoder", zero_encoder, "damaged", NULL,
     "mimi.safetensors: |Mimi's encoder|zeros|helicopter", 0},
    {"a zeroed decoder", zero_decoder, "damaged", NULL, "Mimi's decoder|zeros|silent", 0},
    {"a zeroed quantiser", zero_quantiser, "damaged", NULL, "Mimi's quantiser|zeros", 0},
};

static void tensors_tell(void) {
    for (size_t i = 0; i < sizeof tensor_cases / sizeof *tensor_cases; i++) {
        const char *what = tensor_cases[i].what, *kind = tensor_cases[i].kind;
        const char *name = tensor_cases[i].tensor;
        made_model m;
        moshi_model_info *info;
        moshi_error err;
        model_make(&m, &base);
        tensor_cases[i].damage(&m);
        model_rebuild(&m);
        if (CHECK(inspect_blobs_of(&info, m.blobs, MADE_BLOBS, &err) == 0, "%s: %s", what,
                  err.text)) {
            const moshi_finding *f = info->n_findings ? &info->findings[0] : NULL;
            CHECK(info->runs == tensor_cases[i].runs, "%s: runs %d", what, info->runs);
            if (kind &&
                CHECK(f && !strcmp(f->kind, kind), "%s: found %s", what, f ? f->kind : "nothing")) {
                CHECK(f->fatal == !info->runs && f->file && strstr(f->text, f->file),
                      "%s: finding about %s", what, f->file ? f->file : "no file");
                CHECK(name ? f->tensor && !strcmp(f->tensor, name) && strstr(f->text, name)
                           : !f->tensor,
                      "%s: it is about %s", what, f->tensor ? f->tensor : "no tensor");
                says(what, f->text, tensor_cases[i].words);
            } else if (!kind) {
                CHECK(!f, "%s: %s", what, f ? f->text : "");
            }
            agree(info, m.blobs, MADE_BLOBS, what);
            moshi_model_info_free(info);
        }
        model_free(&m);
    }
}

/* Settings that make noise of a sound model. */
static void sampling_told(void) {
    model_spec spec = base;
    made_model m;
    moshi_model_info *info;
    moshi_error err;
    spec.lm.audio_temp = 5;
    spec.lm.text_temp = 1.2f;
    model_make(&m, &spec);
    if (CHECK(inspect_blobs_of(&info, m.blobs, MADE_BLOBS, &err) == 0, "%s", err.text)) {
        CHECK(info->runs && info->n_findings == 1, "%zu findings", info->n_findings);
        CHECK(info->n_findings && strstr(info->findings[0].text, "the voice a temperature of 5"),
              "%s", info->n_findings ? info->findings[0].text : "nothing");
        moshi_model_info_free(info);
    }
    model_free(&m);
}

/* The same tensor is named in the list of all of them. */
static void problems_listed(void) {
    made_model m;
    moshi_model_info *info;
    moshi_error err;
    size_t with = 0;
    model_make(&m, &base);
    one_nan(&m);
    zeros(&m);
    model_rebuild(&m);
    if (!CHECK(inspect_blobs_of(&info, m.blobs, MADE_BLOBS, &err) == 0, "%s", err.text)) return;
    for (size_t i = 0; i < info->n_tensors; i++) {
        const moshi_tensor_info *t = &info->tensors[i];
        if (!t->problem) continue;
        with++;
        CHECK(!strcmp(t->name, "linears.1.weight")     ? strstr(t->problem, "NaN") == t->problem + 9
              : !strcmp(t->name, "text_linear.weight") ? !strcmp(t->problem, "is all zeros")
                                                       : 0,
              "%s: %s", t->name, t->problem);
    }
    CHECK(with == 2 && info->n_findings == 2, "%zu tensors with problems, %zu findings", with,
          info->n_findings);
    moshi_model_info_free(info);
    /* without reading numbers nothing of it is seen */
    moshi_inspect_options o = {
        .blobs = m.blobs, .n_blobs = MADE_BLOBS, .flags = MOSHI_INSPECT_QUICK};
    if (CHECK(moshi_inspect(&info, &o, &err) == 0, "%s", err.text)) {
        CHECK(info->runs && info->n_findings == 0, "a quick look reads numbers");
        moshi_model_info_free(info);
    }
    model_free(&m);
}

/* ---- files ---------------------------------------------------------------------------------- */

static const char html[] = "\n<!DOCTYPE html>\n<html><head><title>401</title></head></html>\n";
static const char lfs[] =
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e\n"
    "size 15375401168\n";
static const char zip[] = "PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0"
                          "archive/data.pkl";
static const char pickle[] = "\x80\2}q\0(X\6\0\0\0tensorq\1K\1u.";
static const char onnx[] = "\x08\x08\x12\x07pytorch\x1a\x05"
                           "2.1.0:\x80\x08\n\x10";
static const char big_endian[] = "GGUF\0\0\0\3\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0";
static const char refused_json[] = "{\"error\":\"Repository not found\"}";
static const char refused_text[] = "Access to this model is restricted. You must be logged in.";

/* One file of a model with other bytes in it. */
static const struct {
    int blob;
    const char *bytes;
    size_t size;
    const char *words; /* of the finding, or of the failure when nothing can be read */
} file_cases[] = {
#define BYTES(b) b, sizeof(b) - 1
    {MADE_LM, BYTES(html), "model.safetensors: |web page"},
    {MADE_LM, BYTES(lfs), "model.safetensors: |Git LFS pointer|git lfs pull"},
    {MADE_LM, BYTES(zip), "model.safetensors: |PyTorch|wanted safetensors or GGUF"},
    {MADE_LM, BYTES(pickle), "model.safetensors: |pickle"},
    {MADE_LM, BYTES(onnx), "model.safetensors: |ONNX"},
    {MADE_LM, BYTES(big_endian), "model.safetensors: |big-endian GGUF"},
    {MADE_LM, BYTES(refused_json), "model.safetensors: |error message"},
    {MADE_LM, BYTES(refused_text), "model.safetensors: |text ('Access to this model"},
    {MADE_LM, "", 0, "model.safetensors: |empty"},
    {MADE_LM, NULL, 0, "model.safetensors: |no such file|moshi_name"},
    {MADE_MIMI, BYTES(html), "mimi.safetensors: |web page"},
    {MADE_MIMI, BYTES(lfs), "mimi.safetensors: |Git LFS pointer"},
    {MADE_MIMI, NULL, 0, "mimi.safetensors: |no such file|mimi_name"},
    {MADE_TEXT, BYTES(html), "web page|wanted a SentencePiece model"},
    {MADE_TEXT, BYTES(lfs), "Git LFS pointer|wanted a SentencePiece model"},
    {MADE_TEXT, BYTES("\n\1"), "wanted a SentencePiece model|broken"},
    {MADE_TEXT, NULL, 0, "no such file|the text tokenizer"},
    {MADE_CONFIG, BYTES(html), "config.json: |web page"},
    {MADE_CONFIG, BYTES(lfs), "config.json: |Git LFS pointer"},
    {MADE_CONFIG, BYTES("{\"dim\": 32,"), "config.json: |not valid JSON"},
#undef BYTES
};

static void files_tell(void) {
    for (size_t i = 0; i < sizeof file_cases / sizeof *file_cases; i++) {
        made_model m;
        moshi_model_info *info;
        moshi_error err;
        int blob = file_cases[i].blob;
        const char *words = file_cases[i].words;
        model_make(&m, &base);
        if (file_cases[i].bytes) {
            model_replace(&m, blob, file_cases[i].bytes, file_cases[i].size);
        } else { /* what must not be found by its content */
            model_replace(&m, blob, "notes on this model", 19);
            m.blobs[blob].name = "another";
        }
        int rc = inspect_blobs_of(&info, m.blobs, MADE_BLOBS, &err);
        if (blob == MADE_CONFIG) {
            CHECK(rc == MOSHI_EMODEL && !info, "%s: %d", words, rc);
            says(words, err.text, words);
        } else if (CHECK(rc == 0, "%s: %s", words, err.text)) {
            const moshi_finding *f = find_kind(info, "incomplete");
            CHECK(!info->runs && f && f->fatal, "%s: nothing is found", words);
            if (f) says(words, f->text, words);
            agree(info, m.blobs, MADE_BLOBS, words);
            moshi_model_info_free(info);
        }
        model_free(&m);
    }
}

/* Sound files in the wrong places. */
static void swapped_files(void) {
    static const struct {
        int from, to;
        const char *kind, *words;
    } cases[] = {
        {MADE_LM, MADE_MIMI, "mismatch",
         "mimi.safetensors: of the | are missing and 0 are |looks like a Moshi-family"},
        {MADE_MIMI, MADE_LM, "mismatch", "model.safetensors: of the |looks like a Mimi codec"},
        {MADE_TEXT, MADE_LM, "incomplete", "model.safetensors: |SentencePiece text tokenizer"},
        {MADE_CONFIG, MADE_LM, "incomplete", "model.safetensors: |JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made_model m;
        moshi_model_info *info;
        moshi_error err;
        model_make(&m, &base);
        model_replace(&m, cases[i].to, m.blobs[cases[i].from].data, m.blobs[cases[i].from].size);
        if (CHECK(inspect_blobs_of(&info, m.blobs, MADE_BLOBS, &err) == 0, "%s", err.text)) {
            const moshi_finding *f = &info->findings[0];
            if (CHECK(info->n_findings && !strcmp(f->kind, cases[i].kind), "%s: a %s",
                      cases[i].words, info->n_findings ? f->kind : "good model"))
                says(cases[i].words, f->text, cases[i].words);
            agree(info, m.blobs, MADE_BLOBS, cases[i].words);
            moshi_model_info_free(info);
        }
        model_free(&m);
    }
}

/* Another codec, a file under another name. */
static void other_pieces(void) {
    made_model m, other;
    model_spec spec = base;
    moshi_model_info *info;
    moshi_error err;
    spec.mimi.bins = 32;
    model_make(&m, &base);
    model_make(&other, &spec);
    model_replace(&m, MADE_MIMI, other.blobs[MADE_MIMI].data, other.blobs[MADE_MIMI].size);
    model_replace(&m, MADE_MIMI_CONFIG, other.blobs[MADE_MIMI_CONFIG].data,
                  other.blobs[MADE_MIMI_CONFIG].size);
    if (CHECK(inspect_blobs_of(&info, m.blobs, MADE_BLOBS, &err) == 0, "%s", err.text)) {
        const moshi_finding *f = find_kind(info, "mismatch");
        if (CHECK(f && f->fatal, "another codec is not seen"))
            says("another codec", f->text, "codes 0..23|codebooks of 32|do not belong together");
        agree(info, m.blobs, MADE_BLOBS, "another codec");
        moshi_model_info_free(info);
    }
    model_free(&m);
    model_free(&other);
    model_make(&m, &base);
    m.blobs[MADE_LM].name = "weights.bin";
    if (CHECK(inspect_blobs_of(&info, m.blobs, MADE_BLOBS, &err) == 0, "%s", err.text)) {
        const moshi_finding *f = find_kind(info, "incomplete");
        if (CHECK(f, "a renamed file is not missed"))
            says("renamed", f->text, "model.safetensors|no such file|'weights.bin' there looks");
        agree(info, m.blobs, MADE_BLOBS, "renamed");
        moshi_model_info_free(info);
    }
    model_free(&m);
}

/* A language model, but another one; in safetensors and without any configuration. */
static void foreign_models(void) {
    static const struct {
        const char *tensor, *words;
    } cases[] = {{"model.embed_tokens.weight", "text language model, not Moshi"},
                 {"model.encoder.conv1.weight", "Whisper"},
                 {"depth_decoder.lm_heads.weight", "Moshi in the transformers"},
                 {"encoder.layers.0.conv.weight", "Mimi in the transformers"},
                 {"transformer.layers.0.lora_A.weight", "adapter"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tensors set = {0};
        moshi_model_info *info;
        moshi_error err;
        size_t size;
        fill(tensors_add(&set, cases[i].tensor, 2, (int64_t[]){4, 4}), 1);
        uint8_t *file = safetensors_build(&set, &size);
        moshi_blob blob = {"model.safetensors", file, size};
        CHECK(inspect_blobs_of(&info, &blob, 1, &err) == MOSHI_EMODEL, "%s: inspected",
              cases[i].tensor);
        says(cases[i].tensor, err.text, cases[i].words);
        says(cases[i].tensor, err.text, "model.safetensors");
        free(file);
        tensors_free(&set);
    }
}

/* ---- one file, quantised -------------------------------------------------------------------- */

/* The published case: a quantised GGUF file in which the codec's encoder is zeros. */
static void zeroed_gguf(void) {
    char in[64], out[400];
    made_model m;
    mo_file file;
    mo_checkpoint ck;
    moshi_model_info *info;
    moshi_error err;
    moshi_engine *engine;
    snprintf(in, sizeof in, "%s/model", dir);
    snprintf(out, sizeof out, "%s/whole.gguf", dir);
    model_make(&m, &base);
    if (mkdir(in, 0700) != 0) test_die("%s", in);
    model_write(&m, in);
    moshi_convert_options o = {.type = "q8_0", .threads = 1};
    if (moshi_convert(in, out, &o, &err) < 0) test_die("%s", err.text);
    FILE *f = fopen(out, "r+b");
    if (!f || mo_file_map(&file, out, out, &err) < 0 || mo_checkpoint_open(&ck, &file, &err) < 0)
        test_die("%s", out);
    for (size_t i = 0; i < ck.n_tensors; i++) {
        const mo_tensor_view *t = &ck.tensors[i];
        if (strncmp(t->name, "mimi.encoder", 12) != 0) continue;
        fseek(f, (long)((const uint8_t *)t->data - ck.file.data), SEEK_SET);
        for (uint64_t k = 0; k < t->bytes; k++) fputc(0, f);
    }
    mo_checkpoint_close(&ck);
    if (fclose(f) != 0) test_die("%s", out);
    if (CHECK(moshi_inspect(&info, &(moshi_inspect_options){.model = out, .threads = 2}, &err) == 0,
              "%s", err.text)) {
        CHECK(!info->runs && !strcmp(info->container, "GGUF"), "it runs");
        says("a zeroed encoder in GGUF", info->reason ? info->reason : "",
             "whole.gguf: |Mimi's encoder|zeros|helicopter");
        moshi_model_info_free(info);
    }
    moshi_engine_options eo = {.model = out, .threads = 1};
    CHECK(moshi_engine_open(&engine, &eo, &err) == MOSHI_EMODEL, "it opens");
    says("opening it", err.text, "whole.gguf|encoder.|is all zeros");
    unlink(out);
    for (int i = 0; i < MADE_BLOBS; i++) {
        snprintf(out, sizeof out, "%s/%s", in, m.blobs[i].name);
        unlink(out);
    }
    rmdir(in);
    model_free(&m);
}

/* ---- facts ---------------------------------------------------------------------------------- */

/* Parts add up to the model. */
static void parts_add_up(void) {
    moshi_model_info *info;
    moshi_error err;
    uint64_t parameters = 0, bytes = 0, tensor_bytes = 0;
    size_t n = 0;
    moshi_inspect_options o = {.model = "models/demo", .threads = 2};
    if (!CHECK(moshi_inspect(&info, &o, &err) == 0, "%s", err.text)) return;
    for (size_t i = 0; i < info->n_parts; i++) {
        const moshi_part_info *p = &info->parts[i];
        n += p->tensors;
        bytes += p->bytes;
        if (strcmp(p->name, "not needed") != 0) parameters += p->parameters;
    }
    for (size_t i = 0; i < info->n_tensors; i++) tensor_bytes += info->tensors[i].bytes;
    CHECK(info->runs && info->n_findings == 0, "the demo model: %s",
          info->n_findings ? info->findings[0].text : "does not run");
    CHECK(n == info->n_tensors && bytes == tensor_bytes, "parts hold %zu tensors", n);
    CHECK(parameters == info->engine.parameters && parameters > 11000000,
          "parts of %llu parameters, the model has %llu", (unsigned long long)parameters,
          (unsigned long long)info->engine.parameters);
    CHECK(!strcmp(info->container, "safetensors") && !strcmp(info->names, "PyTorch") &&
              !strcmp(info->numbers, "BF16") && !info->preset,
          "%s, %s names, %s", info->container, info->names, info->numbers);
    CHECK(strstr(info->config_file, "config.json") && strstr(info->lm_file, "model.safetensors") &&
              strstr(info->codec_file, "mimi") && strstr(info->text_file, ".model"),
          "its files are not named");
    moshi_model_info_free(info);
}

/* 15 GB of which nothing was written, as a download leaves it that has just begun. */
static void unfinished_download(void) {
    char path[64];
    mo_lm_config cfg;
    moshi_model_info *info;
    moshi_error err;
    const char *config = mo_preset_at(0)->config;
    if (mo_lm_config_parse(&cfg, config, strlen(config), "config.json", &err) < 0)
        test_die("%s", err.text);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    sparse_lm(path, &cfg, MO_NAMES_PYTORCH, SPARSE_BF16);
    moshi_inspect_options o = {.model = dir, .flags = MOSHI_INSPECT_QUICK};
    if (CHECK(moshi_inspect(&info, &o, &err) == 0, "%s", err.text)) {
        const moshi_finding *f = &info->findings[0];
        CHECK(!info->runs && info->n_findings == 2 && !strcmp(f->kind, "incomplete"),
              "%zu findings", info->n_findings);
        says("no codec", f->text, "the Mimi codec's weights");
        CHECK(info->preset && !strcmp(info->preset, "moshi-7b") && info->dim == 4096 &&
                  info->layers == 32 && info->engine.parameters == UINT64_C(7687729152) &&
                  !info->codec_file && !info->text_file && !info->config_file,
              "7B is not recognised: %s", info->summary);
        moshi_model_info_free(info);
    }
#ifdef __linux__
    o = (moshi_inspect_options){.model = path, .threads = 2};
    if (CHECK(moshi_inspect(&info, &o, &err) == 0, "%s", err.text)) {
        const moshi_finding *f = find_kind(info, "damaged");
        if (CHECK(f, "nothing of it is missed"))
            says("a hole", info->tensors[0].problem ? info->tensors[0].problem : "",
                 "all zeros|never written");
        CHECK(f && !f->tensor && strstr(f->text, "are zeros; it was never written"), "parts: %s",
              f ? f->text : "");
        moshi_model_info_free(info);
    }
#endif
    unlink(path);
}

static int stop(void *user, uint64_t done, uint64_t total) {
    *(int *)user += done <= total;
    return 1;
}

static void options(void) {
    moshi_model_info *info;
    moshi_error err;
    int calls = 0;
    moshi_inspect_options o = {.model = "models/demo", .progress = stop, .progress_user = &calls};
    CHECK(moshi_inspect(&info, &o, &err) == MOSHI_ECANCELLED && !info && calls == 1,
          "cancelled after %d calls: %s", calls, err.text);
    o = (moshi_inspect_options){.model = "models/demo", .flags = 64};
    CHECK(moshi_inspect(&info, &o, &err) == MOSHI_EINVAL && strstr(err.text, "flags 0x40"), "%s",
          err.text);
    o = (moshi_inspect_options){.model = "models/demo", .threads = -1};
    CHECK(moshi_inspect(&info, &o, &err) == MOSHI_EINVAL && strstr(err.text, "threads"), "%s",
          err.text);
}

int main(void) {
    if (!mkdtemp(dir)) test_die("no temporary directory");
    spec_small(&base);
    tensors_tell();
    sampling_told();
    problems_listed();
    files_tell();
    swapped_files();
    other_pieces();
    foreign_models();
    zeroed_gguf();
    parts_add_up();
    unfinished_download();
    options();
    rmdir(dir);
    return check_done("test_findings");
}
