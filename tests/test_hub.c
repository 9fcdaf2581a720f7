/* test_hub.c - names, hashes, the resumable file, the cache and its locks, the known repositories.
 * No network. */
#include "check.h"

#include "hub.h"
#include "partial.h"
#include "presets.h"
#include "repos.h"
#include "sha.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static const char *in_dir(const char *name) {
    static char path[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", dir, name);
    return path[next];
}

/* ---- names ---------------------------------------------------------------------------------- */

static void test_names(void) {
    static const char *const good[] = {"kyutai/moshiko-pytorch-bf16",
                                       "a/b",
                                       "kyutai/stt-2.6b-en",
                                       "kyutai/tts-1.6b-en_fr@main",
                                       "a/b@refs/pr/1",
                                       "a/b@0123456789abcdef0123456789abcdef01234567"};
    static const char *const bad[] = {
        "",           "a",    "/a",     "a/",      "a/b/c",     "../b",       "a/..",
        "a/.b",       "-a/b", "a/b-",   "a--b/c",  "a/b..c",    "a/b c",      "a/b\n",
        "a\\b/c",     "a/b@", "a/b@..", "a/b@/x",  "a/b@x//y",  "a/b@x/../y", "a/b@-x",
        "./models/x", "~/b",  "a/b%2f", "a/b@x y", "http://a/b"};
    hub_id id;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(hub_parse(&id, good[i]), "%s is a repository", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!hub_parse(&id, bad[i]), "'%s' is no repository", bad[i]);
    CHECK(hub_parse(&id, "a/b@v1") && !strcmp(id.repo, "a/b") && !strcmp(id.revision, "v1"),
          "name and revision: %s, %s", id.repo, id.revision);
    CHECK(hub_parse(&id, "a/b") && !strcmp(id.revision, "main"), "the usual revision");
    char text[400];
    memset(text, 'a', sizeof text);
    text[1] = '/';
    text[96] = 0;
    CHECK(hub_parse(&id, text), "96 characters");
    text[96] = 'a';
    text[97] = 0;
    CHECK(!hub_parse(&id, text), "97 characters");
}

static void test_file_names(void) {
    static const char *const good[] = {"config.json", "mimi-dbaa9758@125.safetensors",
                                       "a/b/c",       "..a",
                                       "a b",         "voix-fran\303\247aise"};
    static const char *const bad[] = {"",     "/etc/passwd", "../x", "a/../b", "a/..",   ".",
                                      "a//b", "a/",          "a\\b", "a\nb",   "\033[2J"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(hub_is_file_name(good[i]), "%s is a file", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!hub_is_file_name(bad[i]), "'%s' is no file", bad[i]);
    CHECK(hub_is_blob_name("abc-1_2.3") && !hub_is_blob_name("../x") && !hub_is_blob_name("") &&
              !hub_is_blob_name(".x") && !hub_is_blob_name("a/b"),
          "names of blobs");
    CHECK(hub_is_commit("0123456789abcdef0123456789abcdef01234567") && !hub_is_commit("main") &&
              !hub_is_commit("0123456789ABCDEF0123456789abcdef01234567"),
          "commits");
}

/* ---- hashes --------------------------------------------------------------------------------- */

static const char *hash(sha_kind kind, const char *text, size_t n, size_t step, char out[SHA_HEX]) {
    sha s;
    sha_start(&s, kind);
    for (size_t at = 0; at < n; at += step) sha_add(&s, text + at, n - at < step ? n - at : step);
    sha_end(&s, out);
    return out;
}

/* The examples of FIPS 180-4, and a million letters. */
static void test_hashes(void) {
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static const struct {
        sha_kind kind;
        const char *text, *wanted;
    } cases[] = {
        {SHA_256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {SHA_256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {SHA_256, two_blocks, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {SHA_1, "", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
        {SHA_1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
        {SHA_1, two_blocks, "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
    };
    char out[SHA_HEX], other[SHA_HEX];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hash(cases[i].kind, cases[i].text, strlen(cases[i].text), 7, out);
        CHECK(!strcmp(out, cases[i].wanted), "'%s': %s", cases[i].text, out);
    }
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    CHECK(!strcmp(hash(SHA_256, million, 1000000, 4097, out),
                  "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
          "a million letters: %s", out);
    CHECK(
        !strcmp(hash(SHA_1, million, 1000000, 63, out), "34aa973cd4c4daa4f61eeb2bdbad27316534016f"),
        "a million letters: %s", out);
    /* Every length around the ends of blocks, in one piece and in single bytes. */
    for (size_t n = 50; n < 140; n++)
        CHECK(!strcmp(hash(SHA_256, million, n, n, out), hash(SHA_256, million, n, 1, other)),
              "%zu bytes in pieces", n);
    free(million);
}

/* ---- the resumable file --------------------------------------------------------------------- */

static bool file_is(const char *path, const char *text) {
    char found[256] = "";
    FILE *in = fopen(path, "rb");
    size_t n = in ? fread(found, 1, sizeof found - 1, in) : 0;
    if (in) fclose(in);
    return in && n == strlen(text) && !memcmp(found, text, n);
}

static void test_partial(void) {
    app_error err;
    partial p;
    const char *part = in_dir("x.incomplete"), *whole = in_dir("x");
    CHECK(partial_open(&p, part, 10, 4, &err) == EXIT_OK && p.n == 3 && partial_have(&p) == 0,
          "a new file");
    CHECK(partial_length(&p, 2) == 2 && partial_begin(&p, 2) == 8, "the last chunk is shorter");
    CHECK(partial_add(&p, 2, "89", 2, &err) == EXIT_OK, "the end first");
    CHECK(partial_add(&p, 2, "x", 1, &err) == EXIT_NETWORK, "no byte beyond the end");
    CHECK(partial_add(&p, 0, "01", 2, &err) == EXIT_OK, "half a chunk");
    CHECK(partial_commit(&p, whole, &err) == EXIT_INTERNAL && access(whole, F_OK) != 0,
          "not whole, no name");
    partial_close(&p);
    CHECK(partial_open(&p, part, 10, 100, &err) == EXIT_OK && partial_have(&p) == 4 && p.n == 3 &&
              p.done[0] == 2 && p.done[2] == 2,
          "taken up again");
    CHECK(partial_add(&p, 0, "234", 3, &err) == EXIT_NETWORK && p.done[0] == 2,
          "a chunk does not run over the next");
    CHECK(partial_add(&p, 0, "23", 2, &err) == EXIT_OK &&
              partial_add(&p, 1, "4567", 4, &err) == EXIT_OK,
          "the rest");
    CHECK(partial_commit(&p, whole, &err) == EXIT_OK && file_is(whole, "0123456789"), "the name");
    CHECK(access(part, F_OK) != 0, "and only that");
    partial_close(&p);
}

/* What lies there under the name of a resumable file may be anything. */
static void test_partial_damaged(void) {
    app_error err;
    partial p;
    const char *part = in_dir("y.incomplete");
    for (int what = 0; what < 5; what++) {
        unlink(part);
        CHECK(partial_open(&p, part, 100, 10, &err) == EXIT_OK, "a new file");
        partial_add(&p, 3, "abc", 3, &err);
        uint64_t wrong = what == 0 ? 11 : what == 1 ? UINT64_MAX : 0;
        if (what < 2) CHECK(pwrite(p.fd, &wrong, 8, 100 + 24 + 8) == 8, "a wrong count");
        if (what == 2) CHECK(pwrite(p.fd, &wrong, 8, 100 + 16) == 8, "chunks of nothing");
        if (what == 3) CHECK(ftruncate(p.fd, 150) == 0, "cut off");
        if (what == 4) CHECK(pwrite(p.fd, "notMoPar", 8, 100) == 8, "something else");
        partial_close(&p);
        CHECK(partial_open(&p, part, 100, 10, &err) == EXIT_OK && partial_have(&p) == 0,
              "damage %d: from the beginning", what);
        partial_close(&p);
    }
    CHECK(partial_open(&p, part, 101, 10, &err) == EXIT_OK && partial_have(&p) == 0,
          "another size: from the beginning");
    partial_close(&p);
    CHECK(partial_open(&p, part, PARTIAL_MAX_SIZE + 1, 1 << 20, &err) == EXIT_NETWORK,
          "a size that cannot be");
    unlink(part);
    CHECK(symlink(in_dir("elsewhere"), part) == 0, "a link");
    CHECK(partial_open(&p, part, 10, 10, &err) == EXIT_USAGE && access(in_dir("elsewhere"), F_OK),
          "links are not followed");
    CHECK(partial_open(&p, in_dir("empty"), 0, 10, &err) == EXIT_OK &&
              partial_commit(&p, in_dir("nothing"), &err) == EXIT_OK &&
              file_is(in_dir("nothing"), ""),
          "a file of no bytes");
    partial_close(&p);
}

/* ---- the cache ------------------------------------------------------------------------------ */

static void test_cache(void) {
    static const char commit[] = "89abcdef0123456789abcdef0123456789abcdef";
    app_error err;
    hub_id id;
    char *repo = NULL, *found = NULL, text[300];
    setenv("HF_HUB_CACHE", in_dir("hub"), 1);
    hub_parse(&id, "org/name");
    CHECK(hub_repo_dir(&repo, in_dir("hub"), &id, &err) == EXIT_OK &&
              !strcmp(repo, in_dir("hub/models--org--name")),
          "directory %s", repo);
    CHECK(hub_find(&found, &id, &err) == EXIT_OK && !found, "not there yet");
    snprintf(text, sizeof text, "%s/blobs/abc", repo);
    CHECK(hub_make_parents(text, &err) == EXIT_OK, "%s", err.text);
    FILE *out = fopen(text, "w");
    fputs("content", out);
    fclose(out);
    CHECK(hub_link(repo, commit, "sub/dir/file", "abc", &err) == EXIT_OK, "%s", err.text);
    CHECK(hub_link(repo, commit, "file", "abc", &err) == EXIT_OK &&
              hub_link(repo, commit, "file", "abc", &err) == EXIT_OK,
          "a link, twice");
    snprintf(text, sizeof text, "%s/snapshots/%s/sub/dir/file", repo, commit);
    CHECK(file_is(text, "content"), "the link of a file in directories leads to its blob");
    snprintf(text, sizeof text, "%s/snapshots/%s/file", repo, commit);
    char target[100] = "";
    CHECK(readlink(text, target, sizeof target - 1) > 0 && !strcmp(target, "../../blobs/abc"),
          "links are relative: %s", target);
    CHECK(hub_find(&found, &id, &err) == EXIT_OK && !found, "no revision leads there");
    CHECK(hub_write_ref(repo, "main", commit, &err) == EXIT_OK &&
              hub_write_ref(repo, "refs/pr/1", commit, &err) == EXIT_OK,
          "%s", err.text);
    CHECK(hub_find(&found, &id, &err) == EXIT_OK && found && strstr(found, commit), "found");
    free(found);
    hub_lookup l = {0};
    const char *path = hub_look_up(&l, "hf://org/name/sub/dir/file");
    CHECK(path && file_is(path, "content") && !l.missing[0], "a file by its hf:// name");
    CHECK(!hub_look_up(&l, "hf://org/name/absent@1") && !strcmp(l.missing, "org/name absent@1"),
          "a file that is not there: %s", l.missing);
    static const char *const odd[] = {"hf://",
                                      "hf://org",
                                      "hf://org/name",
                                      "hf://org/name/",
                                      "hf://org/name/../file",
                                      "hf://../x/file",
                                      "file",
                                      "hf://org/name@v1/file",
                                      "hf:///name/file"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        CHECK(!hub_look_up(&l, odd[i]), "%s is found", odd[i]);
    hub_lookup_free(&l);
    hub_parse(&id, "org/name@refs/pr/1");
    CHECK(hub_find(&found, &id, &err) == EXIT_OK && found, "found by a revision with slashes");
    free(found);
    snprintf(text, sizeof text, "org/name@%s", commit);
    hub_parse(&id, text);
    CHECK(hub_find(&found, &id, &err) == EXIT_OK && found, "found by commit");
    free(found);
    hub_parse(&id, "org/name@other");
    CHECK(hub_find(&found, &id, &err) == EXIT_OK && !found, "another revision is not there");
    /* Other tools end the line; a ref that leads out of the cache is none. */
    hub_parse(&id, "org/name");
    snprintf(text, sizeof text, "%s\n", commit);
    CHECK(hub_write_ref(repo, "main", text, &err) == EXIT_OK &&
              hub_find(&found, &id, &err) == EXIT_OK && found,
          "a ref with a line end");
    free(found);
    CHECK(hub_write_ref(repo, "main", "../../..", &err) == EXIT_OK &&
              hub_find(&found, &id, &err) == EXIT_OK && !found,
          "a ref that is no commit");
    free(repo);
}

static void test_environment(void) {
    app_error err;
    char *text = NULL;
    unsetenv("HF_HUB_CACHE");
    unsetenv("HUGGINGFACE_HUB_CACHE");
    unsetenv("HUGGING_FACE_HUB_TOKEN");
    unsetenv("HF_TOKEN");
    unsetenv("HF_TOKEN_PATH");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HF_HOME");
    setenv("HOME", dir, 1);
    CHECK(hub_cache_dir(&text, &err) == EXIT_OK && !strcmp(text, in_dir(".cache/huggingface/hub")),
          "%s", text);
    free(text);
    setenv("XDG_CACHE_HOME", "/xdg", 1);
    CHECK(hub_cache_dir(&text, &err) == EXIT_OK && !strcmp(text, "/xdg/huggingface/hub"), "%s",
          text);
    free(text);
    setenv("HF_HOME", dir, 1);
    CHECK(hub_cache_dir(&text, &err) == EXIT_OK && !strcmp(text, in_dir("hub")), "%s", text);
    free(text);
    CHECK(hub_token(&text, &err) == EXIT_OK && !text, "no token");
    FILE *out = fopen(in_dir("token"), "w");
    fputs("hf_file\n", out);
    fclose(out);
    CHECK(hub_token(&text, &err) == EXIT_OK && text && !strcmp(text, "hf_file"), "from the file");
    free(text);
    setenv("HF_TOKEN", "hf_variable", 1);
    CHECK(hub_token(&text, &err) == EXIT_OK && text && !strcmp(text, "hf_variable"),
          "the variable wins");
    free(text);
    setenv("HF_TOKEN", "a\r\nHost: evil", 1);
    CHECK(hub_token(&text, &err) == EXIT_USAGE && !strstr(err.text, "evil"),
          "no second header, and no token in messages");
    unsetenv("HF_TOKEN");
    static const char *const values[] = {"1", "true", "YES", "on", "0", "", "false", "no"};
    for (int i = 0; i < 8; i++) {
        setenv("HF_HUB_OFFLINE", values[i], 1);
        CHECK(hub_is_offline() == (i < 4), "HF_HUB_OFFLINE=%s", values[i]);
    }
}

/* ---- locks ---------------------------------------------------------------------------------- */

typedef struct holder {
    const char *path;
    hub_lock lock;
    pthread_mutex_t waiting;
} holder;

/* The second one waits until the first has told it that somebody waits. */
static void on_waiting(void *user) {
    holder *h = user;
    hub_lock_release(&h->lock);
    pthread_mutex_unlock(&h->waiting);
}

static void test_locks(void) {
    app_error err;
    hub_lock second;
    holder h = {.path = in_dir("locks/a.lock")};
    pthread_mutex_init(&h.waiting, NULL);
    pthread_mutex_lock(&h.waiting);
    CHECK(hub_lock_take(&h.lock, h.path, on_waiting, &h, &err) == EXIT_OK && h.lock.fd >= 0,
          "free: taken at once");
    CHECK(hub_lock_take(&second, h.path, on_waiting, &h, &err) == EXIT_OK,
          "held: taken when it is released");
    CHECK(pthread_mutex_trylock(&h.waiting) == 0, "and said so");
    pthread_mutex_unlock(&h.waiting);
    hub_lock_release(&second);
    CHECK(hub_lock_take(&second, h.path, on_waiting, &h, &err) == EXIT_OK, "free again");
    hub_lock_release(&second);
    pthread_mutex_destroy(&h.waiting);
}

static void test_known(void) {
    known_repo repos[KNOWN_REPOS_MAX];
    hub_id id;
    char near[64];
    int n = known_repos(repos);
    CHECK(n >= 25, "%d known repositories", n);
    for (int i = 0; i < n; i++)
        CHECK(hub_parse(&id, repos[i].name) && repos[i].gigabytes > 0.1 &&
                  repos[i].gigabytes < 20 && repos[i].what[0],
              "row %s", repos[i].name);
    for (int i = 0; i < n; i++)
        CHECK(!strcmp(repos[i].verb, "reply") || !strcmp(repos[i].verb, "trace") ||
                  !strcmp(repos[i].verb, "-"),
              "%s: '%s' is no verb that runs a model", repos[i].name, repos[i].verb);
    nearest_repo("kyutai/moshiko-pytorch-bf15", near);
    CHECK(!strcmp(near, "kyutai/moshiko-pytorch-bf16"), "nearest: %s", near);
    nearest_repo("somebody/else", near);
    CHECK(!near[0], "nothing is near: %s", near);
}

/* Weights are known again by their sizes and their form: two voices of each, and every model that
 * needs no config.json. */
static void test_known_again(void) {
    static const char *const forms[] = {"PyTorch/BF16", "PyTorch/I8", "candle/BF16", "candle/Q8_0",
                                        "MLX/BF16",     "MLX/8-bit",  "MLX/4-bit"};
    known_repo found[8];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        int n = repos_like("4096x32,16,8,32000", forms[i], found, 8);
        CHECK(n == 2 && strstr(found[0].name, "kyutai/moshiko-") &&
                  strstr(found[1].name, "kyutai/moshika-"),
              "%s: %d repositories", forms[i], n);
    }
    CHECK(repos_like("4096x32,16,8,32000", "PyTorch/F16", found, 8) == 0, "nobody publishes that");
    for (size_t i = 0; mo_preset_at(i); i++) {
        const mo_preset *p = mo_preset_at(i);
        mo_lm_config c;
        char shape[64];
        if (!CHECK(mo_lm_config_parse(&c, p->config, strlen(p->config), p->name, NULL) == 0, "%s",
                   p->name))
            continue;
        snprintf(shape, sizeof shape, "%dx%d,%d,%d,%d", c.dim, c.layers, c.n_q, c.dep_q,
                 c.text_card);
        CHECK(repos_like(shape, "PyTorch/BF16", found, 8) >= 1, "%s (%s) is no known repository",
              p->name, shape);
    }
}

int main(void) {
    snprintf(dir, sizeof dir, "/tmp/moshi-hub-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    test_names();
    test_file_names();
    test_hashes();
    test_partial();
    test_partial_damaged();
    test_cache();
    test_environment();
    test_locks();
    test_known();
    test_known_again();
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    CHECK(system(command) == 0, "cleaning up");
    return check_done("test_hub");
}
