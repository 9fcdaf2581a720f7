/* survey.h - which tensor of a language model's checkpoint is which of its matrices: the questions
 * of the loader itself, asked without reading a number. */
#ifndef MO_SURVEY_H
#define MO_SURVEY_H

#include "files.h"
#include "lora.h"
#include "names.h"

/* What the model does with a tensor. */
typedef struct mo_use {
    int64_t rows, cols;              /* of the matrix when unpacked; 0 rows: no matrix */
    int64_t part_rows;               /* rows of one weight set, when it stacks several; else rows */
    char name[MO_TENSOR_NAME_BYTES]; /* what PyTorch calls it */
} mo_use;

/* uses[i] belongs to tensor i of f->lm_file; NULL when out of memory or refused. An error is the
 * one an engine would give, numbers apart: it covers the adapters, too. Release with free(). */
int mo_survey(mo_use **uses, const mo_model_files *f, mo_loras *loras, moshi_error *err);

#endif
