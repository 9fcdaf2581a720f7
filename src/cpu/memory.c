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

/* From the system, not from malloc(): what that has in store lies in small pages. */
typedef struct pages {
    uint8_t *data;
    void *map; /* NULL: it is from malloc() */
    size_t mapped;
} pages;

/* Memory that several buffers share. */
typedef struct block {
    pages pages;
    size_t bytes, used;
    int users;
} block;

typedef struct piece {
    mo_buf buf;
    pages own;
    block *block; /* NULL: it has its memory for itself */
} piece;

struct mo_memory {
    bool large_alone;
    pthread_mutex_t lock;
    block *open; /* the one that still has room */
    size_t next; /* bytes of the next one */
};

mo_memory *mo_memory_open(bool large_alone) {
    mo_memory *m = mo_calloc(1, sizeof *m);
    if (!m) return NULL;
    m->large_alone = large_alone;
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
static pages pages_new(size_t bytes, bool large) {
    pages p = {0};
    if (!large || bytes < HUGE_PAGE || SHARED_MOST == 0) {
        p.data = mo_aligned_calloc(bytes);
        return p;
    }
    if (!mo_add(bytes, HUGE_PAGE, &p.mapped)) return p;
    p.map = mmap(NULL, p.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p.map == MAP_FAILED) return (pages){0};
    p.data = p.map;
    p.data += (HUGE_PAGE - (uintptr_t)p.map % HUGE_PAGE) % HUGE_PAGE;
#ifdef MADV_HUGEPAGE
    madvise(p.data, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
    return p;
}

static void pages_free(pages *p) {
    if (p->map)
        munmap(p->map, p->mapped);
    else
        mo_aligned_free(p->data);
}

static block *block_new(mo_memory *m, size_t least) {
    block *b = mo_calloc(1, sizeof *b);
    if (!b) return NULL;
    while (m->next < least) m->next *= 2;
    b->bytes = m->next;
    b->pages = pages_new(b->bytes, true);
    if (!b->pages.data) {
        free(b);
        return NULL;
    }
    if (m->next < LARGEST) m->next *= 2;
    return b;
}

static void block_leave(mo_memory *m, block *b) {
    if (--b->users > 0) return;
    if (m->open == b) m->open = NULL;
    pages_free(&b->pages);
    free(b);
}

static bool take_shared(mo_memory *m, piece *p, size_t bytes) {
    const size_t room = (bytes + LINE - 1) / LINE * LINE;
    block *b = m->open;
    if (!b || b->bytes - b->used < room) b = block_new(m, room);
    if (!b) return false;
    m->open = b;
    p->block = b;
    p->buf.data = b->pages.data + b->used;
    b->used += room;
    b->users++;
    return true;
}

mo_buf *mo_memory_get(mo_memory *m, size_t bytes) {
    piece *p = mo_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->buf.bytes = bytes;
    if (bytes > 0 && bytes <= SHARED_MOST) {
        pthread_mutex_lock(&m->lock);
        take_shared(m, p, bytes);
        pthread_mutex_unlock(&m->lock);
    } else {
        p->own = pages_new(bytes, m->large_alone);
        p->buf.data = p->own.data;
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
        pages_free(&p->own);
    }
    free(p);
}
