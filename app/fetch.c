/* fetch.c - requests on libcurl's multi interface: one thread, any number of connections.
 *
 * A request is one URL until its final answer; redirects are followed here and not by libcurl,
 * because here it is decided who sees the token. A lane is one of the parallel connections that
 * fill the chunks of a file. */
#include "fetch.h"

#ifndef APP_HAVE_CURL

int fetch_open(fetch **out, const fetch_options *options, app_error *err) {
    (void)options;
    *out = NULL;
    return app_fail(err, EXIT_NETWORK,
                    "this program was built without libcurl and cannot download; install "
                    "libcurl4-openssl-dev (Debian, Ubuntu), libcurl-devel (Fedora) or curl (Arch, "
                    "macOS) and build it again");
}

void fetch_close(fetch *f) {
    (void)f;
}

/* Without fetch_open() nobody gets here. */
int fetch_head(fetch *f, const char *url, fetch_reply *reply, app_error *err) {
    (void)f, (void)reply;
    return app_fail(err, EXIT_INTERNAL, "%s: no libcurl", url);
}

int fetch_text(fetch *f, const char *url, size_t limit, app_buffer *text, fetch_reply *reply,
               app_error *err) {
    (void)f, (void)limit, (void)text, (void)reply;
    return app_fail(err, EXIT_INTERNAL, "%s: no libcurl", url);
}

int fetch_parts(fetch *f, const char *url, partial *p, app_error *err) {
    (void)f, (void)p;
    return app_fail(err, EXIT_INTERNAL, "%s: no libcurl", url);
}

#else

#include "moshi.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    ATTEMPTS = 6,
    HOPS_MAX = 10,
    LANES_MAX = 16,
    POLL_MS = 100,
    CONNECT_S = 20,
    RETRY_AFTER_MAX_S = 300,
    ERROR_BODY_MAX = 1 << 20
};

struct fetch {
    CURLM *multi;
    fetch_options options;
    bool curl_started;
    bool reached; /* some server has answered something */
};

/* How a request ended. */
typedef enum verdict {
    DONE,          /* 2xx, complete */
    ANSWERED,      /* another status, for the caller to judge */
    AGAIN,         /* redirected: was started once more */
    FAILED,        /* may pass; `err` says what it was */
    REFUSED,       /* will not pass; `err` says what it was */
    IGNORED_RANGE, /* the whole file instead of the range that was wanted */
} verdict;

typedef struct request {
    fetch *f;
    CURL *easy; /* NULL: not running */
    struct curl_slist *headers;
    char *url; /* where the last redirect led */
    bool head;
    int hops;
    uint64_t from, to; /* the range, or both 0: no range */
    /* Where the contents go: one of the two. */
    app_buffer *text;
    size_t limit;
    partial *part;
    uint64_t index; /* chunk of the part */
    size_t error_bytes;
    int refused; /* EXIT_* when the contents could not be taken; then `err` holds why */
    bool ignored_range;
    app_error err;
    fetch_reply reply;
    char curl_text[CURL_ERROR_SIZE];
} request;

/* ---- session -------------------------------------------------------------------------------- */

int fetch_open(fetch **out, const fetch_options *options, app_error *err) {
    fetch *f = *out = calloc(1, sizeof *f);
    if (!f) return app_no_memory(err);
    f->options = *options;
    if (f->options.connections > LANES_MAX) f->options.connections = LANES_MAX;
    f->curl_started = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    f->multi = f->curl_started ? curl_multi_init() : NULL;
    if (f->multi) return EXIT_OK;
    fetch_close(f);
    *out = NULL;
    return app_fail(err, EXIT_NETWORK, "libcurl cannot start");
}

void fetch_close(fetch *f) {
    if (!f) return;
    if (f->multi) curl_multi_cleanup(f->multi);
    if (f->curl_started) curl_global_cleanup();
    free(f);
}

/* ---- URLs ----------------------------------------------------------------------------------- */

static bool url_part_same(CURLU *a, CURLU *b, CURLUPart part) {
    char *x = NULL, *y = NULL;
    bool same = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                curl_url_get(b, part, &y, CURLU_DEFAULT_PORT) == CURLUE_OK && !strcasecmp(x, y);
    curl_free(x);
    curl_free(y);
    return same;
}

/* Same scheme, host and port. */
static bool same_server(const char *a, const char *b) {
    CURLU *x = curl_url(), *y = curl_url();
    bool same = x && y && curl_url_set(x, CURLUPART_URL, a, 0) == CURLUE_OK &&
                curl_url_set(y, CURLUPART_URL, b, 0) == CURLUE_OK &&
                url_part_same(x, y, CURLUPART_SCHEME) && url_part_same(x, y, CURLUPART_HOST) &&
                url_part_same(x, y, CURLUPART_PORT);
    curl_url_cleanup(x);
    curl_url_cleanup(y);
    return same;
}

static bool begins(const char *text, const char *with) {
    return !strncasecmp(text, with, strlen(with));
}

/* Where `location`, said by `url`, leads; NULL when it may not be followed. */
static char *follow(const char *url, const char *location) {
    CURLU *u = curl_url();
    char *to = NULL, *copy = NULL;
    bool good = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_set(u, CURLUPART_URL, location, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_URL, &to, 0) == CURLUE_OK &&
                (begins(to, "https://") || (begins(to, "http://") && begins(url, "http://")));
    if (good) copy = strdup(to);
    curl_free(to);
    curl_url_cleanup(u);
    return copy;
}

/* ---- what the server says ------------------------------------------------------------------- */

/* If `line` is the header `name`, its value without blanks around it goes to `out`. */
static bool header_is(const char *line, size_t n, const char *name, char *out, size_t size) {
    size_t skip = strlen(name);
    if (n <= skip || line[skip] != ':' || strncasecmp(line, name, skip) != 0) return false;
    const char *from = line + skip + 1, *end = line + n;
    while (from < end && (*from == ' ' || *from == '\t')) from++;
    while (end > from && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) end--;
    snprintf(out, size, "%.*s", (int)(end - from), from);
    /* Some of it is printed, and a terminal obeys control characters. */
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    return true;
}

static void take_quotes_off(char *etag) {
    char *from = etag;
    if (!strncmp(from, "W/", 2)) from += 2;
    if (*from == '"') from++;
    size_t n = strlen(from);
    if (n && from[n - 1] == '"') n--;
    memmove(etag, from, n);
    etag[n] = 0;
}

/* -1 when that is not a number; a number beyond all sense stays beyond all sense. */
static int64_t whole_number(const char *text) {
    if (!text[0] || strspn(text, "0123456789") != strlen(text)) return -1;
    return strlen(text) > 18 ? INT64_MAX : (int64_t)strtoll(text, NULL, 10);
}

/* "bytes 0-99/1234" or "bytes 0-99/" and a star */
static void take_range(fetch_reply *reply, const char *value) {
    const char *slash = strchr(value, '/');
    char *end;
    if (!begins(value, "bytes ") || !slash) return;
    reply->range_from = strtoll(value + 6, &end, 10);
    if (*end != '-' || end == value + 6) reply->range_from = -1;
    reply->range_total = whole_number(slash + 1);
}

/* A new answer begins. What the hub said about the file before it redirected stays. */
static void clear_reply(fetch_reply *reply) {
    reply->status = 0;
    reply->etag[0] = reply->error_code[0] = reply->error_message[0] = reply->location[0] = 0;
    reply->length = reply->range_from = reply->range_total = -1;
}

static size_t on_header(char *line, size_t size, size_t count, void *user) {
    request *r = user;
    fetch_reply *reply = &r->reply;
    size_t n = size * count;
    char number[64];
    if (n > 5 && !strncmp(line, "HTTP/", 5)) {
        const char *space = memchr(line, ' ', n);
        clear_reply(reply);
        reply->status = space ? strtol(space, NULL, 10) : 0;
    } else if (header_is(line, n, "ETag", reply->etag, sizeof reply->etag)) {
        take_quotes_off(reply->etag);
    } else if (header_is(line, n, "X-Linked-ETag", reply->linked_etag, sizeof reply->linked_etag)) {
        take_quotes_off(reply->linked_etag);
    } else if (header_is(line, n, "X-Linked-Size", number, sizeof number)) {
        reply->linked_length = whole_number(number);
    } else if (header_is(line, n, "Content-Length", number, sizeof number)) {
        reply->length = whole_number(number);
    } else if (header_is(line, n, "Content-Range", number, sizeof number)) {
        take_range(reply, number);
    } else if (!header_is(line, n, "Location", reply->location, sizeof reply->location) &&
               !header_is(line, n, "X-Repo-Commit", reply->commit, sizeof reply->commit) &&
               !header_is(line, n, "X-Error-Code", reply->error_code, sizeof reply->error_code)) {
        header_is(line, n, "X-Error-Message", reply->error_message, sizeof reply->error_message);
    }
    return n;
}

/* Is this the part of the file that was asked for? */
static bool check_range(request *r) {
    const fetch_reply *reply = &r->reply;
    if (!r->part) return true;
    uint64_t size = r->part->size;
    if (!r->to && reply->status == 200) {
        if (reply->length < 0 || (uint64_t)reply->length == size) return true;
        r->refused =
            app_fail(&r->err, EXIT_NETWORK, "the server announced %llu bytes and now sends %lld",
                     (unsigned long long)size, (long long)reply->length);
        return false;
    }
    if (reply->status == 200) {
        r->ignored_range = true;
        return false;
    }
    if (reply->status == 206 && (uint64_t)reply->range_from == r->from &&
        (reply->range_total < 0 || (uint64_t)reply->range_total == size))
        return true;
    r->refused =
        app_fail(&r->err, EXIT_NETWORK,
                 "asked for the bytes from %llu of %llu, the server sends those from "
                 "%lld of %lld (status %ld)",
                 (unsigned long long)r->from, (unsigned long long)size,
                 (long long)reply->range_from, (long long)reply->range_total, reply->status);
    return false;
}

static size_t on_data(char *data, size_t size, size_t count, void *user) {
    request *r = user;
    size_t n = size * count;
    if (r->reply.status / 100 != 2) {
        r->error_bytes += n;
        return r->error_bytes > ERROR_BODY_MAX ? 0 : n;
    }
    if (!check_range(r)) return 0;
    if (r->part) {
        r->refused = partial_add(r->part, r->index, data, n, &r->err);
    } else if (n > r->limit - r->text->n) {
        r->refused =
            app_fail(&r->err, EXIT_NETWORK, "more than the %zu bytes that are sensible", r->limit);
    } else {
        r->refused = app_buffer_add(r->text, data, n, &r->err);
    }
    return r->refused == EXIT_OK ? n : 0;
}

/* ---- one request ---------------------------------------------------------------------------- */

static void request_stop(request *r) {
    if (r->easy) {
        curl_multi_remove_handle(r->f->multi, r->easy);
        curl_easy_cleanup(r->easy);
    }
    curl_slist_free_all(r->headers);
    r->easy = NULL;
    r->headers = NULL;
}

static void request_free(request *r) {
    request_stop(r);
    free(r->url);
    r->url = NULL;
}

static void set_protocols(CURL *easy) {
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

static bool add_token(request *r) {
    const fetch_options *o = &r->f->options;
    if (!o->token || !same_server(r->url, o->token_for)) return true;
    char line[1200];
    if (snprintf(line, sizeof line, "Authorization: Bearer %s", o->token) >= (int)sizeof line)
        return false;
    r->headers = curl_slist_append(NULL, line);
    return r->headers != NULL;
}

/* Send it; r->url is where to. */
static int request_start(request *r, app_error *err) {
    CURL *easy = r->easy = curl_easy_init();
    char range[64], agent[64];
    snprintf(agent, sizeof agent, "moshi.c/%s", moshi_version());
    if (!easy || !add_token(r)) return app_no_memory(err);
    r->refused = EXIT_OK;
    r->ignored_range = false;
    r->error_bytes = 0;
    r->curl_text[0] = 0;
    clear_reply(&r->reply);
    curl_easy_setopt(easy, CURLOPT_URL, r->url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, (char *)r);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, r->curl_text);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, agent);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, r->headers);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, (void *)r);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, (void *)r);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, r->f->options.stall_s);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L * 1024);
    /* HTTP/2 would put all lanes on one connection. */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    set_protocols(easy);
    if (r->head) curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    if (r->to) {
        snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)r->from,
                 (unsigned long long)r->to);
        curl_easy_setopt(easy, CURLOPT_RANGE, range);
    }
    return curl_multi_add_handle(r->f->multi, easy) == CURLM_OK ? EXIT_OK : app_no_memory(err);
}

static bool may_pass(CURLcode code) {
    switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_OUT_OF_MEMORY:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_FILESIZE_EXCEEDED:
        return false;
    default:
        return true;
    }
}

/* A port that nobody listens at will not be listened at in half a minute; a server that has
 * answered before may be starting anew. */
static bool nobody_there(const request *r, CURLcode code) {
    long why = 0;
    if (code != CURLE_COULDNT_CONNECT || r->f->reached) return false;
    return curl_easy_getinfo(r->easy, CURLINFO_OS_ERRNO, &why) == CURLE_OK && why == ECONNREFUSED;
}

static verdict redirect(request *r) {
    char *to = follow(r->url, r->reply.location);
    if (!to) {
        r->refused = app_fail(&r->err, EXIT_NETWORK,
                              "redirected to '%.200s'; only http and https are followed, and never "
                              "from https to http",
                              r->reply.location);
        return REFUSED;
    }
    if (r->head && r->reply.linked_etag[0] && !same_server(r->url, to)) {
        free(to);
        return ANSWERED;
    }
    free(r->url);
    r->url = to;
    if (++r->hops > HOPS_MAX) {
        app_fail(&r->err, EXIT_NETWORK, "redirected more than %d times", HOPS_MAX);
        return REFUSED;
    }
    return request_start(r, &r->err) == EXIT_OK ? AGAIN : REFUSED;
}

static verdict judge_status(request *r) {
    long status = r->reply.status;
    if (status / 100 == 2) return DONE;
    if (status / 100 == 3 && r->reply.location[0]) return redirect(r);
    if (status != 408 && status != 429 && status / 100 != 5) return ANSWERED;
    app_fail(&r->err, EXIT_NETWORK, "the server answers %ld%s%s", status,
             status == 429 ? ", too many requests" : "",
             r->reply.retry_after_s > 0 ? " and asks to wait" : "");
    if (r->reply.retry_after_s <= RETRY_AFTER_MAX_S) return FAILED;
    app_fail(&r->err, EXIT_NETWORK,
             "the server answers %ld and asks to wait %.0f s; try again after that", status,
             r->reply.retry_after_s);
    return REFUSED;
}

/* libcurl is through with it. */
static verdict request_finish(request *r, CURLcode code) {
    curl_off_t wait = 0;
    curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &wait);
    r->reply.retry_after_s = (double)wait;
    bool nobody = nobody_there(r, code);
    r->f->reached = r->f->reached || r->reply.status != 0;
    request_stop(r);
    if (r->ignored_range) return IGNORED_RANGE;
    if (r->refused != EXIT_OK) return REFUSED;
    /* An error's body that was cut off, or too long to wait for, is no matter. */
    if (code == CURLE_OK || (r->reply.status >= 300 && r->reply.status != 0)) {
        verdict v = judge_status(r);
        if (v != DONE || code == CURLE_OK) return v;
    }
    app_fail(&r->err, EXIT_NETWORK, "%s",
             r->curl_text[0] ? r->curl_text : curl_easy_strerror(code));
    return may_pass(code) && !nobody ? FAILED : REFUSED;
}

/* Let all requests go on for a moment. *ended is one that ended, or NULL. */
static int pump(fetch *f, double seconds, request **ended, CURLcode *code, app_error *err) {
    int running, left;
    *ended = NULL;
    int rc = app_check_interrupted(err);
    if (rc != EXIT_OK) return rc;
    if (curl_multi_perform(f->multi, &running) != CURLM_OK)
        return app_fail(err, EXIT_NETWORK, "libcurl does not go on");
    for (;;) {
        CURLMsg *message = curl_multi_info_read(f->multi, &left);
        if (message && message->msg == CURLMSG_DONE) {
            char *private = NULL;
            *code = message->data.result;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
            *ended = (request *)(void *)private;
            return EXIT_OK;
        }
        if (!message) break;
    }
    int ms = seconds * 1000 < POLL_MS ? (int)(seconds * 1000) + 1 : POLL_MS;
    curl_multi_poll(f->multi, NULL, 0, ms, NULL);
    return EXIT_OK;
}

static double pause_s(const fetch *f, int failures, double retry_after_s) {
    double wait = f->options.backoff_s;
    for (int i = 1; i < failures; i++) wait *= 2;
    return wait > retry_after_s ? wait : retry_after_s;
}

static void say_pause(const fetch *f, const char *what, double wait) {
    char text[2304];
    if (wait < 1)
        snprintf(text, sizeof text, "%s; trying again", what);
    else
        snprintf(text, sizeof text, "%s; trying again in %.0f s", what, wait);
    f->options.note(f->options.user, text);
}

static int set_url(request *r, const char *url, app_error *err) {
    free(r->url);
    r->url = strdup(url);
    r->hops = 0;
    return r->url ? EXIT_OK : app_no_memory(err);
}

/* Wait without requests; the user may interrupt. */
static int sleep_until(fetch *f, double until, app_error *err) {
    request *ended;
    CURLcode code;
    int rc = EXIT_OK;
    for (double left; rc == EXIT_OK && (left = until - app_now_s()) > 0;)
        rc = pump(f, left, &ended, &code, err);
    return rc;
}

/* One attempt. */
static int run_once(request *r, const char *url, verdict *v, app_error *err) {
    memset(&r->reply, 0, sizeof r->reply);
    r->reply.linked_length = -1;
    int rc = set_url(r, url, err);
    if (rc == EXIT_OK) rc = request_start(r, err);
    *v = AGAIN;
    while (rc == EXIT_OK && *v == AGAIN) {
        request *ended;
        CURLcode code;
        rc = pump(r->f, POLL_MS, &ended, &code, err);
        if (rc == EXIT_OK && ended) *v = request_finish(ended, code);
    }
    return rc;
}

/* A request that is alone. */
static int run_alone(request *r, const char *url, fetch_reply *reply, app_error *err) {
    int rc = EXIT_OK, failures = 0;
    verdict v = FAILED;
    while (rc == EXIT_OK && v == FAILED) {
        if (r->text) r->text->n = 0;
        rc = run_once(r, url, &v, err);
        if (rc != EXIT_OK || v != FAILED) break;
        if (++failures == ATTEMPTS) break;
        double wait = pause_s(r->f, failures, r->reply.retry_after_s);
        say_pause(r->f, r->err.text, wait);
        rc = sleep_until(r->f, app_now_s() + wait, err);
    }
    if (rc == EXIT_OK && (v == FAILED || v == REFUSED))
        rc = app_fail(err, r->err.exit_code, "%s: %s", url, r->err.text);
    *reply = r->reply;
    request_free(r);
    return rc;
}

int fetch_head(fetch *f, const char *url, fetch_reply *reply, app_error *err) {
    request r = {.f = f, .head = true};
    return run_alone(&r, url, reply, err);
}

int fetch_text(fetch *f, const char *url, size_t limit, app_buffer *text, fetch_reply *reply,
               app_error *err) {
    request r = {.f = f, .text = text, .limit = limit};
    return run_alone(&r, url, reply, err);
}

/* ---- large files ---------------------------------------------------------------------------- */

typedef struct transfer {
    fetch *f;
    const char *url;
    partial *p;
    request lanes[LANES_MAX];
    int n_lanes; /* in use; fewer after the server complained */
    int round;   /* failures of lanes started in the same round count once */
    int rounds[LANES_MAX];
    int failures;  /* rounds that failed without a byte more */
    int restarts;  /* times that the server ignored a range */
    uint64_t best; /* most bytes there ever were at a failure */
    double not_before;
} transfer;

static bool is_held(const transfer *t, uint64_t index) {
    for (int i = 0; i < LANES_MAX; i++)
        if (t->lanes[i].easy && t->lanes[i].index == index) return true;
    return false;
}

/* The first chunk that is not complete and that no lane works on; n when there is none. */
static uint64_t next_chunk(const transfer *t) {
    const partial *p = t->p;
    uint64_t i = 0;
    while (i < p->n && (p->done[i] == partial_length(p, i) || is_held(t, i))) i++;
    return i;
}

static int start_lane(transfer *t, int lane, uint64_t index, app_error *err) {
    request *r = &t->lanes[lane];
    const partial *p = t->p;
    r->f = t->f;
    r->part = t->p;
    r->index = index;
    r->from = partial_begin(p, index) + p->done[index];
    r->to = partial_begin(p, index) + partial_length(p, index) - 1;
    /* The whole file needs no range, which not every server knows. */
    if (r->from == 0 && r->to == p->size - 1) r->to = 0;
    t->rounds[lane] = t->round;
    int rc = set_url(r, t->url, err);
    return rc == EXIT_OK ? request_start(r, err) : rc;
}

static int start_lanes(transfer *t, app_error *err) {
    int rc = EXIT_OK;
    if (app_now_s() < t->not_before) return rc;
    for (int i = 0; i < t->n_lanes && rc == EXIT_OK; i++) {
        uint64_t index = t->lanes[i].easy ? t->p->n : next_chunk(t);
        if (index < t->p->n) rc = start_lane(t, i, index, err);
    }
    return rc;
}

static int give_up(const transfer *t, const app_error *why, app_error *err) {
    return app_fail(err, why->exit_code, "%s: %s", t->url, why->text);
}

static int lane_failed(transfer *t, const request *r, app_error *err) {
    if (t->rounds[r - t->lanes] != t->round) return EXIT_OK;
    uint64_t have = partial_have(t->p);
    t->failures = have > t->best ? 1 : t->failures + 1;
    if (have > t->best) t->best = have;
    if (t->failures == ATTEMPTS) return give_up(t, &r->err, err);
    if (r->reply.status == 429 || r->reply.status == 503) t->n_lanes = (t->n_lanes + 1) / 2;
    double wait = pause_s(t->f, t->failures, r->reply.retry_after_s);
    t->round++;
    t->not_before = app_now_s() + wait;
    say_pause(t->f, r->err.text, wait);
    return EXIT_OK;
}

static void stop_lanes(transfer *t) {
    for (int i = 0; i < LANES_MAX; i++) request_free(&t->lanes[i]);
}

/* The server only sends whole files: begin again with one connection. */
static int without_ranges(transfer *t, app_error *err) {
    stop_lanes(t);
    if (++t->restarts == ATTEMPTS)
        return app_fail(err, EXIT_NETWORK,
                        "%s: the server cannot send a part of a file, and the connection does not "
                        "last for the whole",
                        t->url);
    t->n_lanes = 1;
    t->f->options.note(t->f->options.user,
                       "the server cannot send parts of a file: from the beginning, in one piece");
    return partial_reset(t->p, t->p->size, err);
}

static int lane_ended(transfer *t, request *r, CURLcode code, app_error *err) {
    switch (request_finish(r, code)) {
    case DONE:
        if (t->p->done[r->index] == partial_length(t->p, r->index)) return EXIT_OK;
        app_fail(&r->err, EXIT_NETWORK, "the answer ended early");
        return lane_failed(t, r, err);
    case AGAIN:
        return EXIT_OK;
    case FAILED:
        return lane_failed(t, r, err);
    case IGNORED_RANGE:
        return without_ranges(t, err);
    case ANSWERED:
        app_fail(&r->err, EXIT_NETWORK, "the server answers %ld %.200s", r->reply.status,
                 r->reply.error_message);
        return give_up(t, &r->err, err);
    default:
        return give_up(t, &r->err, err);
    }
}

int fetch_parts(fetch *f, const char *url, partial *p, app_error *err) {
    transfer *t = calloc(1, sizeof *t);
    if (!t) return app_no_memory(err);
    t->f = f;
    t->url = url;
    t->p = p;
    t->n_lanes = f->options.connections;
    t->best = partial_have(p);
    int rc = EXIT_OK;
    while (rc == EXIT_OK && partial_have(p) < p->size) {
        request *ended;
        CURLcode code;
        rc = start_lanes(t, err);
        if (rc == EXIT_OK) rc = pump(f, POLL_MS, &ended, &code, err);
        if (rc == EXIT_OK && ended) rc = lane_ended(t, ended, code, err);
        f->options.progress(f->options.user, partial_have(p));
    }
    stop_lanes(t);
    free(t);
    return rc;
}

#endif
