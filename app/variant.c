#include "variant.h"

#include "crash.h"
#include "device.h"
#include "modelfiles.h"
#include "progress.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Relative error of one matrix times one vector when its weights were rounded to a format, a little
 * more than matrices of real models show (`moshi convert --verify` on the demo model: q8_0 0.55 %,
 * q6_K 1.8 %, q4_K 7.4 %, q4_0 8.9 %). Coarsest last. */
static const struct format {
    const char *name;
    double error;
} FORMATS[] = {
    {"f32", 4e-6},  {"f16", 3e-4},  {"bf16", 2e-3}, {"q8_0", 6e-3},
    {"q6_K", 2e-2}, {"q5_K", 5e-2}, {"q4_K", 9e-2}, {"q4_0", 1.1e-1},
};
/* The same when the inputs of a quantised matrix are rounded to 8 bits in blocks of 32, as devices
 * do unless told to be exact: 0.5 % of normal numbers, twice that of ones with outliers. */
static const double ROUNDED_INPUTS = 1.03e-2;
enum { N_FORMATS = sizeof FORMATS / sizeof FORMATS[0] };

static const struct format *find_format(const char *name) {
    for (int i = 0; i < N_FORMATS; i++)
        if (!strcasecmp(FORMATS[i].name, name)) return &FORMATS[i];
    return NULL;
}

/* ---- words ---------------------------------------------------------------------------------- */

static int parse_number(const char *word, const char *value, int least, int most, int *out,
                        app_error *err) {
    char *end;
    long n = strtol(value, &end, 10);
    if (end == value || *end || n < least || n > most)
        return app_fail(err, EXIT_USAGE, "'%s': wanted a whole number %d..%d, found '%s'", word,
                        least, most, value);
    *out = (int)n;
    return EXIT_OK;
}

/* The numbers of the key/value cache have an error of their own: bytes with one scale for a row of
 * a head are a little coarser than blocks. */
static int parse_kv(variant *v, const char *word, const char *value, app_error *err) {
    static const struct {
        const char *name;
        moshi_kv kv;
        double error;
    } known[] = {
        {"f32", MOSHI_KV_F32, 0}, {"bf16", MOSHI_KV_BF16, 2e-3}, {"q8_0", MOSHI_KV_Q8_0, 1.2e-2}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcasecmp(known[i].name, value) != 0) continue;
        v->kv = known[i].kv;
        v->kv_error = known[i].error;
        return EXIT_OK;
    }
    return app_fail(err, EXIT_USAGE, "'%s': wanted kv=f32, kv=bf16 or kv=q8_0, found '%s'", word,
                    value);
}

static int refuse_second(const variant *v, const char *word, app_error *err) {
    return app_fail(err, EXIT_USAGE, "'%s': '%s' is the second word of its kind", v->text, word);
}

/* "cpu/avx2", "vulkan:0/plain": a device with kernels of its own is no path. */
static bool names_device(const char *word) {
    const size_t n = strcspn(word, ":/");
    return (n == 3 && !strncmp(word, "cpu", n)) || (n == 6 && !strncmp(word, "vulkan", n));
}

static int parse_word(variant *v, const char *word, app_error *err) {
    const char *value = strchr(word, '=');
    const struct format *format = find_format(word);
    if (format && v->type) return refuse_second(v, word, err);
    if (format && !strcmp(format->name, "q5_K"))
        return app_fail(err, EXIT_USAGE, "'%s': can be read, not made", word);
    if (format) {
        v->type = format->name;
    } else if (!strcmp(word, "exact")) {
        v->exact = true;
    } else if (value && !strncmp(word, "delay=", 6)) {
        if (v->delay >= 0) return refuse_second(v, word, err);
        return parse_number(word, value + 1, 0, 64, &v->delay, err);
    } else if (value && !strncmp(word, "kv=", 3)) {
        if (v->kv != MOSHI_KV_DEFAULT) return refuse_second(v, word, err);
        return parse_kv(v, word, value + 1, err);
    } else if (value && !strncmp(word, "threads=", 8)) {
        if (v->threads) return refuse_second(v, word, err);
        return parse_number(word, value + 1, 1, 256, &v->threads, err);
    } else if (access(word, F_OK) == 0) {
        v->path = word;
    } else if (value || (!names_device(word) && strpbrk(word, "/."))) {
        return app_fail(err, EXIT_USAGE,
                        "'%s': no such file, and none of: a device, " VARIANT_WORDS, word);
    } else if (v->device) {
        return refuse_second(v, word, err);
    } else {
        v->device = word; /* whether there is one of that name, the library knows */
    }
    return EXIT_OK;
}

int variant_parse(variant *v, const char *text, app_error *err) {
    *v = (variant){.text = text, .delay = -1};
    if (access(text, F_OK) == 0) { /* a name may contain '+' or ',' */
        v->path = text;
        return EXIT_OK;
    }
    v->words = strdup(text);
    if (!v->words) return app_no_memory(err);
    int rc = EXIT_OK;
    for (char *word = v->words, *next; rc == EXIT_OK && word; word = next) {
        next = strpbrk(word, "+,");
        if (next) *next++ = 0;
        rc = *word ? parse_word(v, word, err)
                   : app_fail(err, EXIT_USAGE, "'%s': an empty word; wanted WORD+WORD", text);
    }
    return rc;
}

/* ---- a directory with changed files --------------------------------------------------------- */

static int join(char path[PATH_MAX], const char *directory, const char *name, app_error *err) {
    int n = snprintf(path, PATH_MAX, "%s/%s", directory, name);
    return n < PATH_MAX ? EXIT_OK : app_fail(err, EXIT_USAGE, "%s/%s: too long", directory, name);
}

static int write_file(const char *directory, const char *name, const void *data, size_t n,
                      app_error *err) {
    char path[PATH_MAX];
    int rc = join(path, directory, name, err);
    FILE *f = rc == EXIT_OK ? fopen(path, "wb") : NULL;
    if (rc != EXIT_OK) return rc;
    bool whole = f && fwrite(data, 1, n, f) == n;
    if (f && fclose(f) != 0) whole = false;
    return whole ? EXIT_OK : app_fail(err, EXIT_USAGE, "%s: %s", path, strerror(errno));
}

static int make_directory(variant *v, app_error *err) {
    const char *parent = getenv("TMPDIR");
    char path[PATH_MAX], name[] = "moshi-compare-XXXXXX";
    int rc = join(path, parent && *parent ? parent : "/tmp", name, err);
    if (rc != EXIT_OK) return rc;
    if (!mkdtemp(path)) return app_fail(err, EXIT_USAGE, "%s: %s", path, strerror(errno));
    v->directory = strdup(path);
    return v->directory ? EXIT_OK : app_no_memory(err);
}

/* Links to every file of the model's directory. */
static int link_files(const char *from, const char *to, app_error *err) {
    char real[PATH_MAX], source[PATH_MAX], target[PATH_MAX];
    DIR *dir = realpath(from, real) ? opendir(real) : NULL;
    if (!dir) return app_fail(err, EXIT_MODEL, "%s: %s", from, strerror(errno));
    int rc = EXIT_OK;
    for (struct dirent *e; rc == EXIT_OK && (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        rc = join(source, real, e->d_name, err);
        if (rc == EXIT_OK) rc = join(target, to, e->d_name, err);
        if (rc == EXIT_OK && symlink(source, target) != 0)
            rc = app_fail(err, EXIT_USAGE, "%s: %s", target, strerror(errno));
    }
    closedir(dir);
    return rc;
}

/* Where the model can be opened once `directory` is filled: the directory, or the file in it that
 * was named. */
static int fill_directory(const variant *v, const char *path, const model_choice *model,
                          char out[PATH_MAX], app_error *err) {
    struct stat st;
    if (!path) {
        int rc = EXIT_OK;
        for (size_t i = 0; rc == EXIT_OK && i < model->n_blobs; i++)
            rc = write_file(v->directory, model->blobs[i].name, model->blobs[i].data,
                            model->blobs[i].size, err);
        snprintf(out, PATH_MAX, "%s", v->directory);
        return rc;
    }
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        snprintf(out, PATH_MAX, "%s", v->directory);
        return link_files(path, v->directory, err);
    }
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    int rc = link_files(*parent ? parent : "/", v->directory, err);
    return rc == EXIT_OK ? join(out, v->directory, slash ? slash + 1 : path, err) : rc;
}

/* Every acoustic codebook gets the delay; text and the two semantic codebooks keep theirs. */
static int set_delays(const variant *v, app_error *err) {
    char path[PATH_MAX];
    json_error_t why;
    int rc = join(path, v->directory, "config.json", err);
    if (rc != EXIT_OK) return rc;
    json_t *root = json_load_file(path, 0, &why);
    json_t *delays = json_object_get(root, "delays");
    size_t voice = (size_t)json_integer_value(json_object_get(root, "dep_q"));
    if (!json_is_array(delays)) {
        json_decref(root);
        return app_fail(err, EXIT_USAGE,
                        "delay=%d: wanted a model whose config.json has 'delays', found none in %s",
                        v->delay, path);
    }
    for (size_t i = 2; i < json_array_size(delays); i++)
        if (i != 1 + voice) json_array_set_new(delays, i, json_integer(v->delay));
    char *text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    if (!text) return app_no_memory(err);
    unlink(path); /* it may be a link to the user's own file */
    rc = write_file(v->directory, "config.json", text, strlen(text), err);
    free(text);
    return rc;
}

static int on_convert(void *user, uint64_t done, uint64_t total) {
    progress_draw(user, total ? (double)done / (double)total : 1.0, "converting");
    return app_interrupted();
}

static int convert(const variant *v, model_choice *model, char path[PATH_MAX], app_error *err) {
    char out[PATH_MAX];
    moshi_error why = {0};
    progress bar;
    int rc = join(out, v->directory, "converted.gguf", err);
    if (rc != EXIT_OK) return rc;
    progress_start(&bar, false);
    rc = moshi_convert(path, out,
                       &(moshi_convert_options){.type = v->type,
                                                .finder = {hub_look_up, &model->lookup},
                                                .progress = on_convert,
                                                .user = &bar},
                       &why);
    progress_clear(&bar);
    if (rc < 0) return app_fail_library(err, rc, why.text);
    snprintf(path, PATH_MAX, "%s", out);
    return EXIT_OK;
}

void variant_close(variant *v) {
    DIR *dir = v->directory ? opendir(v->directory) : NULL;
    char path[PATH_MAX];
    app_error ignored;
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") &&
            join(path, v->directory, e->d_name, &ignored) == EXIT_OK)
            unlink(path);
    if (dir) closedir(dir);
    if (v->directory) rmdir(v->directory);
    free(v->directory);
    free(v->words);
    *v = (variant){0};
}

/* ---- opening -------------------------------------------------------------------------------- */

/* Error of weights of a type that a model's file has; 0: it says nothing of them. */
static double type_error(const char *type) {
    const struct format *f = find_format(type);
    if (f) return f->error;
    /* bytes under one scale per row; words of few bits, 4 at least where models are published */
    return !strcmp(type, "I8") ? 1.2e-2 : !strcmp(type, "U32") ? 9e-2 : 0;
}

static bool of_codec(const moshi_tensor_info *t) {
    static const char *const begins[] = {"encoder", "decoder", "quantizer", "downsample",
                                         "upsample"};
    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++)
        if (!strncmp(t->name, begins[i], strlen(begins[i]))) return true;
    return false;
}

/* The coarsest format decides. Where the weights are those of the common model, there is only what
 * arithmetic on quantised ones rounds, else both: they are independent of each other. */
static double part_error(const variant *v, const moshi_model_info *info, bool codec) {
    const bool common = codec ? !v->path : !v->path && !v->type; /* conversion leaves the codec */
    double coarsest = FORMATS[0].error;
    for (size_t i = 0; i < info->n_tensors; i++) {
        const moshi_tensor_info *t = &info->tensors[i];
        if (t->ndim >= 2 && of_codec(t) == codec) coarsest = fmax(coarsest, type_error(t->dtype));
    }
    bool quantised = coarsest > find_format("bf16")->error;
    double weights = common ? FORMATS[0].error : coarsest;
    return quantised && !v->exact ? hypot(weights, ROUNDED_INPUTS) : weights;
}

static explained format_error(const variant *v, const char *path, const model_choice *model) {
    moshi_model_info *info = NULL;
    moshi_error why;
    explained e = {FORMATS[0].error, FORMATS[0].error};
    moshi_inspect_options options = {.model = path, .flags = MOSHI_INSPECT_QUICK};
    if (!path) {
        options.blobs = model->blobs;
        options.n_blobs = model->n_blobs;
    }
    if (moshi_inspect(&info, &options, &why) < 0) return e;
    e.model = hypot(part_error(v, info, false), v->kv_error);
    e.codec = part_error(v, info, true); /* its cache is always float32 */
    moshi_model_info_free(info);
    return e;
}

static int on_load(void *user, uint64_t done, uint64_t total) {
    progress_draw(user, total ? (double)done / (double)total : 0, "loading the model");
    return app_interrupted();
}

int variant_open(variant *v, model_choice *model, moshi_engine **out, app_error *err) {
    const char *path = v->path ? v->path : model->path;
    char made[PATH_MAX];
    moshi_error why = {0};
    progress bar;
    if (v->type || v->delay >= 0) {
        int rc = make_directory(v, err);
        if (rc == EXIT_OK) rc = fill_directory(v, path, model, made, err);
        if (rc == EXIT_OK && v->delay >= 0) rc = set_delays(v, err);
        if (rc == EXIT_OK && v->type) rc = convert(v, model, made, err);
        if (rc != EXIT_OK) return rc;
        path = made;
    }
    v->error = format_error(v, path, model);
    model_choice opened = {.path = path, .name = v->path ? v->path : model->name};
    opened.blobs = path ? NULL : model->blobs;
    opened.n_blobs = path ? 0 : model->n_blobs;
    model_note_for_crashes(&opened, v->device);
    progress_start(&bar, false);
    moshi_engine_options options = {.model = path,
                                    .blobs = path ? NULL : model->blobs,
                                    .n_blobs = path ? 0 : model->n_blobs,
                                    .finder = {hub_look_up, &model->lookup},
                                    .device = v->device,
                                    .cache = device_cache(v->device),
                                    .threads = v->threads,
                                    .kv = v->kv,
                                    .flags = v->exact ? MOSHI_EXACT : 0,
                                    .breadcrumb = crash_breadcrumb(),
                                    .progress = on_load,
                                    .progress_user = &bar};
    int rc = moshi_engine_open(out, &options, &why);
    progress_clear(&bar);
    if (rc >= 0) return EXIT_OK;
    app_error inner;
    bool word = rc == MOSHI_EDEVICE && v->device;
    rc = app_fail_library(&inner, rc, why.text);
    /* "q9" is a slip of the pen: devices are numbered behind a colon. */
    if (word && !strchr(v->device, ':') && strpbrk(v->device, "0123456789")) rc = EXIT_USAGE;
    size_t n = strlen(v->text);
    bool told = !strncmp(inner.text, v->text, n) && inner.text[n] == ':';
    return app_fail(err, rc, "%s%s%s%s", told ? "" : v->text, told ? "" : ": ", inner.text,
                    word ? "; a word that is no device is one of: " VARIANT_WORDS : "");
}
