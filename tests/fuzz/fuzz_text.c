/* fuzz_text.c - any bytes as a tokenizer: every piece must come out as clean text. */
#include "fuzz.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

static void check_pieces(const mo_text *text, char *out, size_t cap) {
    for (int id = -1; id <= text->n; id++) {
        size_t n = mo_text_piece(text, id, out, cap);
        need_true(n < cap && out[n] == 0);
        need_true(n <= 1 || memchr(out, 0, n) == NULL);
        char small[4];
        n = mo_text_piece(text, id, small, sizeof small);
        need_true(n < sizeof small && small[n] == 0);
    }
}

/* Decode all pieces, in both directions, whole and cut short. */
static void check_decode(const mo_text *text) {
    int n = text->n > 3000 ? 3000 : text->n;
    int *ids = malloc((size_t)n * 2 * sizeof *ids);
    need_true(ids != NULL);
    for (int i = 0; i < n; i++) ids[i] = ids[2 * n - 1 - i] = i;
    size_t need = mo_text_decode(text, ids, (size_t)n * 2, NULL, 0);
    char *out = malloc(need + 1);
    need_true(out != NULL);
    need_true(mo_text_decode(text, ids, (size_t)n * 2, out, need + 1) == need && out[need] == 0);
    size_t half = need / 2 + 1;
    char *cut = malloc(half);
    need_true(cut != NULL);
    need_true(mo_text_decode(text, ids, (size_t)n * 2, cut, half) == need);
    size_t kept = strnlen(cut, half);
    need_true(kept < half && memcmp(cut, out, kept) == 0);
    free(cut);
    free(out);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mo_text text;
    moshi_error err = {0};
    int rc = mo_text_parse(&text, data, size, "fuzz", &err);
    if (rc < 0) {
        need_true(rc == MOSHI_EMODEL && err.code == rc && strstr(err.text, "fuzz") != NULL);
        need_true(text.bytes == NULL && text.n == 0);
        return 0;
    }
    need_true(text.n > 0 && text.longest > 0);
    char *out = malloc((size_t)text.longest);
    need_true(out != NULL);
    check_pieces(&text, out, (size_t)text.longest);
    check_decode(&text);
    free(out);
    mo_text_free(&text);
    return 0;
}
