/* ops.h - the front end model code records its graph with: checks shapes, allocates activations,
 * names trace taps. Everything happens once, at open. The first failure sticks in the graph and is
 * reported by mo_graph_finish(), so that model code reads as straight lines. */
#ifndef MO_OPS_H
#define MO_OPS_H

#include "backend.h"

typedef struct mo_tap_point {
    char name[48];
    int after; /* delivered when this many ops have run */
    mo_view view;
    moshi_dtype dtype;
    int ndim;            /* axes of the delivered array: view [rows, cols] or [cols] */
    bool channels_first; /* deliver [cols, rows] (Mimi's activations) */
} mo_tap_point;

/* One piece of per-slot state and what a reset puts there. */
typedef struct mo_state {
    mo_buf *buf;
    size_t slot_bytes;
    int32_t fill; /* every 4-byte element becomes this */
} mo_state;

/* Buffers and per-slot state of one model on one device: freed and reset together. */
typedef struct mo_arena {
    mo_backend *be;
    int slots;
    mo_buf **bufs;
    int n_bufs, cap_bufs;
    mo_state *states;
    int n_states, cap_states;
    uint64_t bytes;
    uint64_t kept_bytes; /* of these: what lasts from frame to frame */
} mo_arena;

int mo_arena_open(mo_arena *a, mo_backend *be, int slots);
void mo_arena_close(mo_arena *a);
/* Put every state of one slot back to its initial value. */
void mo_arena_reset_slot(mo_arena *a, int slot);

typedef struct mo_graph {
    mo_arena *arena;
    mo_op *ops;
    int n_ops, cap_ops;
    mo_tap_point *taps;
    int n_taps, cap_taps;
    int failed; /* 0 or the first MOSHI_E* */
    moshi_error *err;
    mo_program *program;
} mo_graph;

void mo_graph_begin(mo_graph *g, mo_arena *arena, moshi_error *err);
/* Hand the list to the backend. Returns 0 or the first failure of the recording. */
int mo_graph_finish(mo_graph *g);
void mo_graph_free(mo_graph *g);
/* Replay. With a trace, stops at every matching tap and delivers it. */
typedef struct mo_trace {
    char *globs;
    moshi_tap_fn fn;
    void *user;
    void *scratch; /* room for the largest tap */
    size_t scratch_bytes;
} mo_trace;
/* Trace what matches `globs` (copied), or nothing when fn is NULL. */
int mo_trace_set(mo_trace *t, const char *globs, moshi_tap_fn fn, void *user);
int mo_graph_run(const mo_graph *g, const uint8_t *exec, const mo_trace *trace,
                 const int64_t *step);
/* Ops first .. last - 1 only; the parts of a program one after the other are all of it. */
int mo_graph_run_part(const mo_graph *g, int first, int last, const uint8_t *exec,
                      const mo_trace *trace, const int64_t *step);
/* Bytes the largest tap needs. */
size_t mo_graph_tap_bytes(const mo_graph *g);

/* Scratch [slots, rows, cols]: garbage between frames. */
mo_view mo_scratch(mo_graph *g, int rows, int cols);
/* Per-slot state [slots, rows, cols]: kept between frames, `fill` after a reset. */
mo_view mo_state_view(mo_graph *g, int rows, int cols, int32_t fill);
/* State that the host writes every frame (alloc_input). */
mo_view mo_input_view(mo_graph *g, int rows, int cols, int32_t fill);
/* Parts of a view. */
mo_view mo_rows(mo_view v, int first, int n);
mo_view mo_cols(mo_view v, int first, int n);

void mo_embed_sum(mo_graph *g, const mo_weight *const *tables, int n, mo_view tokens, mo_view out,
                  bool accumulate);
void mo_norm(mo_graph *g, mo_norm_kind kind, float eps, const mo_weight *weight,
             const mo_weight *bias, mo_view in, mo_view out);
void mo_linear(mo_graph *g, const mo_op_linear *op);
void mo_rope_table(mo_graph *g, const mo_weight *freq, mo_view pos, mo_view out);
void mo_rope_kv(mo_graph *g, const mo_op_rope_kv *op);
void mo_attend(mo_graph *g, const mo_op_attend *op);
void mo_act_op(mo_graph *g, mo_act act, mo_view in, mo_view out);
/* Of which the linear op that comes next reads all, and nobody else more than a stream keeps. */
void mo_act_pass(mo_graph *g, mo_act act, mo_view in, mo_view out);
void mo_act_mul(mo_graph *g, mo_view in, mo_view out);
void mo_upsample(mo_graph *g, const mo_weight *w, int taps, int stride, mo_view in, mo_view out);
void mo_rvq_pick(mo_graph *g, const mo_op_rvq_pick *op);
void mo_sample(mo_graph *g, const mo_op_sample *op);
void mo_grid_read(mo_graph *g, const mo_grid *grid, mo_view user, mo_view out);
void mo_grid_write(mo_graph *g, const mo_grid *grid, mo_view tokens, mo_view out);
void mo_pad_first(mo_graph *g, mo_view view, mo_view pos, int n);
void mo_shift(mo_graph *g, mo_view view, int n);
void mo_advance(mo_graph *g, mo_view pos, int n);
void mo_sift(mo_graph *g, mo_view tokens, int n);
/* A new KV ring as per-slot state (not cleared by reset: positions say what is valid). */
mo_kv mo_kv_ring(mo_graph *g, mo_dtype dtype, int kv_heads, int capacity, int head_dim);
/* Bytes of one head's key or value of one position; 0 for a type that no ring has. */
size_t mo_kv_row_bytes(mo_dtype dtype, int head_dim);

/* Name the view as a tap at this point of the program. f32 views are delivered as [rows, cols], or
 * [cols] when they have one row and `flat`. */
void mo_tap(mo_graph *g, mo_view v, bool flat, const char *fmt, ...) MO_PRINTF(4, 5);
void mo_tap_i32(mo_graph *g, mo_view v, const char *fmt, ...) MO_PRINTF(3, 4);
/* Delivered as [cols, rows]. */
void mo_tap_channels(mo_graph *g, mo_view v, const char *fmt, ...) MO_PRINTF(3, 4);

#endif
