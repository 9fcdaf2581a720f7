/* faulty_devices.c - a list of devices to link instead of src/devices.c: the CPU with one thing
 * wrong each, and the CPU itself. What a faulty driver does, they do on purpose, so that the
 * instruments can be shown to find it. MOSHI_FAULTY=KIND,KIND... in the environment says which of
 * them exist; all do without it. Never installed. */
#include "faulty_devices.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MODEL_OPS = 60 /* programs longer than that are models, not cases of one op */ };

typedef enum fault {
    FAULT_ELU,       /* slope 0.9 below zero */
    FAULT_GELU,      /* the tanh form */
    FAULT_TRIM,      /* transposed convolutions come out one sample early */
    FAULT_SOFTMAX,   /* scores divided by the head's size, not by its root */
    FAULT_BLOCK,     /* the first block of every matrix of 16 bits or fewer arrives damaged */
    FAULT_NAN,       /* one lane of linear layers */
    FAULT_FAINT,     /* sound comes out with a tone of a thousandth of full scale under it */
    FAULT_REFUSE,    /* says that it cannot be opened */
    FAULT_NO_MEMORY, /* has no memory for a model */
    FAULT_ABORT,     /* ends the process when it is opened */
    FAULT_EXCEPTION, /* the same, as a C++ runtime does it */
    FAULT_CORRUPT,   /* writes through a bad pointer while weights arrive */
    FAULT_HANG,      /* never returns from the first frame */
    FAULT_LATE,      /* writes through a bad pointer after a while */
    FAULT_COUNT
} fault;

static const char *const fault_names[FAULT_COUNT] = {
    "elu",    "gelu",      "trim",  "softmax",   "block",   "nan",  "faint",
    "refuse", "no-memory", "abort", "exception", "corrupt", "hang", "late"};

static mo_backend_ops tables[FAULT_COUNT];

static fault fault_of(const mo_backend *be) {
    return (fault)(be->ops - tables);
}

/* ---- programs: the inner ones, with a copy of their ops ------------------------------------- */

typedef struct recorded {
    const mo_program *program;
    mo_op *ops;
    int n, slots;
    struct recorded *next;
} recorded;

static recorded *programs;
unsigned faulty_kinds_seen;

static mo_program *faulty_record(mo_backend *be, const mo_op *ops, int n, int slots) {
    mo_program *p = mo_backend_cpu.record(be, ops, n, slots);
    recorded *r = calloc(1, sizeof *r);
    mo_op *copy = calloc((size_t)n + 1, sizeof *copy);
    if (!p || !r || !copy) abort();
    memcpy(copy, ops, (size_t)n * sizeof *copy);
    for (int i = 0; i < n; i++) faulty_kinds_seen |= 1u << ops[i].kind;
    *r = (recorded){p, copy, n, slots, programs};
    programs = r;
    return p;
}

static void faulty_program_free(mo_backend *be, mo_program *p) {
    for (recorded **at = &programs; *at; at = &(*at)->next) {
        recorded *r = *at;
        if (r->program != p) continue;
        *at = r->next;
        free(r->ops);
        free(r);
        break;
    }
    mo_backend_cpu.program_free(be, p);
}

static const recorded *recorded_of(const mo_program *p) {
    for (const recorded *r = programs; r; r = r->next)
        if (r->program == p) return r;
    abort();
}

/* ---- wrong results -------------------------------------------------------------------------- */

static float *row_of(const mo_view *v, int slot, int row) {
    return (float *)v->buf->data + v->offset + (size_t)slot * v->slot_stride +
           (size_t)row * v->row_stride;
}

static void spoil_elu(const mo_view *out, int slot) {
    for (int row = 0; row < out->rows; row++)
        for (int c = 0; c < out->cols; c++) {
            float *y = row_of(out, slot, row) + c;
            if (*y < 0) *y *= 0.9f;
        }
}

static void spoil_lane(const mo_view *out, int slot) {
    for (int row = 0; row < out->rows && out->cols >= 16; row++) row_of(out, slot, row)[5] = NAN;
}

/* What has one channel is sound. */
static void spoil_sound(const mo_view *out, int slot) {
    for (int row = 0; row < out->rows && out->cols == 1; row++)
        row_of(out, slot, row)[0] += row / 12 % 2 ? 1e-3f : -1e-3f;
}

static void tanh_gelu(const mo_op_act *op, int slot) {
    for (int row = 0; row < op->out.rows; row++)
        for (int c = 0; c < op->out.cols; c++) {
            float x = row_of(&op->in, slot, row)[c];
            row_of(&op->out, slot, row)[c] =
                0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
        }
}

/* Everything `by` numbers earlier; the last ones stay. Rows of such outputs are dense. */
static void spoil_shift(const mo_view *out, int slot, int by) {
    float *first = row_of(out, slot, 0);
    size_t n = (size_t)(out->rows - 1) * out->row_stride + (size_t)out->cols;
    if ((size_t)by < n) memmove(first, first + by, (n - (size_t)by) * sizeof *first);
}

/* A transposed convolution is recorded as two taps at stride 1 that write several samples a row:
 * how many channels a sample has, the op that reads them knows. */
static int sample_channels(const recorded *r, int i) {
    const mo_buf *buf = r->ops[i].u.linear.out.buf;
    for (int k = i + 1; k < r->n; k++) {
        if (r->ops[k].kind == MO_OP_ACT && r->ops[k].u.act.in.buf == buf)
            return r->ops[k].u.act.in.cols;
        if (r->ops[k].kind == MO_OP_LINEAR && r->ops[k].u.linear.in.buf == buf)
            return r->ops[k].u.linear.in.cols;
    }
    return 1;
}

static void scale_queries(const mo_op_attend *op, int slot, float by) {
    for (int row = 0; row < op->qkv.rows; row++)
        for (int c = 0; c < op->heads * op->kv.head_dim; c++) row_of(&op->qkv, slot, row)[c] *= by;
}

static void after_op(fault f, const recorded *r, int i, int slot) {
    const mo_op *op = &r->ops[i];
    bool act = op->kind == MO_OP_ACT, linear = op->kind == MO_OP_LINEAR;
    if (f == FAULT_ELU && act && op->u.act.act == MO_ACT_ELU) spoil_elu(&op->u.act.out, slot);
    if (f == FAULT_NAN && linear) spoil_lane(&op->u.linear.out, slot);
    if (f == FAULT_FAINT && linear) spoil_sound(&op->u.linear.out, slot);
    if (f == FAULT_TRIM && op->kind == MO_OP_UPSAMPLE)
        spoil_shift(&op->u.upsample.out, slot, (int)op->u.upsample.out.row_stride);
    if (f == FAULT_TRIM && linear && op->u.linear.taps == 2 && op->u.linear.stride == 1)
        spoil_shift(&op->u.linear.out, slot, sample_channels(r, i));
}

static int run_op(mo_backend *be, mo_program *p, const recorded *r, int i, const uint8_t *exec) {
    fault f = fault_of(be);
    const mo_op *op = &r->ops[i];
    bool gelu = f == FAULT_GELU && op->kind == MO_OP_ACT && op->u.act.act == MO_ACT_GELU;
    bool softmax = f == FAULT_SOFTMAX && op->kind == MO_OP_ATTEND;
    float root = softmax ? sqrtf((float)op->u.attend.kv.head_dim) : 1;
    for (int s = 0; s < r->slots; s++) {
        if (exec[s] && gelu) tanh_gelu(&op->u.act, s);
        if (exec[s] && softmax) scale_queries(&op->u.attend, s, 1 / root);
    }
    if (gelu) return 0;
    int rc = mo_backend_cpu.run(be, p, i, i + 1, exec);
    for (int s = 0; s < r->slots; s++)
        if (exec[s]) after_op(f, r, i, s);
    return rc;
}

/* mo_op_sift holds for the rest of a run, and here every op is a run. */
static void sift(const mo_op_sift *op, int slots, uint8_t *left) {
    for (int s = 0; s < slots; s++)
        for (int c = 0; c < op->tokens.cols; c++) {
            int32_t token;
            memcpy(&token, row_of(&op->tokens, s, 0) + c, sizeof token);
            if (token < 0 || token >= op->n) left[s] = 0;
        }
}

static void write_through_bad_pointer(void) {
    static volatile int *volatile nowhere = (volatile int *)(uintptr_t)16;
    *nowhere = 1;
}

static int late_calls(void) {
    const char *asked = getenv("MOSHI_FAULTY_CALLS");
    return asked ? atoi(asked) : 40;
}

static int faulty_run(mo_backend *be, mo_program *p, int first, int last, const uint8_t *exec) {
    static int model_runs;
    const recorded *r = recorded_of(p);
    fault f = fault_of(be);
    int rc = 0;
    if (r->n > MODEL_OPS && f == FAULT_HANG)
        for (;;) pause();
    if (r->n > MODEL_OPS && f == FAULT_LATE && ++model_runs > late_calls())
        write_through_bad_pointer();
    uint8_t *left = malloc((size_t)r->slots);
    if (!left) abort();
    memcpy(left, exec, (size_t)r->slots);
    for (int i = first; i < last && rc == 0; i++) {
        if (r->ops[i].kind == MO_OP_SIFT) sift(&r->ops[i].u.sift, r->slots, left);
        rc = run_op(be, p, r, i, left);
    }
    free(left);
    return rc;
}

/* ---- wrong memory --------------------------------------------------------------------------- */

/* Damage the first block: 32 numbers lose their sign, or the second half of a block's bytes. */
static void spoil_block(mo_dtype dtype, uint8_t *data, size_t bytes) {
    size_t block = mo_dtype_block(dtype);
    size_t size = block > 1 ? (size_t)mo_dtype_row_bytes(dtype, block) : 64;
    for (size_t i = block > 1 ? size / 2 : 1; i < size && i<bytes; i += block> 1 ? 1 : 2)
        data[i] ^= block > 1 ? 0x55 : 0x80;
}

static int weights_held;

static int faulty_weight(mo_backend *be, const mo_matrix *src, mo_layout layout, mo_weight *out) {
    enum { A_MODEL = 20 /* more weights than any case of one op has */ };
    uint64_t bytes = mo_dtype_row_bytes(src->dtype, (uint64_t)(src->rows * src->cols));
    if (fault_of(be) == FAULT_CORRUPT && weights_held >= A_MODEL) write_through_bad_pointer();
    if (fault_of(be) == FAULT_NO_MEMORY && weights_held >= A_MODEL) return MOSHI_ENOMEM;
    weights_held++;
    if (fault_of(be) != FAULT_BLOCK || src->dtype == MO_F32 || bytes < 64)
        return mo_backend_cpu.weight(be, src, layout, out);
    mo_matrix spoiled = *src;
    uint8_t *copy = malloc(bytes);
    if (!copy) abort();
    memcpy(copy, src->data, bytes);
    spoil_block(src->dtype, copy, bytes);
    spoiled.data = copy;
    int rc = mo_backend_cpu.weight(be, &spoiled, layout, out);
    free(copy);
    return rc;
}

static void faulty_weight_free(mo_backend *be, mo_weight *w) {
    weights_held--;
    mo_backend_cpu.weight_free(be, w);
}

/* ---- devices -------------------------------------------------------------------------------- */

/* Is `name` in the list of MOSHI_FAULTY? */
static bool exists(const char *name) {
    const char *list = getenv("MOSHI_FAULTY");
    size_t n = strlen(name);
    if (!list) return true;
    while (*list) {
        size_t word = strcspn(list, ",");
        if (word == n && !strncmp(list, name, n)) return true;
        list += word + (list[word] == ',');
    }
    return false;
}

static int kind_of(int nth) {
    for (int f = 0; f < FAULT_COUNT; f++)
        if (exists(fault_names[f]) && nth-- == 0) return f;
    return -1;
}

static int faulty_list(moshi_device_info *out, int most, moshi_error *why) {
    int n = 0;
    (void)why;
    for (int f; n < most && (f = kind_of(n)) >= 0; n++) {
        moshi_device_info *info = &out[n];
        info->kind = "faulty";
        snprintf(info->name, sizeof info->name, "faulty:%s", fault_names[f]);
        snprintf(info->description, sizeof info->description, "the CPU with one thing wrong");
        snprintf(info->driver, sizeof info->driver, "faulty 1.0");
    }
    return n;
}

static void say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) abort();
}

static int faulty_open(mo_backend **out, const mo_backend_options *options, moshi_error *err) {
    int f = kind_of(options->nth);
    *out = NULL;
    if (f == FAULT_ABORT) abort();
    if (f == FAULT_REFUSE)
        return mo_fail(err, MOSHI_EDEVICE, "faulty:refuse: wanted driver 2.0, found 1.0");
    if (f == FAULT_EXCEPTION) {
        say("terminate called after throwing an instance of 'std::runtime_error'\n"
            "  what():  no adapter\n");
        abort();
    }
    int rc = mo_backend_cpu.open(out, options, err);
    if (rc < 0) return rc;
    tables[f] = mo_backend_cpu;
    tables[f].name = "faulty";
    tables[f].list = faulty_list;
    tables[f].weight = faulty_weight;
    tables[f].weight_free = faulty_weight_free;
    tables[f].record = faulty_record;
    tables[f].program_free = faulty_program_free;
    tables[f].run = faulty_run;
    (*out)->ops = &tables[f];
    return 0;
}

const mo_backend_ops *mo_backend_at(int i) {
    static mo_backend_ops faulty;
    faulty = mo_backend_cpu;
    faulty.name = "faulty";
    faulty.list = faulty_list;
    faulty.open = faulty_open;
    if (i == 0) return &faulty;
    return i == 1 ? &mo_backend_cpu : NULL;
}
