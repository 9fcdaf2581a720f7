/* pack.h - weights from host memory into the CPU's own layouts. */
#ifndef MO_CPU_PACK_H
#define MO_CPU_PACK_H

#include "pool.h"
#include "qkernels.h"

/* Bytes the matrix takes in this layout; 0 for one the CPU cannot hold. src->pieces and
 * src->digits: 0, or as mo_pieces_wanted() and mo_digits_wanted(), not both. */
size_t mo_pack_bytes(const mo_matrix *src, mo_layout layout);
/* Fill `dst`, that many zeroed bytes, 64-byte aligned; src as there. */
void mo_pack(mo_pool *pool, const mo_matrix *src, mo_layout layout, void *dst);

/* How strips of such a matrix lie in memory; form NONE when they are floats. */
mo_qshape mo_qshape_of(mo_dtype dtype, int64_t cols, int bits, int64_t group,
                       mo_dtype scales_dtype);

/* One number of a table in MO_LAYOUT_ROWS per column col .. col + n - 1 of a row. `col` is a
 * multiple of 256. Exactly what the file says. */
void mo_table_read(const mo_weight *table, int row, int col, int n, float *out);

#endif
