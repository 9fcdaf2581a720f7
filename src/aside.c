#include "aside.h"

#include "util.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct mo_aside {
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    mo_aside_fn fn; /* NULL: nothing to do */
    void *ctx;
    int rc;
    bool closing;
};

static void *work(void *argument) {
    mo_aside *a = argument;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        while (!a->fn && !a->closing) pthread_cond_wait(&a->changed, &a->lock);
        if (!a->fn) break;
        pthread_mutex_unlock(&a->lock);
        const int rc = a->fn(a->ctx);
        pthread_mutex_lock(&a->lock);
        a->rc = rc;
        a->fn = NULL;
        pthread_cond_broadcast(&a->changed);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

mo_aside *mo_aside_open(void) {
    mo_aside *a = mo_calloc(1, sizeof *a);
    if (!a) return NULL;
    bool locks = pthread_mutex_init(&a->lock, NULL) == 0;
    bool waits = locks && pthread_cond_init(&a->changed, NULL) == 0;
    if (waits && pthread_create(&a->thread, NULL, work, a) == 0) return a;
    if (waits) pthread_cond_destroy(&a->changed);
    if (locks) pthread_mutex_destroy(&a->lock);
    free(a);
    return NULL;
}

void mo_aside_close(mo_aside *a) {
    if (!a) return;
    pthread_mutex_lock(&a->lock);
    a->closing = true;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

void mo_aside_begin(mo_aside *a, mo_aside_fn fn, void *ctx) {
    pthread_mutex_lock(&a->lock);
    a->fn = fn;
    a->ctx = ctx;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

int mo_aside_end(mo_aside *a) {
    pthread_mutex_lock(&a->lock);
    while (a->fn) pthread_cond_wait(&a->changed, &a->lock);
    const int rc = a->rc;
    a->rc = 0;
    pthread_mutex_unlock(&a->lock);
    return rc;
}
