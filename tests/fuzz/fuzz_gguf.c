/* fuzz_gguf.c - any bytes as a GGUF file: everything a view or value promises must be readable. */
#include "fuzz.h"
#include "gguf.h"
#include "quant.h"

#include <string.h>

static const uint8_t *file_begin, *file_end;

/* `bytes` at `at` must be the file's; the first and last are touched for the sanitizer. */
static void need_inside(const uint8_t *at, uint64_t bytes) {
    if (bytes == 0) return;
    need_true(at >= file_begin && at < file_end && bytes <= (uint64_t)(file_end - at));
    volatile uint8_t touched = (uint8_t)(at[0] ^ at[bytes - 1]);
    (void)touched;
}

static void check_tensor(const mo_checkpoint *ck, size_t i) {
    const mo_tensor_view *t = &ck->tensors[i];
    uint64_t count = 1, block = mo_dtype_block(t->dtype);
    for (int d = 0; d < t->ndim; d++) count *= (uint64_t)t->shape[d];
    need_true(count == t->count && t->bytes == mo_dtype_row_bytes(t->dtype, count));
    need_true((count == 0) == (t->bytes == 0));
    need_true(mo_checkpoint_find(ck, t->name) == t);
    need_true(i == 0 || strcmp(t[-1].name, t->name) < 0);
    need_inside(t->data, t->bytes);
    const mo_quant *q = mo_quant_of(t->dtype);
    if (!q || count == 0) return;
    float x[256];
    uint64_t last = t->bytes - mo_dtype_row_bytes(t->dtype, block);
    q->dequantise(t->data, x, block);
    q->dequantise((const uint8_t *)t->data + last, x, block);
}

static void check_value(const mo_checkpoint *ck, size_t i) {
    const mo_gguf_value *v = &ck->values[i];
    int64_t number;
    need_true(mo_gguf_find(ck, v->key) == v);
    need_true(i == 0 || strcmp(v[-1].key, v->key) < 0);
    need_true(v->type < MO_GGUF_TYPE_COUNT && v->element < MO_GGUF_TYPE_COUNT);
    mo_gguf_integer(v, &number);
    if (v->type == MO_GGUF_STRING) need_inside(v->data, v->count);
    if (v->type != MO_GGUF_ARRAY || v->element != MO_GGUF_STRING) return;
    const uint8_t *at = v->data;
    for (uint64_t k = 0; k < v->count; k++) {
        size_t n;
        const char *string = mo_gguf_next_string(&at, &n);
        need_inside((const uint8_t *)string, n);
        need_true(at <= file_end);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mo_file file;
    mo_checkpoint ck;
    moshi_error err = {0};
    file_begin = data;
    file_end = data + size;
    need_true(mo_file_borrow(&file, data, size, "fuzz", &err) == 0);
    int rc = mo_checkpoint_open(&ck, &file, &err);
    if (rc < 0) {
        need_true(rc == MOSHI_EMODEL && err.code == rc && strstr(err.text, "fuzz") != NULL);
        need_true(!ck.tensors && !ck.values && !ck.names && !ck.n_tensors && !ck.n_values);
        return 0;
    }
    for (size_t i = 0; i < ck.n_tensors; i++) check_tensor(&ck, i);
    for (size_t i = 0; i < ck.n_values; i++) check_value(&ck, i);
    mo_checkpoint_close(&ck);
    return 0;
}
