/* backend.h - what a device must provide: memory, weights, and a recorded list of ops.
 *
 * Model code (lm.c, mimi.c) calls the front end in ops.h once, when the engine opens; the backend
 * keeps the list and replays it every 80 ms frame. Whatever varies from frame to frame (positions,
 * tokens, sampling parameters) lives in buffers on the device, so that a replay needs nothing from
 * the host but the set of slots that take part.
 *
 * Every activation is 4-byte elements (f32 or i32) with the slot axis first. A slot that does not
 * take part in a run keeps its state untouched and its results undefined.
 *
 * Arithmetic contract, the same bits on every CPU level and for every number of slots:
 *   linear   one accumulator per output, fused multiply-add over taps and channels in order; on
 *            quantised weights as said at mo_op_linear; weights split into pieces or digits, which
 *            only some levels do, are near
 *   sums     (norms, attention scores, softmax) 16 partial sums, element i into partial i % 16,
 *            then partials folded 8+8, 4+4, 2+2, 1+1
 */
#ifndef MO_BACKEND_H
#define MO_BACKEND_H

#include "checkpoint.h"
#include "config.h"

typedef struct mo_backend mo_backend;
typedef struct mo_program mo_program;

/* Device memory. For the CPU `data` is the memory itself, 64-byte aligned. */
typedef struct mo_buf {
    void *data;
    size_t bytes;
} mo_buf;

/* Activations inside a buffer: element (slot, row, col) sits at
 * offset + slot * slot_stride + row * row_stride + col, counted in 4-byte elements. */
typedef struct mo_view {
    mo_buf *buf; /* NULL: absent */
    size_t offset, slot_stride, row_stride;
    int rows, cols;
} mo_view;

/* Inputs that share a block of digits: a tap has a multiple of these. */
enum { MO_DIGIT_BLOCK = 64 };

/* A matrix in host memory, row-major [rows, cols]; data may be unaligned. */
typedef struct mo_matrix {
    mo_dtype dtype; /* MO_F32, MO_F16, MO_BF16; blocks (quant.h); MO_U32; MO_I8 */
    int64_t rows, cols;
    const void *data;
    /* MO_U32: whole numbers q of `bits` bits, the first in the lowest bits of a word; number =
     * scale * q + bias with one of both per `group` columns: [rows, cols / group].
     * MO_I8: number = q * scale / 127 with one scale per row. */
    int bits;
    int64_t group;
    const float *scales, *biases;
    mo_dtype scales_dtype; /* MO_U32: MO_BF16 when that holds all of both exactly, or MO_F32 */
    /* MO_F32 in strips: 0, or how many pieces (2 or 3) a device may split the numbers into where
     * that is faster: see mo_op_linear. */
    int pieces;
    /* MO_F32 or MO_F16 in strips: 0, or in how many digits (1 to 3) a device may hold the numbers
     * where that is faster: see mo_op_linear. */
    int digits;
    /* NULL, or to be called for all rows, in any pieces, by any threads, shortly before they are
     * read: it reads them, too. */
    void (*look)(void *user, int64_t first, int64_t n);
    void *look_user;
} mo_matrix;

enum { MO_STRIP = 16, MO_QUANT_GROUP = 32 };

typedef enum mo_layout {
    MO_LAYOUT_ROWS,  /* rows as they are: embedding tables, norm vectors */
    MO_LAYOUT_STRIPS /* strips of 16 rows, what linear reads. Floats: [strip][col][16], last strip
                        zero-padded; quantised: as the device likes */
} mo_layout;

/* Weights on the device. */
typedef struct mo_weight {
    mo_buf *buf;
    mo_dtype dtype; /* as in mo_matrix */
    mo_layout layout;
    int rows, cols;
    int bits, group; /* MO_U32 */
    mo_dtype scales_dtype;
    int pieces; /* 0: not split */
    int digits; /* 0: not in digits */
} mo_weight;

/* The facts of a matrix that a device holds in `buf`. */
static inline mo_weight mo_weight_of(mo_buf *buf, const mo_matrix *src, mo_layout layout) {
    return (mo_weight){.buf = buf,
                       .dtype = src->dtype,
                       .layout = layout,
                       .rows = (int)src->rows,
                       .cols = (int)src->cols,
                       .bits = src->bits,
                       .group = (int)src->group,
                       .scales_dtype = src->scales_dtype};
}

typedef enum mo_op_kind {
    MO_OP_EMBED_SUM,
    MO_OP_NORM,
    MO_OP_LINEAR,
    MO_OP_ROPE_TABLE,
    MO_OP_ROPE_KV,
    MO_OP_ATTEND,
    MO_OP_ACT,
    MO_OP_ACT_MUL,
    MO_OP_UPSAMPLE,
    MO_OP_RVQ_PICK,
    MO_OP_SAMPLE,
    MO_OP_GRID_READ,
    MO_OP_GRID_WRITE,
    MO_OP_PAD_FIRST,
    MO_OP_SHIFT,
    MO_OP_ADVANCE,
    MO_OP_SIFT,
    MO_OP_COUNT
} mo_op_kind;

/* out[row] = (accumulate ? out[row] : 0) + sum over tables i, in order, of tables[i][token i].
 * Token -1 adds nothing. A token outside the table is clamped by nobody: the front end and the
 * grid only produce valid ones, hosts check what they write. */
typedef struct mo_op_embed_sum {
    const mo_weight *const *tables; /* [n] all with the same cols; floats in either layout,
                                       the others ROWS */
    int n;
    mo_view tokens; /* i32 [rows, >= n] */
    mo_view out;    /* f32 [rows, cols] */
    bool accumulate;
} mo_op_embed_sum;

/* Normalise each row of `in`. RMS: x * weight / sqrt(mean(x^2) + eps). Layer: (x - mean) /
 * sqrt(mean((x - mean)^2) + eps) * weight + bias. weight, bias: MO_LAYOUT_ROWS [1, cols] f32. */
typedef struct mo_op_norm {
    mo_norm_kind kind;
    float eps;
    const mo_weight *weight, *bias;
    mo_view in, out;
} mo_op_norm;

/* Linear layer and causal convolution in one. With K = taps * in.cols:
 *   acc         = sum over tap j, channel c, in that order: w[n][j * in.cols + c] *
 *                 in[row * stride + j * dilation][c], from 0 with fused multiply-add
 *   out[row][n] = add[row][n] + scale[n] * (acc + bias[n])      (absent parts left out)
 * `out` may alias `add`, never `in`. w: MO_LAYOUT_STRIPS [N, K]; bias, scale: ROWS [1, N] f32.
 *
 * On quantised weights the K inputs of a row are quantised too, in blocks of 32, the last one
 * filled up with zeros: top = max |x|, d = top / 127, q = x * (127 / top) rounded to nearest even;
 * d = q = 0 if top < 2^-100; d = NaN, q = 0 if anything in the block is not finite. Sums of
 * products of whole numbers are exact, each float operation below rounds. Block after block, with
 * sum() over the 32 of a block:
 *   Q8_0, Q4_0  acc = fma(sum(w q), weight d * d, acc), w the signed numbers of quant.h
 *   Q4_K        acc = fma(sum(w q), (weight d * scale) * d, acc), w as stored;
 *               acc = fma(weight m * minimum, -(d * sum(q)), acc)
 *   Q6_K        acc = fma(sum(w q), (weight d * scale) * d, acc) for either half of the block
 *   U32         acc = fma(sum(w q), scale * d, acc); acc = fma(bias, d * sum(q), acc)
 *   I8          acc = fma(sum(w q), d, acc); after the last block acc = acc * (scale / 127)
 *
 * On weights that were split into pieces, inputs are split too, and acc is a sum of products of
 * pieces in no order said here, the same for every row whatever rows come with it. It differs from
 * the exact sum by at most s * 2^-24 * sum |w x|, where s is 18 + 6.1 K / 32 with three pieces and
 * 530 + 3.1 K / 32 with two: what the products left out are worth, 15 additions within a block of
 * 32, one of its halves, and one of every block's products of pieces; numbers below 2^-100 may
 * count as zero. With three pieces that is less than K, which a plain sum may be off by.
 * On weights in digits, too, K inputs of a row are C = in.cols for each tap. Weights are rounded to
 * whole numbers times a step, top / 8355711 with three digits, top / 32639 with two and top / 127
 * with one, top the largest magnitude of their row; inputs to whole numbers below 2^30, 2^22 and
 * 2^14 times a power of two, which puts them off by at most 2^-30, 2^-22 and 2^-14 of the largest.
 * Products of their digits are added up exactly, tap by tap and place by place; what float
 * operations then round, those of the taps in order, is the same for every row whatever rows come
 * with it. It differs from the exact sum by at most 2^-24 (s K top(w) top(x) + (taps + 8) sum |w
 * x|) with s 1.1 for three digits, 270 for two and 67300 for one, top(x) the largest magnitude of
 * the inputs; rows with no weight above 2^-90 may count as zero, and so may rows with no input
 * above 2^-94.
 * in has (out.rows - 1) * stride + (taps - 1) * dilation + 1 rows.
 * A transposed convolution is this op too: see layers.c. */
typedef struct mo_op_linear {
    const mo_weight *w, *bias, *scale;
    mo_view in, add, out;
    int taps, stride, dilation; /* 1, 1, 1 for a plain linear layer */
} mo_op_linear;

/* cos and sin for each row's position pos[slot] + row: out[row][2i] = cos(a), [2i+1] = sin(a),
 * a = (float)position * freq[i] in float32, cos and sin rounded from double. freq: ROWS
 * [1, head_dim/2] f32. */
typedef struct mo_op_rope_table {
    const mo_weight *freq;
    mo_view pos; /* i32 [1, 1] */
    mo_view out; /* f32 [rows, head_dim] */
} mo_op_rope_table;

/* KV ring of one layer: k and v are [slots, kv_heads, capacity] rows, the row of position p at
 * p % capacity. A row is `row_bytes` long and holds one head's key or value of one position:
 *   F32   head_dim floats
 *   BF16  head_dim numbers rounded to nearest even, padded to a multiple of 4 bytes
 *   I8    a float d, then head_dim signed bytes x / d rounded to nearest even, padded likewise;
 *         d = largest |x| / 127, and all zero when d would be below the smallest normal float. A
 *         row with a NaN or an infinity gets that as its d and ones as its bytes, so that it shows.
 * What is read is bf16, or d * byte: both widen to float without rounding but for the product,
 * whose place in the sums is said at mo_op_attend. */
typedef struct mo_kv {
    mo_buf *k, *v;
    mo_dtype dtype; /* MO_F32, MO_BF16, MO_I8 */
    int kv_heads, capacity, head_dim;
    size_t row_bytes; /* mo_kv_row_bytes() */
} mo_kv;

/* Split rows of qkv = [q: heads*hd | k: kv_heads*hd | v: kv_heads*hd]; rotate q and k in place by
 * `table` (kind NONE: no rotation, table absent), and write k and v of row t at position
 * pos[slot] + t (pos absent: static_pos + t). All rows are written before anything attends. */
typedef struct mo_op_rope_kv {
    mo_rope_kind kind;
    int heads;
    mo_view qkv, table, pos;
    int static_pos;
    mo_kv kv;
} mo_op_rope_kv;

/* out[t][h] = softmax over visible positions p of q.k / sqrt(hd), times v. Query t sits at
 * P = pos + t; with L = pos + rows - 1, the last position written, visible are
 * max(0, P - context + 1, L - capacity + 1) <= p <= P. Query head h uses kv head h / (heads /
 * kv_heads). q is the first heads*hd columns of `qkv`. With I8 rows the sums run over the bytes: a
 * score is multiplied by its row's d before 1 / sqrt(hd), a softmax term by its row's d before it
 * weighs the values (the sum of the terms is of those without d). */
typedef struct mo_op_attend {
    int heads, context;
    mo_view qkv, pos;
    int static_pos;
    mo_kv kv;
    mo_view out; /* f32 [rows, heads*hd] */
} mo_op_attend;

typedef enum mo_act { MO_ACT_COPY, MO_ACT_ELU, MO_ACT_GELU } mo_act;

/* out = f(in), element by element. COPY: any 4 bytes. ELU: x > 0 ? x : e^x - 1. GELU: exact erf
 * form. Of an output that only passes, nobody but the linear op that comes next reads anything,
 * save for as many of its last rows as that op reads before it: a stream keeps those for the next
 * frame. A device may leave the others unwritten. */
typedef struct mo_op_act {
    mo_act act;
    mo_view in, out;
    bool passes;
} mo_op_act;

/* out[c] = silu(in[c]) * in[out.cols + c]; in.cols = 2 * out.cols. */
typedef struct mo_op_act_mul {
    mo_view in, out;
} mo_op_act_mul;

/* Depthwise transposed convolution, kernel = taps * stride, causal:
 * out[t * stride + p][c] = sum over j < taps of w[c][j * stride + p] * in[taps - 1 + t - j][c]:
 * in has taps - 1 rows of history in front. w: ROWS [C, taps * stride] f32. */
typedef struct mo_op_upsample {
    const mo_weight *w;
    int taps, stride;
    mo_view in, out;
} mo_op_upsample;

/* One stage of residual vector quantisation. scores[row][j] = x.e_j - |e_j|^2 / 2 from a linear op
 * on the codebook, or on a coarser copy of it: besides what float32 sums round, a score is then off
 * by up to |x| blurs[j], of which the largest is `blur`, and an entry of the copy is no longer than
 * |e_j| + blurs[j]. Picks the entry nearest to residual[row] (ties: first index), exactly: every
 * entry whose score is within the error bound of the best is measured again in double precision.
 * (Where |x| is 1e7 times |e_j| and more, double precision begins to take near ties for ties.)
 * Writes codes[row][0] and subtracts the entry from residual[row]. codebook: [bins, dim] f32,
 * STRIPS, or ROWS on devices that keep the copy in digits. */
typedef struct mo_op_rvq_pick {
    const mo_weight *codebook;
    const mo_weight *blurs; /* ROWS [1, bins] f32; NULL: `blur` for all */
    float blur;
    mo_view scores, residual;
    mo_view codes; /* i32 [rows, 1] */
} mo_op_rvq_pick;

/* Sampling parameters of one slot, one row of MO_SAMPLE_COLS 4-byte elements. */
enum {
    MO_SAMPLE_TEXT_TEMP,  /* f32; <= 0: greedy */
    MO_SAMPLE_TEXT_TOP_K, /* i32; <= 0: whole vocabulary */
    MO_SAMPLE_AUDIO_TEMP,
    MO_SAMPLE_AUDIO_TOP_K,
    MO_SAMPLE_SEED_LO, /* u32 */
    MO_SAMPLE_SEED_HI,
    MO_SAMPLE_COLS
};

/* token = forced[channel] if that is not MOSHI_FREE, else greedy (first maximum) or: p =
 * softmax(logits / temp) over all entries, keep the k largest (ties at the border: lowest index
 * first), argmax of p_j / q_j with q_j exponential noise = -log(u_j), where u_j comes from
 * Philox4x32-10 with key = seed, counter = (j / 4, channel, step, 0), lane j % 4. */
typedef struct mo_op_sample {
    int channel; /* 0 text, 1 + k audio codebook k */
    mo_view logits;
    mo_view params; /* [1, MO_SAMPLE_COLS] */
    mo_view force;  /* i32 [1, 1 + dep_q] */
    mo_view step;   /* i32 [1, 1] */
    mo_view token;  /* i32 [1, 1] */
} mo_op_sample;

/* The token grid of the reference's LMGen: see delays.h. */
typedef struct mo_grid {
    mo_view cache;     /* i32 [columns = max_delay + 2, channels = 1 + n_q], -2 = not generated */
    mo_view step;      /* i32 [1, 1]: o, steps done */
    const int *delays; /* [1 + n_q], host memory that lives as long as the program */
    int n_q, dep_q, max_delay, text_initial, audio_initial;
} mo_grid;

/* Store the user's codes and build the model's input. */
typedef struct mo_op_grid_read {
    mo_grid grid;
    mo_view user; /* i32 [1, n_q - dep_q] (absent when there are none) */
    mo_view out;  /* i32 [1, 1 + n_q] */
} mo_op_grid_read;

/* Store the sampled tokens, advance the step, and give the delay-aligned output, or MOSHI_NO_TOKEN
 * in every channel during the first max_delay steps. */
typedef struct mo_op_grid_write {
    mo_grid grid;
    mo_view tokens; /* i32 [1, 1 + dep_q] sampled: text, audio */
    mo_view out;    /* i32 [1, 1 + dep_q] */
} mo_op_grid_write;

/* If pos[slot] == 0: fill rows 0 .. n-1 of view with copies of row n (replicate padding of the
 * first call of a stream). */
typedef struct mo_op_pad_first {
    mo_view view, pos;
    int n;
} mo_op_pad_first;

/* Streaming history: move the last n rows of view to its front. */
typedef struct mo_op_shift {
    mo_view view;
    int n;
} mo_op_shift;

/* pos[slot] += n. */
typedef struct mo_op_advance {
    mo_view pos;
    int n;
} mo_op_advance;

/* Slots with a token that is not one of 0 .. n - 1 take no part in what this run has still to do.
 */
typedef struct mo_op_sift {
    mo_view tokens; /* i32 [1, cols] */
    int n;
} mo_op_sift;

typedef struct mo_op {
    mo_op_kind kind;
    union {
        mo_op_embed_sum embed_sum;
        mo_op_norm norm;
        mo_op_linear linear;
        mo_op_rope_table rope_table;
        mo_op_rope_kv rope_kv;
        mo_op_attend attend;
        mo_op_act act;
        mo_op_act_mul act_mul;
        mo_op_upsample upsample;
        mo_op_rvq_pick rvq_pick;
        mo_op_sample sample;
        mo_op_grid_read grid_read;
        mo_op_grid_write grid_write;
        mo_op_pad_first pad_first;
        mo_op_shift shift;
        mo_op_advance advance;
        mo_op_sift sift;
    } u;
} mo_op;

typedef struct mo_backend_options {
    int threads; /* 0: one per physical core, see settle() */
    int level;   /* CPU: 0 the best the machine has, else force one (mo_cpu_level), for tests */
    int nth;     /* which device of the backend; the CPU backend has one */
    const char *cache;   /* NULL, or a directory for what a device compiles */
    const char *kernels; /* NULL: the device's choice; CPU: a level by name; Vulkan: "plain", or of
                            "subgroup", "dot" and "half" those that shall be used, joined by "+" */
} mo_backend_options;

/* Seconds that threads have spent on ops, added up over threads; and on products of matrices and
 * attention alone. */
typedef struct mo_busy {
    double all, products;
} mo_busy;

/* Ops first .. last - 1 of a program for the slots with exec[slot] != 0. */
typedef struct mo_run {
    mo_program *program;
    int first, last;
    const uint8_t *exec;
    double seconds; /* filled in: how long it took the device; 0: it does not tell */
} mo_run;

/* The table every device provides. All memory is taken by alloc, weight and record; run never
 * allocates. One backend is driven by one thread at a time. */
typedef struct mo_backend_ops {
    const char *name; /* of its first device, too: "vulkan" is "vulkan:0" */
    bool dry;         /* only counts: uploads come without data (dry.h) */
    bool same_bits;   /* the arithmetic contract above holds; else results are near */
    bool host_memory; /* buffers serve the programs of every open backend of this kind */
    bool caches;      /* what was just computed is near, other memory is far */
    /* Facts of the first `most` devices into `out`, which is zeroed; returns how many there are of
     * those. Where there is none, *why may say why not. */
    int (*list)(moshi_device_info *out, int most, moshi_error *why);
    /* What the driver says of device `nth`, for reports: lines "name: text", cut at cap - 1 bytes;
     * "" where it says nothing. NULL: there is nothing to say. */
    void (*details)(int nth, char *out, size_t cap);
    int (*open)(mo_backend **out, const mo_backend_options *options, moshi_error *err);
    void (*close)(mo_backend *be);
    /* Zeroed memory; NULL when there is none left. */
    mo_buf *(*alloc)(mo_backend *be, size_t bytes);
    /* The same for what the host writes every frame: a write waits for nothing, and may come while
     * the device is at something else. NULL: run() on one part after the other is as good as
     * run_parts(), and the host has nothing to do meanwhile. */
    mo_buf *(*alloc_input)(mo_backend *be, size_t bytes);
    void (*free)(mo_backend *be, mo_buf *buf);
    void (*write)(mo_backend *be, mo_buf *buf, size_t offset_bytes, const void *src, size_t bytes);
    void (*read)(mo_backend *be, const mo_buf *buf, size_t offset_bytes, void *dst, size_t bytes);
    void (*zero)(mo_backend *be, mo_buf *buf, size_t offset_bytes, size_t bytes);
    /* Bytes the device will hold for a matrix in this layout, which weight() then takes exactly; 0
     * when it cannot hold such a matrix. *out, if not NULL, is what weight() would give, without a
     * buffer. Reads no data: src->data may be NULL. */
    uint64_t (*weight_bytes)(const mo_backend *be, const mo_matrix *src, mo_layout layout,
                             mo_weight *out);
    /* Upload a matrix in the wanted layout. MOSHI_EINVAL for one without weight_bytes,
     * MOSHI_ENOMEM.
     */
    int (*weight)(mo_backend *be, const mo_matrix *src, mo_layout layout, mo_weight *out);
    void (*weight_free)(mo_backend *be, mo_weight *w);
    /* Can this device run ops of `kind` on weights of `dtype`? */
    bool (*supports)(mo_backend *be, mo_op_kind kind, mo_dtype dtype);
    /* Keep a copy of the list. `slots` is the size of every slot axis in it. Table arrays that ops
     * point to must outlive the program. NULL when out of memory. */
    mo_program *(*record)(mo_backend *be, const mo_op *ops, int n, int slots);
    void (*program_free)(mo_backend *be, mo_program *p);
    /* Run ops first .. last-1 for the slots with exec[slot] != 0 and wait. 0, or MOSHI_EDEVICE. */
    int (*run)(mo_backend *be, mo_program *p, int first, int last, const uint8_t *exec);
    /* The same for several parts, each of which finds what those before it have left, as one piece
     * of work: what waits for the host in between is this device's business. 0, or MOSHI_EDEVICE.
     * `meanwhile`, if not NULL, is called while the device is at the last of them, or not at all,
     * and may write to inputs. Devices with alloc_input have it. */
    int (*run_parts)(mo_backend *be, mo_run *parts, int n, void (*meanwhile)(void *user),
                     void *user);
    /* Has this machine kernels of that name? If not, *why has the names there are. NULL: open()
     * will tell. */
    bool (*has_kernels)(const char *name, moshi_error *why);
    /* How many bytes weights and states may still take; UINT64_MAX, or no function: unknown. */
    uint64_t (*room)(mo_backend *be);
    /* How many bytes one weight or state may have; no function: any number. */
    uint64_t (*largest)(mo_backend *be);
    /* Nobody said how many threads: go on with no more than make the products of linear ops first
     * .. last-1 faster, of all slots, as measured. What the ops write to is undefined from then on.
     * NULL: there is nothing to choose. */
    void (*settle)(mo_backend *be, mo_program *p, int first, int last);
    int (*threads)(const mo_backend *be);
    const char *(*kernels)(const mo_backend *be); /* "avx512", ... */
    /* So far; NULL: unknown. */
    mo_busy (*busy)(const mo_backend *be);
    /* Fill *out, which is zeroed, in about `seconds`, with `bytes` of memory (2^26 at least): 0, or
     * MOSHI_ENOMEM. NULL: cannot be measured. */
    int (*measure)(mo_backend *be, size_t bytes, double seconds, moshi_device_speed *out);
} mo_backend_ops;

struct mo_backend {
    const mo_backend_ops *ops;
    moshi_breadcrumb *crumb; /* NULL: nobody wants to know */
    char problem[200];       /* why the device failed first, where it knows; "" */
    /* followed by the device's own fields */
};

/* devices.c: the backends of this build, best first; NULL past the last. */
const mo_backend_ops *mo_backend_at(int i);
extern const mo_backend_ops mo_backend_cpu;
extern const mo_backend_ops mo_backend_vulkan; /* in builds that have it */

typedef struct mo_device {
    const mo_backend_ops *ops;
    int nth; /* which device of that backend */
    moshi_device_info info;
    char kernels[32]; /* mo_backend_options.kernels: what the name had after '/', or "" */
} mo_device;

enum { MO_MOST_DEVICES = 16 /* of one backend */ };

/* The device of this name (NULL: "cpu"), or MOSHI_EDEVICE with the names there are. Asks no drivers
 * but those of the backend that is named. */
int mo_device_find(mo_device *out, const char *device, moshi_error *err);

/* Will weights and states of that size fit? MOSHI_ENOMEM with what is needed and what is free. */
int mo_room_check(mo_backend *be, uint64_t weights, uint64_t states, int sessions,
                  moshi_error *err);

/* Note the first problem of a device. */
void mo_backend_problem(mo_backend *be, const char *fmt, ...) MO_PRINTF(2, 3);

/* "linear"; static. */
const char *mo_op_name(mo_op_kind kind);

/* Drop a breadcrumb; `crumb` may be NULL. Texts as in moshi.h. */
void mo_crumb_drop(moshi_breadcrumb *crumb, const char *stage, uint64_t done, uint64_t total);

#endif
