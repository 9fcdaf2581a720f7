#include "roles.h"

#include "text.h"
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_TOKENIZER_BYTES = 64 << 20, LIST_BYTES = 400 };

const char *mo_role_name(mo_role role) {
    static const char *const names[MO_ROLE_COUNT] = {"anything", "the language model's weights",
                                                     "the Mimi codec's weights",
                                                     "the text tokenizer"};
    return names[role];
}

bool mo_role_is_mimi(const mo_checkpoint *ck) {
    return mo_checkpoint_find(ck, "encoder.model.0.conv.conv.weight") != NULL ||
           mo_checkpoint_find(ck, "decoder.model.0.conv.conv.weight") != NULL;
}

bool mo_role_is_lm(const mo_checkpoint *ck) {
    return mo_checkpoint_find(ck, "text_emb.weight") != NULL;
}

/* Does it begin as safetensors does: a length that fits, then a JSON object? */
static bool looks_like_safetensors(const mo_file *f) {
    uint64_t n = 0;
    if (f->size < 10) return false;
    for (int i = 7; i >= 0; i--) n = n << 8 | f->data[i];
    return n >= 2 && n <= f->size - 8 && f->data[8] == '{';
}

static int role_of_checkpoint(const mo_file *file, mo_role *role, char guess[MO_FOREIGN_BYTES],
                              moshi_error *err) {
    mo_file borrowed;
    mo_checkpoint ck;
    int rc = mo_file_borrow(&borrowed, file->data, file->size, file->name, err);
    if (rc == 0) rc = mo_checkpoint_open(&ck, &borrowed, err);
    if (rc == MOSHI_ENOMEM) return rc;
    if (rc < 0) return 0;
    *role = mo_role_is_lm(&ck) ? MO_ROLE_LM : mo_role_is_mimi(&ck) ? MO_ROLE_MIMI : MO_ROLE_OTHER;
    mo_foreign_checkpoint(&ck, guess);
    mo_checkpoint_close(&ck);
    return 0;
}

int mo_role_of(const mo_file *file, mo_role *role, char guess[MO_FOREIGN_BYTES], moshi_error *err) {
    *role = MO_ROLE_OTHER;
    guess[0] = 0;
    *err = (moshi_error){0};
    if ((file->size >= 4 && !memcmp(file->data, "GGUF", 4)) || looks_like_safetensors(file))
        return role_of_checkpoint(file, role, guess, err);
    /* A SentencePiece model begins with its first piece: field 1, a message. */
    if (file->size < 3 || file->size > MAX_TOKENIZER_BYTES || file->data[0] != 0x0a) return 0;
    mo_text text;
    moshi_error ignored;
    int rc = mo_text_parse(&text, file->data, file->size, file->name, &ignored);
    if (rc == 0) {
        *role = MO_ROLE_TEXT;
        mo_text_free(&text);
    }
    return rc == MOSHI_ENOMEM ? mo_fail(err, rc, "%s", ignored.text) : 0;
}

/* ---- a whole directory ---------------------------------------------------------------------- */

typedef struct finder {
    mo_roles *out;
    char lists[MO_ROLE_COUNT][LIST_BYTES]; /* "a, b, c" */
    moshi_error damaged;                   /* the first checkpoint that cannot be read */
} finder;

static int take(finder *f, mo_role role, const char *name) {
    char *list = f->lists[role];
    size_t used = strlen(list);
    snprintf(list + used, LIST_BYTES - used, "%s%s", used ? ", " : "", name);
    if (f->out->n[role]++ > 0) return 0;
    f->out->names[role] = mo_format("%s", name);
    return f->out->names[role] ? 0 : MOSHI_ENOMEM;
}

static int look_at(finder *f, const mo_source *s, const char *name) {
    mo_file file;
    mo_role role;
    moshi_error err;
    char guess[MO_FOREIGN_BYTES], *other = f->out->other;
    /* What cannot be opened (a directory, a broken link, a pipe) plays no role. */
    int rc = mo_source_open(s, name, "any of its files", "it lies there", &file, &err);
    if (rc < 0) return rc == MOSHI_ENOMEM ? rc : 0;
    rc = mo_role_of(&file, &role, guess, &err);
    if (rc == 0 && role != MO_ROLE_OTHER) rc = take(f, role, name);
    if (rc == 0 && role == MO_ROLE_OTHER && !other[0]) {
        char is[MO_FOREIGN_BYTES];
        if (guess[0])
            snprintf(other, MO_ROLE_OTHER_BYTES, "%.120s: %s", name, guess);
        else if (mo_foreign(file.data, file.size, is))
            snprintf(other, MO_ROLE_OTHER_BYTES, "%.120s: this is %s", name, is);
    }
    if (rc == 0 && err.text[0] && !f->damaged.text[0]) f->damaged = err;
    mo_file_close(&file);
    return rc;
}

/* Say why a role has no file, or not a single one. */
static void settle(finder *f, const mo_source *s, mo_role role) {
    moshi_error *why = &f->out->why[role];
    if (f->out->n[role] == 1) return;
    if (f->out->n[role] > 1) {
        free(f->out->names[role]);
        f->out->names[role] = NULL;
        mo_fail(why, MOSHI_EMODEL,
                "%s: wanted one file that holds %s, found %d: %s; name one of them, or let "
                "config.json name it",
                mo_source_place(s), mo_role_name(role), f->out->n[role], f->lists[role]);
    } else if (f->damaged.text[0] && role != MO_ROLE_TEXT) {
        *why = f->damaged;
    } else {
        mo_fail(why, MOSHI_EMODEL, "%s: no file in it holds %s, and no config.json names one%s%s",
                mo_source_place(s), mo_role_name(role), *f->out->other ? "; " : "", f->out->other);
    }
}

/* Nothing there but a directory that may have been meant? */
static void look_below(finder *f, const mo_source *s, const mo_source_names *names) {
    char *other = f->out->other;
    moshi_error ignored;
    if (names->n == 0) snprintf(other, MO_ROLE_OTHER_BYTES, "it is empty");
    for (size_t i = 0; i < names->n && !other[0]; i++) {
        char path[300];
        snprintf(path, sizeof path, "%.255s/config.json", names->names[i]);
        if (mo_source_has(s, path, &ignored) == 1)
            snprintf(other, MO_ROLE_OTHER_BYTES, "'%.255s' in it has one", names->names[i]);
    }
}

int mo_roles_find(mo_roles *out, const mo_source *s, moshi_error *err) {
    finder f = {.out = out};
    mo_source_names names;
    memset(out, 0, sizeof *out);
    int rc = mo_source_list(s, &names, err);
    if (rc < 0) return rc;
    for (size_t i = 0; rc == 0 && i < names.n; i++) rc = look_at(&f, s, names.names[i]);
    if (rc == 0 && !out->other[0]) look_below(&f, s, &names);
    mo_source_names_free(&names);
    if (rc < 0) {
        mo_roles_free(out);
        return mo_fail(err, rc, "%s: out of memory", mo_source_place(s));
    }
    for (int r = MO_ROLE_LM; r < MO_ROLE_COUNT; r++) settle(&f, s, (mo_role)r);
    return 0;
}

void mo_roles_free(mo_roles *roles) {
    for (int r = 0; r < MO_ROLE_COUNT; r++) free(roles->names[r]);
    memset(roles, 0, sizeof *roles);
}
