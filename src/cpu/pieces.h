/* pieces.h - products of floats as sums of products of bfloat16 numbers, for units that multiply
 * those many times faster: x = x0 + x1 (+ x2), each piece what the ones before leave, rounded to
 * bfloat16, and so for the weights. Three pieces are all of a float32, and of the nine products the
 * six largest are summed up; of two pieces the three largest. See mo_op_linear for the error.
 *
 * Method: Henry, Tang, Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for
 * higher-precision computations" (2019). Error: Fasi, Higham, Lopez, Mary, Mikaitis, "Matrix
 * multiplication in multiword arithmetic" (2023).
 *
 * Weights: strips of 16 outputs; a strip is blocks of 32 inputs one after the other, a block its
 * pieces, a piece 512 numbers: input 2 i + j of output n at 32 i + 2 n + j.
 *
 * Inputs: [slots that take part][pieces][in_rows][cols], split anew for every op; or, to stay in
 * the core's cache, only what a block of rows of one slot needs. Rows are read in sixteens, so that
 * there is room for some that nobody fills. */
#ifndef MO_CPU_PIECES_H
#define MO_CPU_PIECES_H

#include "kernels.h"

enum { MO_PIECES = 3, MO_PIECE_BLOCK = 32, MO_PIECE_ROWS = 16 };

/* Where the split inputs of one linear op lie, in numbers. */
typedef struct mo_pieces_shape {
    int pieces;       /* 0: the weights are no pieces */
    size_t cols;      /* inputs of a row of op->in */
    int in_rows;      /* of one slot */
    size_t piece;     /* from one piece to the next; one slot has `pieces` of them */
    size_t row_step;  /* from the inputs of one output row to those of the next */
    size_t run_step;  /* from tap to tap */
    size_t in_stride; /* floats from row to row of op->in */
} mo_pieces_shape;

typedef struct mo_pieces_job {
    mo_linear_job job; /* w: pieces; in.row: unused */
    mo_pieces_shape shape;
    uint16_t *records;
    int at, row; /* records begin with what this row of this slot needs */
} mo_pieces_job;

typedef struct mo_pieces_kernels {
    /* Split n rows of floats, op->in.row_stride apart: they are row, row + 1, ... of op->in of the
     * slot active[at]. */
    void (*split)(const mo_pieces_job *job, const float *in, int at, int row, int n);
    /* Rows and strips of outputs of the slot active[at], from the split inputs. Every output is the
     * same whatever rows and strips come with it. */
    void (*linear)(const mo_pieces_job *job, int at, int row0, int row1, int strip0, int strip1);
} mo_pieces_kernels;

/* The table of a level; NULL where products of floats are not split. */
const mo_pieces_kernels *mo_pieces_get(mo_cpu_level level);

/* As built: NULL where the file was compiled without its instruction set. */
const mo_pieces_kernels *mo_pieces_amx(void);

/* Can kernels that split compute with the matrix in pieces, as it wishes? */
bool mo_pieces_wanted(const mo_matrix *m, mo_layout layout);
/* Bytes of a strip in pieces. */
size_t mo_pieces_strip_bytes(const mo_matrix *m);
/* Fill one strip; rows past the end stay zero. */
void mo_pieces_pack(const mo_matrix *m, int64_t strip, uint8_t *dst);

/* The shape of an op whose weights are in pieces, with room for what so many of its rows need;
 * pieces 0 for others. */
mo_pieces_shape mo_pieces_shape_of(const mo_op_linear *op, int rows);

#endif
