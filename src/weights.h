/* weights.h - from tensor names to weights on the device: checks dtype, shape and health of every
 * tensor before it is uploaded, and knows at the end which tensors nobody asked for. */
#ifndef MO_WEIGHTS_H
#define MO_WEIGHTS_H

#include "backend.h"
#include "lora.h"
#include "names.h"

/* All weights of one engine, freed together. */
typedef struct mo_weights {
    mo_backend *be;
    mo_weight **items;
    int n, cap;
    uint64_t bytes;      /* on the device */
    uint64_t parameters; /* numbers in the files they came from */
} mo_weights;

void mo_weights_open(mo_weights *ws, mo_backend *be);
void mo_weights_close(mo_weights *ws);

/* What became of one tensor of a checkpoint. */
typedef struct mo_tensor_note {
    enum { MO_UNUSED, MO_USED, MO_NOT_NEEDED } use;
    uint64_t parameters; /* numbers it stands for; 0 unless it was used */
    int64_t rows, cols;  /* of the packed matrix it stands for; 0: its shape is the whole truth */
} mo_tensor_note;

typedef enum mo_fault {
    MO_FAULT_MISSING, /* a tensor */
    MO_FAULT_UNFIT,   /* its type or shape */
    MO_FAULT_SURPLUS
} mo_fault;

/* A loader with an audit notes what is wrong and goes on: everything at once instead of the first
 * thing. For dry runs only: weights may be absent afterwards. */
typedef struct mo_audit {
    mo_tensor_note *notes; /* [n_tensors] of the checkpoint being loaded */
    /* 0, or MOSHI_ENOMEM, which ends the loading. */
    int (*fault)(void *user, mo_fault fault, const char *tensor, const char *text);
    void *user;
    /* NULL, or called with the shape of every tensor that is missing before `fault` is. */
    void (*missing)(void *user, const char *name, int ndim, const int64_t *shape);
} mo_audit;

/* Reads one checkpoint into a pool. The first failure sticks (`failed`, with the text in err),
 * later calls do nothing and return NULL, so that model code reads as straight lines. */
typedef struct mo_loader {
    mo_weights *pool;
    const mo_checkpoint *ck;
    uint8_t *used;   /* [ck->n_tensors] as mo_tensor_note.use */
    mo_audit *audit; /* or NULL */
    mo_names names;  /* how the file spells the names asked for; PyTorch's unless set */
    mo_loras *loras; /* adapters to add, or NULL */
    bool dry;        /* numbers are neither read nor judged: the device only counts (dry.h) */
    bool trusted;    /* numbers need no judging: there are none, or they are made up (made.h) */
    bool exact;      /* quantised matrices become float32 instead of staying as they are */
    bool half;       /* float32 matrices asked for now become float16 unless `exact` */
    int pieces;      /* convolutions asked for now may be split so, as in mo_matrix, likewise */
    int digits;      /* float32 matrices and convolutions asked for now may be held so, as in
                        mo_matrix, where that errs by no more than the floats do, likewise */
    /* called with every matrix asked for that is there, before it is checked; or NULL */
    void (*matrix)(void *user, const mo_tensor_view *t, const mo_lora_target *m);
    void *matrix_user;
    const char *tensor; /* taken from the file last; NULL: none yet */
    int failed;
    moshi_error *err;
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *progress_user;
    uint64_t done, total; /* bytes, over all files of the model */
} mo_loader;

/* Start on a checkpoint. `ld` is zeroed before its first use; progress goes on from file to file.
 */
int mo_loader_begin(mo_loader *ld, mo_weights *pool, const mo_checkpoint *ck, moshi_error *err);
/* Refuses tensors that were not used, then frees the loader. Returns 0 or the first failure. */
int mo_loader_finish(mo_loader *ld);

/* Is there a tensor of this name? */
bool mo_load_has(const mo_loader *ld, const char *fmt, ...) MO_PRINTF(2, 3);
/* Tensors known not to be needed: every name that starts with `prefix`. */
void mo_load_ignore(mo_loader *ld, const char *prefix);

/* [rows, cols] as it is. */
const mo_weight *mo_load_matrix(mo_loader *ld, mo_layout layout, int64_t rows, int64_t cols,
                                const char *fmt, ...) MO_PRINTF(5, 6);
/* Rows part*rows .. of a matrix that stacks `parts` of them: [parts * rows, cols]. */
const mo_weight *mo_load_part(mo_loader *ld, int part, int parts, int64_t rows, int64_t cols,
                              const char *fmt, ...) MO_PRINTF(6, 7);
/* n numbers in any shape with that many elements, as f32. */
const mo_weight *mo_load_vector(mo_loader *ld, int64_t n, const char *fmt, ...) MO_PRINTF(3, 4);
/* The same, each number `times` times over: [a b] -> [a b a b]. */
const mo_weight *mo_load_vector_tiled(mo_loader *ld, int64_t n, int times, const char *fmt, ...)
    MO_PRINTF(4, 5);
/* Convolution weight [out, in, k] as strips of [out, k * in]. */
const mo_weight *mo_load_conv(mo_loader *ld, int out, int in, int k, const char *fmt, ...)
    MO_PRINTF(5, 6);
/* Transposed convolution weight [in, out, k] as strips of [stride * out, taps * in] for mo_linear,
 * taps = ceil(k / stride): output phase p of input step t, channel o, is row p * out + o, and reads
 * input steps t - taps + 1 .. t. */
const mo_weight *mo_load_convt(mo_loader *ld, int in, int out, int k, int stride, const char *fmt,
                               ...) MO_PRINTF(6, 7);
/* Depthwise transposed convolution weight [channels, 1, k] as rows [channels, k] f32. */
const mo_weight *mo_load_depthwise(mo_loader *ld, int channels, int k, const char *name);
/* One codebook: entries = embedding_sum / max(cluster_usage, 1e-5), [bins, dim] f32, as strips, or
 * as rows where they are searched in digits. */
typedef struct mo_codebook {
    const mo_weight *entries;
    const mo_weight *search; /* for scores: the entries, or a copy as `half` and `digits` say ... */
    const mo_weight *blurs;  /* ... and mo_entry_blur() of each, */
    float blur;              /* of all */
    const mo_weight *half_norms; /* -|entry|^2 / 2 */
} mo_codebook;

/* How far the score of an input x with an entry of dim numbers may be off, in units of |x| and
 * besides rounding, when it is taken with a copy in float16 (else float32) and so many digits. */
float mo_entry_blur(const float *entry, int dim, bool half, int digits);

/* `prefix` ends in "_codebook.". */
mo_codebook mo_load_codebook(mo_loader *ld, int bins, int dim, const char *prefix);
/* Numbers that come from no file. */
const mo_weight *mo_load_const(mo_loader *ld, mo_layout layout, int64_t rows, int64_t cols,
                               const float *data);
/* Text embedding with row `to` replaced by row `from`. */
const mo_weight *mo_load_matrix_patched(mo_loader *ld, int64_t rows, int64_t cols, int64_t to,
                                        int64_t from, const char *name);

/* Codebooks' own copies of weights they share must equal the original; then they are not surplus.
 */
void mo_load_copies(mo_loader *ld);

/* What is wrong with the numbers of a float tensor: NULL, or words. Matrices must not be all zero.
 */
const char *mo_tensor_problem(const mo_tensor_view *t);
/* "[2, 3]" */
void mo_shape_text(const int64_t *shape, int ndim, char *out, size_t cap);

#endif
