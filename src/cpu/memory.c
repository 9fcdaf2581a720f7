#include "memory.h"

#include "util.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Blocks double in size until they are large: a small model shall not take much more than it has.
 */
enum { LINE = 64, HUGE_PAGE = 2 << 20, LARGEST = 64 << 20 };

/* Can a sanitizer tell where one thing ends and the next begins? Not inside a block. */
#if defined(__SANITIZE_ADDRESS__)
enum { SHARED_MOST = 0 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
enum { SHARED_MOST = 0 };
#else
enum { SHARED_MOST = 2 * HUGE_PAGE };
#endif
#else
enum { SHARED_MOST = 2 * HUGE_PAGE };
#endif

/* Memory that several buffers share. */
typedef struct block {
    uint8_t *data;
    size_t bytes, used;
    int users;
} block;

typedef struct piece {
    mo_buf buf;
    block *block; /* NULL: it has its memory for itself */
} piece;

struct mo_memory {
    pthread_mutex_t lock;
    block *open; /* the one that still has room */
    size_t next; /* bytes of the next one */
};

mo_memory *mo_memory_open(void) {
    mo_memory *m = mo_calloc(1, sizeof *m);
    if (!m) return NULL;
    m->next = HUGE_PAGE;
    if (pthread_mutex_init(&m->lock, NULL) == 0) return m;
    free(m);
    return NULL;
}

void mo_memory_close(mo_memory *m) {
    if (!m) return;
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* The last part of a page stays in small ones, or every matrix would take up to 2 MB more than it
 * has. */
static uint8_t *pages_new(size_t bytes) {
    uint8_t *data = mo_aligned_calloc_to(bytes, bytes < HUGE_PAGE ? LINE : HUGE_PAGE);
#ifdef MADV_HUGEPAGE
    if (data && bytes >= HUGE_PAGE) madvise(data, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
    return data;
}

static block *block_new(mo_memory *m, size_t least) {
    block *b = mo_calloc(1, sizeof *b);
    if (!b) return NULL;
    while (m->next < least) m->next *= 2;
    b->bytes = m->next;
    b->data = pages_new(b->bytes);
    if (!b->data) {
        free(b);
        return NULL;
    }
    if (m->next < LARGEST) m->next *= 2;
    return b;
}

static void block_leave(mo_memory *m, block *b) {
    if (--b->users > 0) return;
    if (m->open == b) m->open = NULL;
    mo_aligned_free(b->data);
    free(b);
}

static bool take_shared(mo_memory *m, piece *p, size_t bytes) {
    const size_t room = (bytes + LINE - 1) / LINE * LINE;
    block *b = m->open;
    if (!b || b->bytes - b->used < room) b = block_new(m, room);
    if (!b) return false;
    m->open = b;
    p->block = b;
    p->buf.data = b->data + b->used;
    b->used += room;
    b->users++;
    return true;
}

mo_buf *mo_memory_get(mo_memory *m, size_t bytes) {
    piece *p = mo_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->buf.bytes = bytes;
    if (bytes > 0 && bytes < SHARED_MOST) {
        pthread_mutex_lock(&m->lock);
        take_shared(m, p, bytes);
        pthread_mutex_unlock(&m->lock);
    } else {
        p->buf.data = pages_new(bytes);
    }
    if (p->buf.data) return &p->buf;
    free(p);
    return NULL;
}

void mo_memory_put(mo_memory *m, mo_buf *buf) {
    piece *p = (piece *)buf;
    if (!p) return;
    if (p->block) {
        pthread_mutex_lock(&m->lock);
        block_leave(m, p->block);
        pthread_mutex_unlock(&m->lock);
    } else {
        mo_aligned_free(buf->data);
    }
    free(p);
}
