/* digits.h - products of floats as sums of products of bytes, which are exact, for units that
 * multiply those many times faster than floats. Weights become whole numbers of one to three digits
 * to the base 256, -128 to 127, times a step of their row; inputs the same with one digit more,
 * times a power of two of their row. Of the products of digits those that matter are summed up, by
 * the sum of their places: see mo_op_linear for the error. Three digits are also a quarter fewer
 * bytes to read than floats.
 *
 * Method: Ootomo, Ozaki, Yokota, "DGEMM on integer matrix multiplication unit" (2024).
 *
 * Weights: a float for every output, steps to be multiplied by; then strips of 16 outputs. A strip
 * is one stream, which memory delivers faster than several: four inputs after the other, a line of
 * 64 bytes for each of their digits from the highest on, input j of output n at 4 n + j.
 *
 * Inputs, split anew for every op: a plane per digit, [slots that take part][in_rows][pitch] and
 * room for rows that are read, because they come in sixteens, but never filled; then an
 * mo_digits_row for each. */
#ifndef MO_CPU_DIGITS_H
#define MO_CPU_DIGITS_H

#include "kernels.h"

enum { MO_DIGITS = 3, MO_DIGIT_ROWS = 16 };

/* What is known of a row of inputs. */
typedef struct mo_digits_row {
    float step;                  /* of the highest digit */
    int32_t zero[MO_DIGITS + 1]; /* place by place what sums lack if 128 is added to all weights */
} mo_digits_row;

/* Where the digits of the inputs of one linear op lie. */
typedef struct mo_digits_shape {
    int digits;      /* of the weights; 0: they are none */
    int in_rows;     /* of one slot */
    int stride;      /* rows of op->in from one output row to the next */
    int taps, apart; /* and from tap to tap */
    size_t cols;     /* inputs of a row */
    size_t pitch; /* bytes from row to row: rows in the same place of a page displace each other */
    size_t in_stride; /* floats from row to row of op->in */
} mo_digits_shape;

typedef struct mo_digits_job {
    mo_linear_job job; /* w: digits; in.row, segments, run: unused */
    mo_digits_shape shape;
    int slots; /* that take part */
    uint8_t *records;
} mo_digits_job;

typedef struct mo_digits_kernels {
    /* Split rows row0 .. row1-1 of op->in of the slot active[at]. */
    void (*split)(const mo_digits_job *job, int at, int row0, int row1);
    /* Rows of the batch and strips of outputs, from the split inputs. Every output is the same
     * whatever rows and strips come with it. */
    void (*linear)(const mo_digits_job *job, int row0, int row1, int strip0, int strip1);
} mo_digits_kernels;

/* The table of a level; NULL where floats do not become digits. */
const mo_digits_kernels *mo_digits_get(mo_cpu_level level);

/* As built: NULL where the file was compiled without its instruction set. */
const mo_digits_kernels *mo_digits_amx(void);

/* Can kernels of digits compute with the matrix, as it wishes? */
bool mo_digits_wanted(const mo_matrix *m, mo_layout layout);
/* Bytes of the steps of so many rows, and of one strip. */
size_t mo_digits_head(int64_t rows);
size_t mo_digits_strip_bytes(int digits, int64_t cols);
/* Fill one strip and its steps; rows past the end stay zero. */
void mo_digits_pack(const mo_matrix *m, int64_t strip, uint8_t *dst);

/* The shape of an op whose weights are digits; digits 0 for others. */
mo_digits_shape mo_digits_shape_of(const mo_op_linear *op);
/* Bytes of one plane, and of everything that one slot of several needs at most. */
size_t mo_digits_plane(const mo_digits_shape *s, int slots);
size_t mo_digits_record_bytes(const mo_digits_shape *s);

#endif
