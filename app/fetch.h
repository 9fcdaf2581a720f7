/* fetch.h - HTTP for `moshi pull`: answers, texts, and large files in parallel ranges.
 *
 * What may pass (cut connections, time-outs, 408, 429, 5xx) is tried again with growing pauses,
 * Retry-After respected. Redirects are followed to http and https only, never from https to http,
 * and the token goes to the server it is for and to no other. */
#ifndef APP_FETCH_H
#define APP_FETCH_H

#include "partial.h"

typedef struct fetch fetch;

typedef struct fetch_options {
    const char *token;     /* NULL: none */
    const char *token_for; /* a URL of the server that may see the token */
    int connections;       /* at most this many at once */
    double backoff_s;      /* the first pause; each following one is twice as long */
    long stall_s;          /* a connection without a byte for so long is cut */
    void (*note)(void *user, const char *text); /* one line for people */
    void (*progress)(void *user, uint64_t have);
    void *user;
} fetch_options;

/* What the server said, whatever the status. Texts are "" and lengths -1 when absent. */
typedef struct fetch_reply {
    long status;
    char etag[160], linked_etag[160]; /* without quotes */
    char commit[64], error_code[64], error_message[256];
    char location[2048];
    int64_t length, linked_length;
    int64_t range_from, range_total; /* Content-Range */
    double retry_after_s;
} fetch_reply;

/* EXIT_NETWORK, with words about how to get it, when the program was built without libcurl. */
int fetch_open(fetch **out, const fetch_options *options, app_error *err);
void fetch_close(fetch *f);

/* The size, hash and commit of a file. A redirect to another server ends it when the hash is known
 * by then: that is where the contents are, not the facts. */
int fetch_head(fetch *f, const char *url, fetch_reply *reply, app_error *err);
/* A text of at most `limit` bytes. */
int fetch_text(fetch *f, const char *url, size_t limit, app_buffer *text, fetch_reply *reply,
               app_error *err);
/* Everything that `p` lacks. */
int fetch_parts(fetch *f, const char *url, partial *p, app_error *err);

#endif
