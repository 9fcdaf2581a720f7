/* roles.h - which file is which, told from content: for models whose configuration does not name
 * their files. */
#ifndef MO_ROLES_H
#define MO_ROLES_H

#include "foreign.h"
#include "source.h"

typedef enum mo_role {
    MO_ROLE_OTHER,
    MO_ROLE_LM,   /* weights of a language model, or a whole model in one file */
    MO_ROLE_MIMI, /* weights of a codec */
    MO_ROLE_TEXT, /* a text tokenizer */
    MO_ROLE_COUNT
} mo_role;

/* "the language model's weights" */
const char *mo_role_name(mo_role role);
bool mo_role_is_mimi(const mo_checkpoint *ck);
bool mo_role_is_lm(const mo_checkpoint *ck);

/* What the bytes of a file are. A checkpoint that cannot be read is OTHER, with the reason in *err;
 * what an unsuitable one looks like goes to *guess, else "". MOSHI_ENOMEM is the only failure. */
int mo_role_of(const mo_file *file, mo_role *role, char guess[MO_FOREIGN_BYTES], moshi_error *err);

/* Every role's file, found once for all. */
enum { MO_ROLE_OTHER_BYTES = 400 };

typedef struct mo_roles {
    int n[MO_ROLE_COUNT];           /* how many files have the role */
    char *names[MO_ROLE_COUNT];     /* the only one, else NULL */
    moshi_error why[MO_ROLE_COUNT]; /* why there is none: no such file, several, or a damaged one */
    /* the first thing there that could be mistaken for a model, and what it is; or "" */
    char other[MO_ROLE_OTHER_BYTES];
} mo_roles;

/* Look at every file of the place. Fails when it cannot be listed, and with MOSHI_ENOMEM. */
int mo_roles_find(mo_roles *out, const mo_source *s, moshi_error *err);
void mo_roles_free(mo_roles *roles);

#endif
