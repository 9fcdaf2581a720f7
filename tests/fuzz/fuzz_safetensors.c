/* fuzz_safetensors.c - any bytes as a weights file: everything a view promises must be readable. */
#include "checkpoint.h"
#include "fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mo_file file;
    mo_checkpoint ck;
    moshi_error err = {0};
    need_true(mo_file_borrow(&file, data, size, "fuzz", &err) == 0);
    int rc = mo_checkpoint_open(&ck, &file, &err);
    if (rc < 0) {
        need_true(rc == MOSHI_EMODEL && err.code == rc && strstr(err.text, "fuzz") != NULL);
        need_true(ck.tensors == NULL && ck.n_tensors == 0);
        return 0;
    }
    for (size_t i = 0; i < ck.n_tensors; i++) {
        const mo_tensor_view *t = &ck.tensors[i];
        uint64_t count = 1;
        for (int d = 0; d < t->ndim; d++) count *= (uint64_t)t->shape[d];
        need_true(count == t->count && t->bytes == count * mo_dtype_bytes(t->dtype));
        need_true(mo_checkpoint_find(&ck, t->name) == t);
        need_true(i == 0 || strcmp(ck.tensors[i - 1].name, t->name) < 0);
        if (t->bytes == 0) continue;
        const uint8_t *bytes = t->data;
        need_true(bytes >= data && bytes + t->bytes <= data + size);
        volatile uint8_t touched = (uint8_t)(bytes[0] ^ bytes[t->bytes - 1]);
        (void)touched;
        if (mo_dtype_is_float(t->dtype)) {
            float first = 0, last = 0;
            mo_tensor_read(t, 0, 1, &first);
            mo_tensor_read(t, t->count - 1, 1, &last);
            float again = mo_tensor_at(t, t->count - 1);
            need_true(last == again || (isnan(last) && isnan(again)));
        }
    }
    mo_checkpoint_close(&ck);
    return 0;
}
