/* hub.h - the cache of downloaded models that tools for the Hugging Face hub share:
 *
 *   HUB/models--ORG--NAME/blobs/HASH            contents
 *   HUB/models--ORG--NAME/refs/REVISION         a commit
 *   HUB/models--ORG--NAME/snapshots/COMMIT/FILE relative links to ../../blobs/HASH
 *   HUB/.locks/models--ORG--NAME/HASH.lock      held while a content is downloaded
 *
 * Nothing here uses the network. */
#ifndef APP_HUB_H
#define APP_HUB_H

#include "app.h"

enum { HUB_REPO_MAX = 97, HUB_REVISION_MAX = 129, HUB_FILE_MAX = 256, HUB_COMMIT = 41 };

/* "ORG/NAME" or "ORG/NAME@REVISION"; the revision is "main" when none is given. */
typedef struct hub_id {
    char repo[HUB_REPO_MAX], revision[HUB_REVISION_MAX];
} hub_id;

/* Only names that the hub would give out and that are harmless as file names. */
bool hub_parse(hub_id *id, const char *text);
/* A file of a repository: relative, no "..", nothing odd. */
bool hub_is_file_name(const char *name);
/* 40 hexadecimal digits. */
bool hub_is_commit(const char *text);
/* A name for a blob: letters, digits, "._-"; no dot in front. */
bool hub_is_blob_name(const char *text);

/* Directory of the cache: $HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub. Released by the
 * caller; so are all strings below. */
int hub_cache_dir(char **out, app_error *err);
/* What allows to see restricted repositories, or NULL: $HF_TOKEN or the file that the hub's own
 * tool writes at login. */
int hub_token(char **out, app_error *err);
bool hub_is_offline(void);

/* Text in the manner of printf(). */
int hub_path(char **out, app_error *err, const char *fmt, ...) APP_PRINTF(3, 4);
/* HUB/models--ORG--NAME */
int hub_repo_dir(char **out, const char *cache, const hub_id *id, app_error *err);
/* The directory with the model's files; *out is NULL when it is not in the cache. */
int hub_find(char **out, const hub_id *id, app_error *err);

/* Finds files that a configuration names "hf://ORG/NAME/FILE" among the downloads. Zeroed before
 * use.
 */
typedef struct hub_lookup {
    char *path;                                /* of what was found last */
    char missing[HUB_REPO_MAX + HUB_FILE_MAX]; /* "ORG/NAME FILE" of what was not, else "" */
} hub_lookup;

/* What moshi_finder.find does; `lookup` is a hub_lookup. The path lives until the next call. */
const char *hub_look_up(void *lookup, const char *name);
void hub_lookup_free(hub_lookup *lookup);

/* Create the directories that `path` lies in. */
int hub_make_parents(const char *path, app_error *err);
/* Give a file of a snapshot its blob; a link that is there already is replaced. */
int hub_link(const char *repo_dir, const char *commit, const char *file, const char *blob,
             app_error *err);
/* Note which commit a revision is. */
int hub_write_ref(const char *repo_dir, const char *revision, const char *commit, app_error *err);

/* A file that two programs cannot hold at once. */
typedef struct hub_lock {
    int fd; /* -1: not held */
} hub_lock;

/* Waits while another program holds it, calling `waiting` once. */
int hub_lock_take(hub_lock *lock, const char *path, void (*waiting)(void *user), void *user,
                  app_error *err);
void hub_lock_release(hub_lock *lock);

#endif
