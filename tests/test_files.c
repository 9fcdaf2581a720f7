/* test_files.c - from a directory, a checkpoint or blobs to a model's files, and what is said when
 * one of them is missing. */
#include "alloc_fail.h"
#include "check.h"
#include "files.h"
#include "make_model.h"
#include "sparse.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALL = MO_WANT_LM | MO_WANT_MIMI | MO_WANT_TEXT };

static made_model model;
static char top[] = "/tmp/moshi-files-XXXXXX";

/* Path below the temporary directory; lives until the fourth call from now. */
static const char *at(const char *name) {
    static char ring[4][256];
    static int next;
    char *path = ring[next++ % 4];
    snprintf(path, sizeof ring[0], "%s/%s", top, name);
    return path;
}

static void make_dir(const char *name) {
    CHECK(mkdir(at(name), 0700) == 0, "%s can be made", name);
}

static void write_bytes(const char *name, const void *bytes, size_t n) {
    FILE *f = fopen(at(name), "wb");
    if (CHECK(f && fwrite(bytes, 1, n, f) == n, "%s can be written", name)) fclose(f);
}

static void write_blob(const char *name, int blob) {
    write_bytes(name, model.blobs[blob].data, model.blobs[blob].size);
}

/* config.json with one piece of text in place of another. */
static void write_config(const char *name, const char *from, const char *to) {
    made_model copy;
    model_make(&copy, &model.spec);
    model_edit(&copy, MADE_CONFIG, from, to);
    write_bytes(name, copy.blobs[MADE_CONFIG].data, copy.blobs[MADE_CONFIG].size);
    model_free(&copy);
}

static int open_files(mo_model_files *f, const char *path, const moshi_blob *blobs, size_t n,
                      int want, moshi_error *err) {
    const mo_model_place place = {path, blobs, n, {0}};
    return mo_model_files_open(f, &place, want, err);
}

static void expect_open(const char *path, int want, size_t lm, size_t mimi, int text) {
    mo_model_files f;
    moshi_error err = {0};
    int rc = open_files(&f, path, NULL, 0, want, &err);
    if (!CHECK(rc == 0, "%s: %d %s", path, rc, err.text)) return;
    CHECK(f.has_lm == (lm != 0) && f.has_mimi == (mimi != 0) && f.has_text == (text != 0),
          "%s: what is there", path);
    CHECK(f.lm_file.n_tensors == lm && f.mimi_file.n_tensors == mimi && f.text.n == text,
          "%s: %zu %zu %d", path, f.lm_file.n_tensors, f.mimi_file.n_tensors, f.text.n);
    if (f.has_mimi)
        CHECK(f.mimi.dimension == model.spec.mimi.dimension, "%s: the codec's own sizes", path);
    if (f.has_lm) CHECK(f.lm.dim == model.spec.lm.dim, "%s: the model's sizes", path);
    mo_model_files_close(&f);
    CHECK(!f.has_lm && !f.lm_file.tensors && !f.text.bytes, "closed");
}

/* Fails with a message that holds all of the words. */
static void expect_error(const char *path, int want, int code, const char *a, const char *b,
                         const char *c) {
    mo_model_files f;
    moshi_error err = {0};
    int rc = open_files(&f, path, NULL, 0, want, &err);
    CHECK(rc == code && err.code == rc && strstr(err.text, a) && strstr(err.text, b) &&
              strstr(err.text, c),
          "%s: wanted \"%s\", \"%s\", \"%s\" in: %d %s", path ? path : "NULL", a, b, c, rc,
          err.text);
    CHECK(!f.has_lm && !f.has_mimi && !f.has_text && !f.lm_file.tensors && !f.mimi_file.tensors,
          "nothing is left");
    if (rc == 0) mo_model_files_close(&f);
}

static size_t lm_tensors, mimi_tensors;
static int pieces;

/* top/m holds the whole model under its names. */
static void test_directory(void) {
    make_dir("m");
    model_write(&model, at("m"));
    expect_open(at("m"), ALL, lm_tensors, mimi_tensors, pieces);
    expect_open(at("m/"), ALL, lm_tensors, mimi_tensors, pieces);
    expect_open(at("m"), MO_WANT_LM, lm_tensors, 0, 0);
    expect_open(at("m"), MO_WANT_MIMI, 0, mimi_tensors, 0);
    expect_open(at("m"), MO_WANT_TEXT, 0, 0, pieces);
    expect_open(at("m/model.safetensors"), ALL, lm_tensors, mimi_tensors, pieces);
    expect_open(at("m/model.safetensors"), MO_WANT_MIMI, 0, mimi_tensors, 0);
    expect_open(at("m/mimi.safetensors"), MO_WANT_MIMI, 0, mimi_tensors, 0);

    char here[1024];
    if (CHECK(getcwd(here, sizeof here) && chdir(at("m")) == 0, "change directory")) {
        expect_open(".", ALL, lm_tensors, mimi_tensors, pieces);
        expect_open("model.safetensors", ALL, lm_tensors, mimi_tensors, pieces);
        expect_open("./model.safetensors", ALL, lm_tensors, mimi_tensors, pieces);
        CHECK(chdir(here) == 0, "and back");
    }
}

/* Names that lead out of the directory, a checkpoint beside the configured one, usual names. */
static void test_names(void) {
    make_dir("n");
    write_config("n/config.json", "\"mimi.safetensors\"", "\"../m/mimi.safetensors\"");
    write_blob("n/mimi_config.json", MADE_MIMI_CONFIG);
    write_blob("n/text.model", MADE_TEXT);
    write_blob("n/other.safetensors", MADE_LM);
    expect_open(at("n/other.safetensors"), ALL, lm_tensors, mimi_tensors, pieces);
    expect_error(at("n"), ALL, MOSHI_EMODEL, at("n/model.safetensors"), "no such file",
                 "moshi_name in config.json");
    write_config("n/config.json", "\"moshi_name\"", "\"their_name\"");
    expect_open(at("n"), MO_WANT_LM, lm_tensors, 0, 0); /* the only one there */
    write_blob("n/third.safetensors", MADE_LM);
    expect_error(at("n"), MO_WANT_LM, MOSHI_EMODEL, "language model",
                 "found 2: other.safetensors, third.safetensors", "config.json");
    write_blob("n/model.safetensors", MADE_LM); /* the usual name wins */
    expect_open(at("n"), MO_WANT_LM, lm_tensors, 0, 0);
    unlink(at("n/other.safetensors"));
    unlink(at("n/third.safetensors"));
    unlink(at("n/model.safetensors"));
    expect_error(at("n"), MO_WANT_LM, MOSHI_EMODEL, "n/model.safetensors: no such file",
                 "no moshi_name", "language model");
    write_blob("n/model.safetensors", MADE_LM);
    write_config("n/config.json", "\"mimi_name\"", "\"their_name\"");
    expect_error(at("n"), MO_WANT_MIMI, MOSHI_EMODEL,
                 "n/tokenizer-e351c8d8-checkpoint125.safetensors", "no mimi_name", "Mimi");
    write_blob("n/tokenizer-e351c8d8-checkpoint125.safetensors", MADE_MIMI);
    expect_open(at("n"), ALL, lm_tensors, mimi_tensors, pieces);
    write_blob("n/mimi.safetensors", MADE_MIMI);
    write_config("n/config.json", "\"tokenizer_name\"", "\"their_name\"");
    expect_open(at("n"), ALL, lm_tensors, mimi_tensors, pieces);
    unlink(at("n/text.model"));
    expect_error(at("n"), ALL, MOSHI_EMODEL, "n/tokenizer_spm_32k_3.model", "no tokenizer_name",
                 "tokenizer");
    write_config("n/config.json", "\"mimi_config.json\"", "\"nowhere.json\"");
    expect_error(at("n"), ALL, MOSHI_EMODEL, "n/nowhere.json: no such file",
                 "codec's configuration", "mimi_config_name");

    /* Without mimi_config_name the codec has the official sizes. */
    write_config("n/config.json", "\"mimi_config_name\"", "\"their_config_name\"");
    expect_error(at("n"), MO_WANT_MIMI, MOSHI_EMODEL, "channels, the published codec 64",
                 "needs its configuration", "mimi_config_name");
}

static void test_codec_only(void) {
    make_dir("c");
    write_blob("c/config.json", MADE_MIMI_CONFIG);
    write_blob("c/model.safetensors", MADE_MIMI);
    expect_open(at("c"), MO_WANT_MIMI, 0, mimi_tensors, 0);
    expect_open(at("c/model.safetensors"), MO_WANT_MIMI, 0, mimi_tensors, 0);
    expect_error(at("c"), ALL, MOSHI_EMODEL, "c/config.json", "a Mimi codec alone",
                 "a language model");
    expect_error(at("c"), MO_WANT_MIMI | MO_WANT_TEXT, MOSHI_EMODEL, "c/config.json",
                 "a Mimi codec alone", "");

    make_dir("f"); /* the published file alone */
    write_blob("f/published.safetensors", MADE_MIMI);
    mo_model_files f;
    moshi_error err = {0};
    mo_mimi_config official;
    mo_mimi_config_official(&official);
    expect_error(at("f"), MO_WANT_MIMI, MOSHI_EMODEL, "f/published.safetensors",
                 "the published codec 64", "mimi_config_name");
    sparse_mimi(at("f/published.safetensors"), &official);
    for (int i = 0; i < 2; i++) {
        const char *path = at(i ? "f" : "f/published.safetensors");
        if (CHECK(open_files(&f, path, NULL, 0, MO_WANT_MIMI, &err) == 0, "%s", err.text)) {
            CHECK(f.mimi.dimension == 512 && f.mimi_file.n_tensors == 318 && f.codec_only,
                  "official sizes");
            mo_model_files_close(&f);
        }
        expect_error(path, ALL, MOSHI_EMODEL, "a Mimi codec alone", "wanted a language model", "");
    }
}

static void test_wrong(void) {
    mo_model_files f;
    moshi_error err = {0};
    expect_error(at("nowhere"), ALL, MOSHI_EMODEL, "nowhere",
                 "wanted a model directory or a checkpoint file", "No such file");
    expect_error(at("m/config.json/x"), ALL, MOSHI_EMODEL, "config.json/x",
                 "wanted a model directory", "Not a directory");
    expect_error(NULL, ALL, MOSHI_EINVAL, "path", "blobs", "neither");
    CHECK(open_files(&f, at("m"), model.blobs, MADE_BLOBS, ALL, &err) == MOSHI_EINVAL &&
              strstr(err.text, "both"),
          "%s", err.text);

    make_dir("w");
    model_write(&model, at("w"));
    write_bytes("w/text.model", "nonsense", 8);
    expect_error(at("w"), ALL, MOSHI_EMODEL, "w/text.model", "SentencePiece", "");
    write_bytes("w/mimi.safetensors", "version https://git-lfs.github.com/spec/v1\n", 43);
    expect_error(at("w"), ALL, MOSHI_EMODEL, "w/mimi.safetensors", "Git LFS", "");
    write_bytes("w/mimi_config.json", "{", 1);
    expect_error(at("w"), ALL, MOSHI_EMODEL, "w/mimi_config.json", "not valid JSON", "");
    write_bytes("w/model.safetensors", "", 0);
    expect_error(at("w"), ALL, MOSHI_EMODEL, "w/model.safetensors", "empty", "");
    write_config("w/config.json", "\"gating\":", "\"quantize\": true, \"gating\":");
    expect_error(at("w"), ALL, MOSHI_EMODEL, "w/config.json", "key \"quantize\"", "found true");
    unlink(at("w/model.safetensors"));
    make_dir("w/model.safetensors");
    write_blob("w/config.json", MADE_CONFIG);
    expect_error(at("w"), ALL, MOSHI_EMODEL, "w/model.safetensors", "found a directory", "");
    unlink(at("w/config.json"));
    expect_error(at("w"), ALL, MOSHI_EMODEL, at("w"),
                 "no file in it holds the language model's weights", "no config.json");
}

static void test_blobs(void) {
    mo_model_files f;
    moshi_error err = {0};
    moshi_blob blobs[MADE_BLOBS];
    char names[MADE_BLOBS][64];
    for (int i = 0; i < MADE_BLOBS; i++) {
        blobs[i] = model.blobs[i];
        snprintf(names[i], sizeof names[i], "./%s", model.blobs[i].name);
        if (i % 2) blobs[i].name = names[i];
    }
    if (CHECK(open_files(&f, NULL, blobs, MADE_BLOBS, ALL, &err) == 0, "%s", err.text)) {
        CHECK(f.lm_file.n_tensors == lm_tensors && f.mimi_file.n_tensors == mimi_tensors &&
                  f.text.n == pieces,
              "all of it");
        CHECK(f.lm_file.file.data == blobs[MADE_LM].data, "borrowed, not copied");
        mo_model_files_close(&f);
    }
    CHECK(open_files(&f, NULL, blobs, MADE_TEXT, ALL, &err) == MOSHI_EMODEL &&
              strstr(err.text, "text.model: no such file among the blobs"),
          "%s", err.text);
    CHECK(open_files(&f, NULL, blobs + 1, 4, ALL, &err) == MOSHI_EMODEL &&
              strstr(err.text, "no config.json gives the model's sizes"),
          "%s", err.text);
    blobs[2].name = NULL;
    CHECK(open_files(&f, NULL, blobs, MADE_BLOBS, ALL, &err) == MOSHI_EINVAL &&
              strstr(err.text, "blob 2"),
          "%s", err.text);
    blobs[2] = (moshi_blob){"x", NULL, 5};
    CHECK(open_files(&f, NULL, blobs, MADE_BLOBS, ALL, &err) == MOSHI_EINVAL &&
              strstr(err.text, "blob 2"),
          "%s", err.text);
}

static void test_memory(void) {
    if (!alloc_fail_works()) {
        SKIP("allocations cannot be made to fail here");
        return;
    }
    for (int sticky = 0; sticky < 2; sticky++) {
        int rc = MOSHI_ENOMEM;
        long n = 1;
        for (; rc != 0 && n < 1000; n++) {
            mo_model_files f;
            moshi_error err = {0};
            alloc_fail_at(n, sticky);
            rc = open_files(&f, at("m"), NULL, 0, ALL, &err);
            alloc_fail_at(0, false);
            CHECK(rc == 0 || rc == MOSHI_ENOMEM, "allocation %ld fails: %d %s", n, rc, err.text);
            if (rc == 0) mo_model_files_close(&f);
        }
        CHECK(rc == 0 && n > 20, "opens once nothing fails, after %ld", n);
    }
}

/* moshi_check_output(): whatever the model consists of, however it is called. */
static void test_outputs(void) {
    static const struct {
        const char *output, *model;
        const char *file; /* in the message; NULL: allowed */
    } cases[] = {
        {"out/config.json", "out", "out/config.json"},
        {"out/lm.safetensors", "out", "out/lm.safetensors"},
        {"out/mimi.safetensors", "out", "out/mimi.safetensors"},
        {"out/mimi.json", "out", "out/mimi.json"},
        {"out/text.model", "out", "out/text.model"},
        {"out/../out/./text.model", "out", "out/text.model"},
        {"out/text.model", "out/lm.safetensors", "out/text.model"},
        {"out/lm.safetensors", "out/lm.safetensors", "out/lm.safetensors"},
        {"out/other.safetensors", "out/other.safetensors", "out/other.safetensors"},
        {"symbolic", "out", "out/lm.safetensors"},
        {"hard", "out", "out/lm.safetensors"},
        {"bare/model.safetensors", "bare", "bare/model.safetensors"},
        {"bare/config.json", "bare/model.safetensors", "bare/config.json"},
        {"out/other.safetensors", "out", NULL},
        {"out/new.safetensors", "out", NULL},
        {"out/config.json", "bare", NULL},
        {"out/config.json", "nothing", NULL},
    };
    make_dir("out");
    make_dir("bare");
    static const char names[] =
        "{\"moshi_name\": \"lm.safetensors\", \"mimi_name\": \"./mimi.safetensors\", "
        "\"mimi_config_name\": \"mimi.json\", \"tokenizer_name\": \"text.model\"}";
    write_bytes("out/config.json", names, sizeof names - 1);
    static const char *const files[] = {"out/lm.safetensors",    "out/mimi.safetensors",
                                        "out/mimi.json",         "out/text.model",
                                        "out/other.safetensors", "bare/model.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) write_bytes(files[i], "x", 1);
    write_bytes("bare/config.json", "not JSON", 8);
    CHECK(symlink("out/lm.safetensors", at("symbolic")) == 0, "link");
    CHECK(link(at("out/lm.safetensors"), at("hard")) == 0, "link");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *output = at(cases[i].output), *its_model = at(cases[i].model);
        moshi_error err = {0};
        int rc = moshi_check_output(output, its_model, &err);
        if (!cases[i].file) {
            CHECK(rc == 0, "%s, %s: %s", output, its_model, err.text);
            continue;
        }
        CHECK(rc == MOSHI_EINVAL && err.code == rc && strstr(err.text, output) == err.text &&
                  strstr(err.text + strlen(output), at(cases[i].file)),
              "%s, %s: %d %s", output, its_model, rc, err.text);
    }
    CHECK(moshi_check_output(NULL, "out", NULL) == MOSHI_EINVAL, "no path");
    CHECK(moshi_check_output("out", NULL, NULL) == MOSHI_EINVAL, "no model");
}

static void clean_up(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    CHECK(system(command) == 0, "clean up");
}

int main(void) {
    model_spec spec;
    spec_tiny(&spec);
    model_make(&model, &spec);
    if (!CHECK(mkdtemp(top) != NULL, "temporary directory")) return check_done("test_files");
    mo_model_files f;
    moshi_error err = {0};
    if (CHECK(open_files(&f, NULL, model.blobs, MADE_BLOBS, ALL, &err) == 0, "%s", err.text)) {
        lm_tensors = f.lm_file.n_tensors;
        mimi_tensors = f.mimi_file.n_tensors;
        pieces = f.text.n;
        CHECK(lm_tensors == model.lm.n && mimi_tensors == model.mimi.n && pieces > 4, "%zu %zu %d",
              lm_tensors, mimi_tensors, pieces);
        mo_model_files_close(&f);
        test_directory();
        test_names();
        test_codec_only();
        test_wrong();
        test_blobs();
        test_outputs();
        test_memory();
    }
    clean_up();
    model_free(&model);
    return check_done("test_files");
}
