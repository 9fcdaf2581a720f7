/* write_preset NAME TYPE DIR - a preset as files, DIR/config.json and DIR/model.gguf without codec
 * and tokenizer: how long a model of that size takes to load. */
#include "../tensors.h"
#include "made.h"
#include "presets.h"
#include "writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void write_config(const char *dir, const char *text) {
    char path[4096];
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "w");
    const char *end = strrchr(text, '}');
    if (!f || !end) test_die("%s: %s", path, strerror(errno));
    fprintf(f, "%.*s, \"moshi_name\": \"model.gguf\"}\n", (int)(end - text), text);
    if (fclose(f) != 0) test_die("%s: %s", path, strerror(errno));
}

int main(int argc, char **argv) {
    mo_model_files f;
    mo_writer w;
    moshi_error err;
    char path[4096];
    if (argc != 4) {
        fprintf(stderr, "usage: write_preset NAME TYPE DIR\n");
        return 2;
    }
    if (mo_made_files_open(&f, argv[1], argv[2], MO_WANT_LM, false, &err) < 0)
        test_die("%s", err.text);
    size_t n = f.lm_file.n_tensors;
    mo_out_tensor *out = test_alloc(n, sizeof *out);
    for (size_t i = 0; i < n; i++) {
        const mo_tensor_view *t = &f.lm_file.tensors[i];
        out[i] =
            (mo_out_tensor){.name = t->name, .dtype = t->dtype, .ndim = t->ndim, .bytes = t->bytes};
        memcpy(out[i].shape, t->shape, sizeof out[i].shape);
    }
    write_config(argv[3], f.preset->config);
    snprintf(path, sizeof path, "%s/model.gguf", argv[3]);
    if (mo_writer_open(&w, path, MO_FORMAT_GGUF, out, n, NULL, 0, &err) != 0)
        test_die("%s", err.text);
    for (size_t i = 0; i < n; i++) {
        int error = mo_writer_put(&w, out[i].at, f.lm_file.tensors[i].data, out[i].bytes);
        if (error) test_die("%s: %s", path, strerror(error));
    }
    if (mo_writer_flush(&w) != 0 || mo_writer_finish(&w) != 0) test_die("%s: not written", path);
    free(out);
    mo_model_files_close(&f);
    return 0;
}
