/* http_server.c - the hub and its storage on two loopback ports, in good and in bad mood.
 *
 *   http_server DIRECTORY PORTS LOG
 *
 * serves the files of DIRECTORY as every repository there is, writes both port numbers to PORTS and
 * one line per request to LOG ("hub GET cut /some/repo/... range 0-99 token"), and ends when its
 * standard input does. The first part of the path is the mood; see the functions below. */
#include "sha.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LARGE = 4096, COUNTERS = 256 };
static const char COMMIT[] = "0123456789abcdef0123456789abcdef01234567";

static const char *root;
static FILE *log_file;
static int storage_port;

/* How often something happened, by name. */
static struct {
    pthread_mutex_t lock;
    char name[COUNTERS][200];
    long count[COUNTERS];
} counters = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Adds, and returns what it was before. */
static long count(const char *name, long add) {
    pthread_mutex_lock(&counters.lock);
    int i = 0;
    while (i < COUNTERS - 1 && counters.name[i][0] && strcmp(counters.name[i], name) != 0) i++;
    snprintf(counters.name[i], sizeof counters.name[i], "%s", name);
    long before = counters.count[i];
    counters.count[i] += add;
    pthread_mutex_unlock(&counters.lock);
    return before;
}

typedef struct conversation {
    int fd;
    bool storage; /* not the hub itself */
    char method[8], path[700], mood[32], file[256];
    bool has_range, has_token;
    long from, to;
    char *data;
    long size;
    char etag[SHA_HEX];
} conversation;

static bool in(const conversation *c, const char *mood) {
    return !strcmp(c->mood, mood);
}

static bool put(const conversation *c, const char *data, long n) {
    while (n > 0) {
        ssize_t done = send(c->fd, data, (size_t)n, 0);
        if (done <= 0) return false;
        data += done;
        n -= done;
    }
    return true;
}

/* A whole answer. `headers` are complete lines. */
static void answer(const conversation *c, const char *status, const char *headers,
                   const char *body) {
    char head[2048];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %s\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n", status,
                     headers, strlen(body));
    put(c, head, n);
    if (strcmp(c->method, "HEAD") != 0) put(c, body, (long)strlen(body));
}

/* ---- files ---------------------------------------------------------------------------------- */

static bool is_large(const conversation *c) {
    return c->size >= LARGE;
}

static void hash_file(conversation *c) {
    sha s;
    char head[48];
    sha_start(&s, c->size >= LARGE ? SHA_256 : SHA_1);
    int n = snprintf(head, sizeof head, "blob %ld", c->size);
    if (c->size < LARGE) sha_add(&s, head, (size_t)n + 1);
    sha_add(&s, c->data, (size_t)c->size);
    sha_end(&s, c->etag);
}

/* Large files are asked for often, and do not change. */
static void hash_file_once(conversation *c) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct { char file[256], etag[SHA_HEX]; } known[16];
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < 15 && known[i].file[0] && strcmp(known[i].file, c->file) != 0) i++;
    if (strcmp(known[i].file, c->file) != 0) {
        hash_file(c);
        memcpy(known[i].file, c->file, sizeof known[i].file);
        memcpy(known[i].etag, c->etag, sizeof known[i].etag);
    }
    memcpy(c->etag, known[i].etag, sizeof c->etag);
    pthread_mutex_unlock(&lock);
}

static bool load_file(conversation *c) {
    char path[1024];
    static const char evil[] = "{\"moshi_name\": \"../../evil\"}";
    snprintf(path, sizeof path, "%s/%s", root, c->file);
    bool is_evil = in(c, "evil") && !strcmp(c->file, "config.json");
    FILE *in_file = is_evil ? NULL : fopen(path, "rb");
    if (!in_file && !is_evil) return false;
    if (in_file) fseek(in_file, 0, SEEK_END);
    c->size = in_file ? ftell(in_file) : (long)strlen(evil);
    c->data = calloc(1, (size_t)c->size + 1);
    if (in_file) {
        rewind(in_file);
        if (fread(c->data, 1, (size_t)c->size, in_file) != (size_t)c->size) c->size = 0;
        fclose(in_file);
    } else {
        memcpy(c->data, evil, sizeof evil);
    }
    if (is_large(c))
        hash_file_once(c);
    else
        hash_file(c);
    return true;
}

/* What the hub says about a file. */
static void describe(const conversation *c, char *out, size_t size) {
    const char *etag = c->etag;
    if (in(c, "nothing") || in(c, "sizeonly")) etag = "v1-abc";
    if (in(c, "eviltag")) etag = "../../x";
    int n = snprintf(out, size, "X-Repo-Commit: %s\r\nETag: \"%s\"\r\n", COMMIT, etag);
    if (!is_large(c) || in(c, "nolength") || in(c, "nothing")) return;
    char length[32];
    snprintf(length, sizeof length, "%ld", c->size);
    const char *said = in(c, "absurd") ? "99999999999999999999999"
                       : in(c, "huge") ? "60000000000000"
                                       : length;
    snprintf(out + n, size - (size_t)n, "X-Linked-ETag: \"%s\"\r\nX-Linked-Size: %s\r\n", etag,
             said);
}

static void hang(const conversation *c) {
    struct pollfd wait = {.fd = c->fd, .events = POLLIN};
    poll(&wait, 1, 20000);
}

/* The bytes from..to, or fewer. */
static void send_bytes(conversation *c, long from, long to) {
    long n = to - from + 1, limit = n;
    if (in(c, "badhash") && from == 0) c->data[0] ^= 1;
    if (!is_large(c))
        limit = n;
    else if (in(c, "cut") && limit > 30000)
        limit = 30000;
    else if (in(c, "stall") && count("stall", 1) < 3)
        limit = 0;
    else if (in(c, "lie") && to == c->size - 1)
        limit -= 10;
    if (!strncmp(c->mood, "die", 3) && is_large(c)) {
        long sent = count(c->mood, limit), left = 100000 - sent;
        if (left < limit) limit = left > 0 ? left : 0;
    }
    bool slow = in(c, "slow") && is_large(c);
    for (long at = 0; at < limit;) {
        long part = slow && limit - at > 10000 ? 10000 : limit - at;
        if (!put(c, c->data + from + at, part)) return;
        at += part;
        if (slow) usleep(40000);
    }
    if (in(c, "stall") && limit < n) hang(c);
}

static void send_file(conversation *c) {
    char facts[700], head[1400], length[120] = "", range[120] = "";
    bool part = c->has_range && !in(c, "norange") && is_large(c);
    long from = part ? c->from : 0, to = part ? c->to : c->size - 1;
    if (to > c->size - 1) to = c->size - 1;
    bool silent = in(c, "nolength") || in(c, "nothing") || in(c, "more");
    long said = to - from + 1 - (in(c, "short") && is_large(c) ? 10 : 0);
    if (!silent) snprintf(length, sizeof length, "Content-Length: %ld\r\n", said);
    if (in(c, "absurdlength") && is_large(c))
        snprintf(length, sizeof length, "Content-Length: 99999999999999999999999\r\n");
    if (part)
        snprintf(range, sizeof range, "Content-Range: bytes %ld-%ld/%ld\r\n",
                 from + in(c, "wrongrange"), to, c->size);
    describe(c, facts, sizeof facts);
    int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nConnection: close\r\n%s%s%s\r\n",
                     part ? "206 Partial Content" : "200 OK", facts, length, range);
    put(c, head, n);
    if (!strcmp(c->method, "HEAD")) return;
    send_bytes(c, from, to - (in(c, "short") && is_large(c) ? 10 : 0));
    if (in(c, "more") && is_large(c)) put(c, c->data, 1000);
}

/* ---- the hub -------------------------------------------------------------------------------- */

static void send_listing(const conversation *c) {
    char body[8192], head[64];
    if (in(c, "garbage")) return answer(c, "200 OK", "", "<html>a portal</html>");
    int n = snprintf(body, sizeof body,
                     "{\"sha\": \"%s\", \"siblings\": [{\"rfilename\": \"../../evil\"}", COMMIT);
    DIR *dir = opendir(root);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            n += snprintf(body + n, sizeof body - (size_t)n, ", {\"rfilename\": \"%s\"}",
                          entry->d_name);
    if (dir) closedir(dir);
    snprintf(body + n, sizeof body - (size_t)n, "]}");
    snprintf(head, sizeof head, "Content-Type: application/json\r\n");
    answer(c, "200 OK", head, body);
}

static void send_redirect(const conversation *c) {
    char headers[1800], facts[700], to[800];
    describe(c, facts, sizeof facts);
    snprintf(to, sizeof to, "http://127.0.0.1:%d/%s/storage/%s", storage_port, c->mood, c->file);
    if (in(c, "redirectfile")) snprintf(to, sizeof to, "file:///etc/passwd");
    if (in(c, "loop")) snprintf(to, sizeof to, "%s", c->path);
    if (in(c, "renamed")) snprintf(to, sizeof to, "/ok%s", c->path + strlen("/renamed"));
    snprintf(headers, sizeof headers, "%sLocation: %s\r\n",
             in(c, "loop") || in(c, "renamed") ? "" : facts, to);
    answer(c, "302 Found", headers, "");
}

static void refuse(const conversation *c) {
    if (in(c, "gated"))
        answer(c, c->has_token ? "403 Forbidden" : "401 Unauthorized",
               "X-Error-Code: GatedRepo\r\nX-Error-Message: restricted\r\n", "");
    else
        answer(c, "404 Not Found", "X-Error-Code: EntryNotFound\r\n", "");
}

/* Moods that answer before anything is looked at; true when it did. */
static bool interfere(const conversation *c) {
    char key[800];
    snprintf(key, sizeof key, "%s %.150s", c->method, c->path);
    if (in(c, "empty")) return true;
    if (in(c, "broken") || (in(c, "flaky") && count(key, 1) < 2)) {
        answer(c, "500 Internal Server Error", "", "sorry");
        return true;
    }
    if (in(c, "limit") && strstr(c->path, "model.safetensors") && count(key, 1) < 1) {
        answer(c, "429 Too Many Requests", "Retry-After: 1\r\n", "");
        return true;
    }
    if (in(c, "longlimit")) {
        answer(c, "429 Too Many Requests", "Retry-After: 4000\r\n", "");
        return true;
    }
    return !strncmp(c->mood, "die", 3) && count(c->mood, 0) >= 100000 &&
           strstr(c->path, "model.safetensors") && !strcmp(c->method, "GET");
}

static void serve(conversation *c) {
    bool redirects = in(c, "cdn") || in(c, "redirectfile");
    if (interfere(c)) return;
    if (strstr(c->path, "/api/models/")) {
        if (strstr(c->path, "bf15")) return answer(c, "404 Not Found", "", "");
        if (strstr(c->path, "/nobody/"))
            return answer(c, "401 Unauthorized", "X-Error-Code: RepoNotFound\r\n", "");
        if (strstr(c->path, "/revision/none"))
            return answer(c, "404 Not Found", "X-Error-Code: RevisionNotFound\r\n", "");
        return send_listing(c);
    }
    if (in(c, "gated") || !load_file(c)) return refuse(c);
    if (!c->storage && (in(c, "loop") || in(c, "renamed") || (redirects && is_large(c))))
        return send_redirect(c);
    send_file(c);
}

/* ---- HTTP ----------------------------------------------------------------------------------- */

/* The request's head, terminated; false when the connection ends first. */
static bool read_head(int fd, char *head, size_t size) {
    size_t n = 0;
    while (n + 1 < size) {
        ssize_t got = recv(fd, head + n, size - 1 - n, 0);
        if (got <= 0) return false;
        n += (size_t)got;
        head[n] = 0;
        if (strstr(head, "\r\n\r\n")) return true;
    }
    return false;
}

static bool understand(conversation *c, const char *head) {
    if (sscanf(head, "%7s /%31[^/]", c->method, c->mood) != 2) return false;
    if (sscanf(head, "%*s %699s", c->path) != 1) return false;
    const char *slash = strrchr(c->path, '/');
    snprintf(c->file, sizeof c->file, "%s", slash + 1);
    const char *range = strstr(head, "\r\nRange: bytes=");
    c->has_range = range && sscanf(range, "\r\nRange: bytes=%ld-%ld", &c->from, &c->to) == 2;
    c->has_token = strstr(head, "\r\nAuthorization: Bearer secret\r\n") != NULL;
    return true;
}

static void write_log(const conversation *c) {
    pthread_mutex_lock(&counters.lock);
    fprintf(log_file, "%s %s %s %s", c->storage ? "storage" : "hub", c->method, c->mood, c->path);
    if (c->has_range) fprintf(log_file, " range %ld-%ld", c->from, c->to);
    fprintf(log_file, "%s\n", c->has_token ? " token" : "");
    fflush(log_file);
    pthread_mutex_unlock(&counters.lock);
}

static void *converse(void *user) {
    conversation *c = user;
    char head[8192];
    if (read_head(c->fd, head, sizeof head) && understand(c, head)) {
        write_log(c);
        serve(c);
    }
    shutdown(c->fd, SHUT_WR);
    close(c->fd);
    free(c->data);
    free(c);
    return NULL;
}

static int listen_at(int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t n = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, n) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &n) != 0) {
        perror("http_server");
        exit(1);
    }
    *port = ntohs(address.sin_port);
    return fd;
}

static void accept_one(int fd, bool storage) {
    pthread_t thread;
    conversation *c = calloc(1, sizeof *c);
    if (!c) exit(1);
    c->storage = storage;
    c->fd = accept(fd, NULL, NULL);
    if (c->fd < 0 || pthread_create(&thread, NULL, converse, c) != 0) {
        free(c);
        return;
    }
    pthread_detach(thread);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    signal(SIGPIPE, SIG_IGN);
    root = argv[1];
    log_file = fopen(argv[3], "a");
    int hub_port, hub = listen_at(&hub_port), storage = listen_at(&storage_port);
    FILE *ports = fopen(argv[2], "w");
    if (!log_file || !ports) return 1;
    fprintf(ports, "%d %d\n", hub_port, storage_port);
    fclose(ports);
    for (;;) {
        struct pollfd all[3] = {{.fd = hub, .events = POLLIN},
                                {.fd = storage, .events = POLLIN},
                                {.fd = STDIN_FILENO, .events = POLLIN}};
        if (poll(all, 3, -1) < 0) return 1;
        if (all[0].revents) accept_one(hub, false);
        if (all[1].revents) accept_one(storage, true);
        /* Whoever started this is gone. */
        if (all[2].revents) _exit(0);
    }
}
