/* Models without a configuration: which of the published ones is it, and which file is which; told
 * from content alone. The big ones have true tables of tensors and no numbers. */
#include "alloc_fail.h"
#include "check.h"
#include "drive.h"
#include "files.h"
#include "make_model.h"
#include "presets.h"
#include "roles.h"
#include "sparse.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALL = MO_WANT_LM | MO_WANT_MIMI | MO_WANT_TEXT };

static char top[] = "/tmp/moshi-test-presets-XXXXXX";
static made_model model;

/* Path below the temporary directory; lives until the fourth call from now. */
static const char *at(const char *name) {
    static char paths[4][300];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", top, name);
    return path;
}

static void make_dir(const char *name) {
    if (mkdir(at(name), 0755) != 0) test_die("cannot make %s", name);
}

static void write_bytes(const char *name, const void *bytes, size_t n) {
    FILE *f = fopen(at(name), "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) test_die("cannot write %s", name);
}

static void write_text(const char *name, const char *text) {
    write_bytes(name, text, strlen(text));
}

static void write_blob(const char *name, int blob) {
    write_bytes(name, model.blobs[blob].data, model.blobs[blob].size);
}

static mo_lm_config preset_config(const mo_preset *p) {
    mo_lm_config c;
    moshi_error err;
    if (mo_lm_config_parse(&c, p->config, strlen(p->config), p->name, &err) < 0)
        test_die("%s: %s", p->name, err.text);
    return c;
}

static const mo_preset *preset_named(const char *name) {
    for (size_t i = 0; mo_preset_at(i); i++)
        if (!strcmp(mo_preset_at(i)->name, name)) return mo_preset_at(i);
    test_die("no preset %s", name);
}

static int open_files(mo_model_files *f, const char *path, int want, moshi_error *err) {
    const mo_model_place place = {.path = path};
    *err = (moshi_error){0};
    return mo_model_files_open(f, &place, want, err);
}

static void expect_error(const char *path, int want, const char *a, const char *b, const char *c) {
    mo_model_files f;
    moshi_error err;
    int rc = open_files(&f, path, want, &err);
    CHECK(rc == MOSHI_EMODEL && err.code == rc && strstr(err.text, a) && strstr(err.text, b) &&
              strstr(err.text, c),
          "%s: wanted \"%s\", \"%s\", \"%s\" in: %d %s", path, a, b, c, rc, err.text);
    if (rc == 0) mo_model_files_close(&f);
}

/* ---- which model ---------------------------------------------------------------------------- */

/* Bytes of the largest matrix as float32, or of one session's keys of a layer. */
static uint64_t largest_buffer(const mo_lm_config *c) {
    const uint64_t dim = (uint64_t)c->dim;
    const uint64_t all[] = {((uint64_t)c->text_card + 1) * dim,
                            ((uint64_t)c->card + 1) * dim,
                            3 * dim * dim,
                            2 * (uint64_t)c->hidden * dim,
                            2 * (uint64_t)c->dep_hidden * (uint64_t)c->dep_dim,
                            (uint64_t)c->context * dim};
    uint64_t most = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) most = all[i] > most ? all[i] : most;
    return most * sizeof(float);
}

/* Facts of the published models that nobody may change by accident: parameters as the reference
 * counts them, what decides the sound. */
static void test_table(void) {
    static const struct {
        const char *name;
        uint64_t parameters;
        int context, delay_1, delay_2, delay_9, dep_sets;
        float max_period;
    } facts[] = {{"moshi-7b", UINT64_C(7687729152), 3000, 0, 1, 0, 8, 1e4f},
                 {"personaplex-7b", UINT64_C(8371408896), 3000, 0, 1, 0, 16, 1e4f},
                 {"stt-1b", UINT64_C(989204480), 750, 0, 0, 0, 0, 1e5f},
                 {"stt-2.6b", UINT64_C(2617118720), 375, 0, 0, 0, 0, 1e5f},
                 /* less their condition: a table of 32 x 16, its projection, its padding */
                 {"hibiki-1b", UINT64_C(1799907840) - 32 * 16 - 17 * 2048, 3000, 0, 2, 0, 8, 1e5f},
                 {"hibiki-2b", UINT64_C(2787362816) - 32 * 16 - 17 * 2560, 1500, 0, 2, 2, 9, 1e5f},
                 {"tts-1.6b", UINT64_C(1554112512), 500, 0, 2, 2, 11, 1e4f}};
    const size_t n = sizeof facts / sizeof *facts;
    CHECK(mo_preset_at(n) == NULL && mo_preset_at(n - 1) != NULL, "presets in the table");
    for (size_t i = 0; i < n; i++) {
        moshi_engine *engine;
        moshi_engine_info info;
        moshi_error err;
        const mo_preset *p = preset_named(facts[i].name);
        mo_lm_config c = preset_config(p);
        CHECK(c.context == facts[i].context && c.delays[0] == 0 &&
                  c.delays[1] == facts[i].delay_1 && c.delays[2] == facts[i].delay_2 &&
                  c.delays[9] == facts[i].delay_9 && c.dep_sets == facts[i].dep_sets &&
                  c.max_period == facts[i].max_period && c.text_pad == 3 && c.card == 2048,
              "%s: facts", p->name);
        /* What every driver of Vulkan must give at once. */
        CHECK(largest_buffer(&c) > 0 && largest_buffer(&c) <= UINT64_C(1) << 30,
              "%s: a buffer of %llu bytes", p->name, (unsigned long long)largest_buffer(&c));
        sparse_lm(at("weights"), &c, MO_NAMES_PYTORCH, SPARSE_BF16);
        moshi_engine_options o = {.threads = 1, .flags = MOSHI_NO_CODEC | MOSHI_DRY_RUN};
        if (p->has_config)
            o.preset = p->name;
        else
            o.model = at("weights");
        if (CHECK(moshi_engine_open(&engine, &o, &err) == 0, "%s: %s", p->name, err.text)) {
            moshi_engine_get_info(engine, &info);
            /* the heads of voice activity, 4 of 6 x 2048, are not in the reference's count */
            CHECK(info.parameters == facts[i].parameters && info.context == facts[i].context,
                  "%s: %llu parameters", p->name, (unsigned long long)info.parameters);
            moshi_engine_close(engine);
        }
        unlink(at("weights"));
    }
}

/* Every spelling and number format of every preset is recognised, as that preset and no other. */
static void test_recognised(void) {
    static const struct {
        mo_name_scheme names;
        sparse_numbers numbers;
    } forms[] = {{MO_NAMES_PYTORCH, SPARSE_BF16}, {MO_NAMES_PYTORCH, SPARSE_INT8},
                 {MO_NAMES_CANDLE, SPARSE_BF16},  {MO_NAMES_CANDLE, SPARSE_Q8_0},
                 {MO_NAMES_MLX, SPARSE_BF16},     {MO_NAMES_MLX, SPARSE_MLX_Q4}};
    for (size_t i = 0; mo_preset_at(i); i++) {
        const mo_preset *p = mo_preset_at(i);
        mo_lm_config c = preset_config(p);
        if (p->has_config) { /* half a guess: whoever has its weights has its configuration */
            sparse_lm(at("some.bin"), &c, MO_NAMES_PYTORCH, SPARSE_BF16);
            expect_error(at("some.bin"), MO_WANT_LM, "no config.json", "num_layers", "context");
            continue;
        }
        for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
            mo_model_files f;
            moshi_error err;
            sparse_lm(at("some.bin"), &c, forms[k].names, forms[k].numbers);
            if (CHECK(open_files(&f, at("some.bin"), MO_WANT_LM, &err) == 0, "%s, form %zu: %s",
                      p->name, k, err.text)) {
                CHECK(f.preset == p && f.has_lm && f.lm.dim == c.dim && f.config.data,
                      "%s, form %zu: taken for %s", p->name, k, f.preset ? f.preset->name : "none");
                mo_model_files_close(&f);
            }
        }
    }
    unlink(at("some.bin"));
}

/* One size off in any direction fits nothing, and is told with what is missing. */
static void test_other_sizes(void) {
    static const struct {
        size_t offset;
        int change;
        const char *words;
    } cases[] = {
        {offsetof(mo_lm_config, layers), 1, "num_layers 33"},
        {offsetof(mo_lm_config, dim), 64, "dim 4160"},
        {offsetof(mo_lm_config, hidden), 1, "feed-forward of 11265"},
        {offsetof(mo_lm_config, n_q), -1, "n_q 15"},
        {offsetof(mo_lm_config, dep_q), 1, "dep_q 9"},
        {offsetof(mo_lm_config, card), -1, "card 2047"},
        {offsetof(mo_lm_config, text_card), 1000, "text_card 33000"},
        {offsetof(mo_lm_config, kv_repeat), 1, "dim 4096"},
        {offsetof(mo_lm_config, dep_dim), 32, "depformer_dim 1056"},
        {offsetof(mo_lm_config, dep_layers), -1, "depformer_num_layers 5"},
        {offsetof(mo_lm_config, dep_sets), 1, "dep_q 8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mo_lm_config c = preset_config(preset_named("moshi-7b"));
        *(int *)((char *)&c + cases[i].offset) += cases[i].change;
        sparse_lm(at("odd.safetensors"), &c, MO_NAMES_PYTORCH, SPARSE_BF16);
        expect_error(at("odd.safetensors"), MO_WANT_LM, cases[i].words, "no built-in preset",
                     "num_heads, context, max_period, delays");
    }
    unlink(at("odd.safetensors"));
}

/* A configuration that names a model and files, and gives no sizes. */
static void test_silent(void) {
    mo_model_files f;
    moshi_error err;
    mo_lm_config c = preset_config(preset_named("personaplex-7b"));
    mo_mimi_config official;
    mo_mimi_config_official(&official);
    make_dir("silent");
    write_text("silent/config.json", "{\"model_type\": \"personaplex\", \"version\": \"7b-v1\"}");
    sparse_lm(at("silent/model.safetensors"), &c, MO_NAMES_PYTORCH, SPARSE_BF16);
    sparse_mimi(at("silent/tokenizer-e351c8d8-checkpoint125.safetensors"), &official);
    write_blob("silent/tokenizer_spm_32k_3.model", MADE_TEXT);
    if (CHECK(open_files(&f, at("silent"), ALL, &err) == 0, "%s", err.text)) {
        CHECK(f.preset && !strcmp(f.preset->name, "personaplex-7b") && f.lm.dep_q == 16 &&
                  f.has_mimi && f.has_text && !strcmp(f.config.name, "personaplex-7b"),
              "a configuration without sizes");
        mo_model_files_close(&f);
    }
    write_text("silent/config.json", "{\"model_type\": \"hibiki\"}");
    expect_error(at("silent"), ALL, "no built-in preset", "dim 4096", "");
    write_text("silent/config.json", "{\"moshi_name\": \"nowhere\", \"version\": 1}");
    expect_error(at("silent"), ALL, "silent/nowhere: no such file", "moshi_name", "");
    write_text("silent/config.json", "{\"moshi_name\": \"hf://a/b/model.safetensors\"}");
    if (CHECK(open_files(&f, at("silent"), ALL, &err) == 0, "%s", err.text)) {
        CHECK(f.has_lm && !strcmp(f.lm.moshi_name, "hf://a/b/model.safetensors"), "names are kept");
        mo_model_files_close(&f);
    }
}

/* ---- which file ----------------------------------------------------------------------------- */

static void expect_role(const char *name, mo_role wanted, const char *guess) {
    mo_file file;
    mo_role role;
    moshi_error err;
    char found[MO_FOREIGN_BYTES];
    if (mo_file_map(&file, at(name), name, &err) < 0) test_die("%s", err.text);
    CHECK(mo_role_of(&file, &role, found, &err) == 0 && role == wanted && strstr(found, guess),
          "%s: role %d, %s %s", name, role, found, err.text);
    mo_file_close(&file);
}

/* Names that say the opposite of the content. */
static void test_roles(void) {
    make_dir("r");
    write_blob("r/tokenizer.model", MADE_LM);
    write_blob("r/model.safetensors", MADE_MIMI);
    write_blob("r/config.txt", MADE_TEXT);
    write_text("r/README.md", "# Nothing\n");
    write_text("r/empty.gguf", "");
    write_text("r/.hidden.safetensors", "");
    make_dir("r/directory.safetensors");
    if (symlink("nowhere", at("r/dangling.safetensors")) != 0) test_die("no links here");
    expect_role("r/tokenizer.model", MO_ROLE_LM, "");
    expect_role("r/model.safetensors", MO_ROLE_MIMI, "");
    expect_role("r/config.txt", MO_ROLE_TEXT, "");
    expect_role("r/README.md", MO_ROLE_OTHER, "");
    expect_role("r/empty.gguf", MO_ROLE_OTHER, "");

    mo_roles roles;
    moshi_error err;
    mo_source s = {.dir = at("r")};
    if (CHECK(mo_roles_find(&roles, &s, &err) == 0, "%s", err.text)) {
        CHECK(roles.names[MO_ROLE_LM] && !strcmp(roles.names[MO_ROLE_LM], "tokenizer.model") &&
                  roles.names[MO_ROLE_MIMI] &&
                  !strcmp(roles.names[MO_ROLE_MIMI], "model.safetensors") &&
                  roles.names[MO_ROLE_TEXT] && !strcmp(roles.names[MO_ROLE_TEXT], "config.txt"),
              "the files of a directory");
        mo_roles_free(&roles);
    }
    /* the sizes are no published model's: refused, whatever the files are called */
    expect_error(at("r"), ALL, "r/tokenizer.model: no config.json", "no built-in preset", "dim 32");
    expect_error(at("r"), MO_WANT_MIMI, "r/model.safetensors", "the published codec 64", "");

    mo_model_files f;
    moshi_blob blobs[] = {{"x", model.blobs[MADE_LM].data, model.blobs[MADE_LM].size},
                          {"y", model.blobs[MADE_MIMI].data, model.blobs[MADE_MIMI].size}};
    const mo_model_place place = {.blobs = blobs, .n_blobs = 2};
    CHECK(mo_model_files_open(&f, &place, ALL, &err) == MOSHI_EMODEL &&
              strstr(err.text, "x: no config.json"),
          "blobs: %s", err.text);

    write_blob("r/second", MADE_TEXT);
    write_blob("r/copy", MADE_LM);
    expect_error(at("r"), ALL, "found 2: copy, tokenizer.model", "language model", "config.json");
}

/* 7B directories as they are published: no config.json, any names. */
static void test_published(void) {
    mo_model_files f;
    moshi_error err;
    mo_lm_config c = preset_config(preset_named("moshi-7b"));
    mo_mimi_config official;
    mo_mimi_config_official(&official);
    make_dir("p");
    sparse_lm(at("p/model.q8.gguf"), &c, MO_NAMES_CANDLE, SPARSE_Q8_0);
    expect_error(at("p"), ALL, "no file in it holds the Mimi codec's weights", at("p"), "");
    write_bytes("p/other.safetensors", "\x10\0\0\0\0\0\0\0{\"encoder.layers", 24);
    sparse_mimi(at("p/codec"), &official);
    expect_error(at("p"), ALL, "no file in it holds the text tokenizer", at("p"), "");
    write_blob("p/text", MADE_TEXT);
    for (int i = 0; i < 2; i++)
        if (CHECK(open_files(&f, at(i ? "p/model.q8.gguf" : "p"), ALL, &err) == 0, "%s",
                  err.text)) {
            CHECK(f.preset && !strcmp(f.preset->name, "moshi-7b") && f.mimi_file.n_tensors == 318 &&
                      f.text.n > 0 && f.lm_file.n_tensors > 400,
                  "a published directory");
            mo_model_files_close(&f);
        }
    /* the codec alone, wherever it is looked for */
    for (int i = 0; i < 3; i++) {
        const char *path = at(i == 0 ? "p" : i == 1 ? "p/model.q8.gguf" : "p/codec");
        if (CHECK(open_files(&f, path, MO_WANT_MIMI, &err) == 0, "%s: %s", path, err.text)) {
            CHECK(f.has_mimi && !f.has_lm && f.mimi_file.n_tensors == 318, "%s: the codec", path);
            mo_model_files_close(&f);
        }
    }
    expect_error(at("p/text"), MO_WANT_LM, "p/text", "safetensors", "");
    expect_error(at("p/codec"), ALL, "codec", "a Mimi codec alone", "wanted a language model");
    sparse_mimi(at("p/codec2"), &official);
    expect_error(at("p"), ALL, "found 2: codec, codec2", "Mimi", "");
    unlink(at("p/codec"));
    unlink(at("p/codec2"));
    unlink(at("p/model.q8.gguf"));
    expect_error(at("p"), ALL, "p/other.safetensors", "not valid JSON", "");
}

/* ---- hf:// ---------------------------------------------------------------------------------- */

typedef struct known_file {
    const char *name, *path;
    int asked;
} known_file;

static const char *find_known(void *user, const char *name) {
    known_file *k = user;
    k->asked++;
    return strcmp(k->name, name) ? NULL : k->path;
}

static void test_hub_names(void) {
    mo_model_files f;
    moshi_error err;
    made_model m;
    model_make(&m, &model.spec);
    model_edit(&m, MADE_CONFIG, "\"mimi.safetensors\"", "\"hf://org/codec/sub/mimi.safetensors\"");
    make_dir("h");
    make_dir("h/sub");
    model_write(&m, at("h"));
    char elsewhere[300];
    snprintf(elsewhere, sizeof elsewhere, "%s", at("elsewhere"));
    known_file known = {"hf://org/codec/sub/mimi.safetensors", elsewhere, 0};
    mo_model_place place = {.path = at("h"), .finder = {find_known, &known}};
    char dir[300];
    snprintf(dir, sizeof dir, "%s", place.path);
    place.path = dir;
    /* beside config.json by its last name, then with its directory, then where the finder says */
    for (int i = 0; i < 3; i++) {
        if (CHECK(mo_model_files_open(&f, &place, ALL, &err) == 0, "way %d: %s", i, err.text)) {
            CHECK(known.asked == (i == 2), "way %d: asked %d times", i, known.asked);
            CHECK(strstr(f.mimi_file.file.name, i == 0   ? "h/mimi.safetensors"
                                                : i == 1 ? "h/sub/mimi.safetensors"
                                                         : "elsewhere"),
                  "way %d: %s", i, f.mimi_file.file.name);
            mo_model_files_close(&f);
        }
        if (i == 0 && rename(at("h/mimi.safetensors"), at("h/sub/mimi.safetensors")) != 0)
            test_die("rename");
        if (i == 1 && rename(at("h/sub/mimi.safetensors"), at("elsewhere")) != 0)
            test_die("rename");
    }
    known.name = "another";
    CHECK(mo_model_files_open(&f, &place, ALL, &err) == MOSHI_EMODEL &&
              strstr(err.text, "hf://org/codec/sub/mimi.safetensors: not in") &&
              strstr(err.text, "mimi_name in config.json"),
          "not found: %s", err.text);
    place.finder = (moshi_finder){0};
    CHECK(mo_model_files_open(&f, &place, ALL, &err) == MOSHI_EMODEL &&
              strstr(err.text, "not among the downloaded files"),
          "nobody to ask: %s", err.text);
    static const char *const odd[] = {"hf://", "hf://a", "hf://a/b", "hf://a/b/", "hf:///"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        mo_file file;
        mo_source s = {.dir = dir};
        CHECK(mo_source_open(&s, odd[i], "x", "y", &file, &err) == MOSHI_EMODEL, "%s", odd[i]);
    }
    model_free(&m);
}

/* ---- memory --------------------------------------------------------------------------------- */

static void test_memory(void) {
    if (!alloc_fail_works()) {
        SKIP("allocations cannot be made to fail here");
        return;
    }
    int rc = MOSHI_ENOMEM;
    for (long n = 1; rc != 0 && n < 100000; n += n < 300 ? 1 : 97) {
        mo_model_files f;
        moshi_error err;
        alloc_fail_at(n, false);
        rc = open_files(&f, at("silent"), ALL, &err);
        alloc_fail_at(0, false);
        CHECK(rc == 0 || (rc == MOSHI_ENOMEM && err.text[0]), "allocation %ld: %d %s", n, rc,
              err.text);
        if (rc == 0) mo_model_files_close(&f);
    }
    CHECK(rc == 0, "opens once nothing fails");
}

int main(void) {
    model_spec spec;
    spec_small(&spec);
    model_make(&model, &spec);
    if (!mkdtemp(top)) test_die("no temporary directory");
    test_table();
    test_recognised();
    test_other_sizes();
    test_silent();
    test_roles();
    test_published();
    test_hub_names();
    test_memory();
    model_free(&model);
    char command[340];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    CHECK(system(command) == 0, "clean up");
    return check_done("test_presets");
}
