/* recipe.h - a conversion planned: which tensors the result has, how each is read, and in which
 * number format it is written. */
#ifndef MO_RECIPE_H
#define MO_RECIPE_H

#include "files.h"
#include "lora.h"
#include "packed.h"
#include "survey.h"
#include "writer.h"

/* One tensor of the result. */
typedef struct mo_recipe_item {
    const mo_checkpoint *ck;
    const mo_tensor_view *t;
    char *name;
    mo_dtype to;
    mo_packed from; /* its numbers as rows; those of a tensor that is no matrix have any length */
    const mo_use *use;  /* what the model does with it, NULL when it is no matrix of the model */
    uint64_t bytes_in;  /* scales and biases included */
    bool is_matrix;     /* and not merely copied: its format can be chosen */
    bool has_adapter;   /* a low-rank adapter is to be added */
    bool must_not_be_0; /* all zeros are damage */
} mo_recipe_item;

typedef struct mo_recipe {
    mo_recipe_item *items; /* in the order of their data in the files */
    mo_out_tensor *out;    /* the same as the writer wants them */
    size_t n;
    uint64_t bytes_in;
    mo_use *uses;
} mo_recipe;

/* What a matrix of this name and width becomes when `type` is asked for. */
mo_dtype mo_recipe_type(const char *name, mo_dtype type, int64_t cols);

/* What is asked for. */
typedef struct mo_recipe_wish {
    mo_file_format format;
    const mo_quant *type; /* of the matrices */
    const char *keep;     /* moshi_convert_options.keep */
    mo_loras *loras;      /* or NULL */
} mo_recipe_wish;

/* Refuses what cannot be read or stored, and rules that change nothing; reads no weights. `files`
 * must outlive the recipe, which is to be freed even after a failure. */
int mo_recipe_make(mo_recipe *out, const mo_model_files *files, const mo_recipe_wish *wish,
                   moshi_error *err);
void mo_recipe_free(mo_recipe *r);

#endif
