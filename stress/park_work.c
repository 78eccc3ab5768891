/*
 * park_work.c: the workload that park stops threads of, under a preloaded allocator.
 *
 * Why: slow paths must be frequent, so that a stop meets them. How: four workers go round and
 * round; each round has small blocks in bursts that overflow the thread's caches and fill slabs,
 * blocks up to 4 MiB and above, resizing, frees of what others made (they meet in two tables, by
 * atomic exchange), statistics, trimming, requests that can't be met, and now and then a new thread
 * that does a bit of everything and exits, with a destructor that allocates once more.
 *
 * No thread waits for another here but inside the allocator: newcomers are detached, stacks are so
 * small that glibc's cache of them never runs over (it frees under a lock of its own then), streams
 * are opened before the first stop.
 */
#include "park_shared.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SMALL_TABLE 512
#define LARGE_TABLE 16
#define KEPT        128
#define BURST_MOST  640
#define STACK_BYTES (256u << 10)

struct made {
    uintptr_t maker;
};

struct worker {
    struct slot *slot; /* NULL: a newcomer */
    uintptr_t id;
    uint64_t rng;
    unsigned rounds;
    FILE *sink;
    void *kept[KEPT];
};

static struct shared *shared;
static _Atomic(void *) small_table[SMALL_TABLE], large_table[LARGE_TABLE];
static _Atomic(uintptr_t) next_id;
static FILE *sinks[PARK_SLOTS];
static pthread_key_t last_key;
static pthread_attr_t attributes;
static void *(*cxx_new)(size_t);
static void (*cxx_delete)(void *);

static uint64_t below(struct worker *w, uint64_t bound)
{
    return park_below(&w->rng, bound);
}

/* ---- progress ---- */

static void note_gap(struct slot *s, uint64_t from, uint64_t now)
{
    uint64_t since = atomic_load_explicit(&shared->stopped_since, memory_order_relaxed);
    _Atomic(uint64_t) *worst = since != 0 ? &s->worst_stopped : &s->worst_ordinary;
    uint64_t gap = now - (since > from ? since : from);
    if (from != 0 && now > since && gap > atomic_load_explicit(worst, memory_order_relaxed))
        atomic_store_explicit(worst, gap, memory_order_relaxed);
}

static void done(struct worker *w, enum kind kind)
{
    struct slot *s = w->slot;
    if (s == NULL)
        return;
    uint64_t now = park_now();
    if (!atomic_exchange_explicit(&s->was_stopped, false, memory_order_relaxed))
        note_gap(s, atomic_load_explicit(&s->last_ns, memory_order_relaxed), now);
    atomic_store_explicit(&s->last_ns, now, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->done[kind], 1, memory_order_relaxed);
}

/* ---- operations ---- */

static void *stamp(struct worker *w, void *p)
{
    if (p != NULL)
        ((struct made *)p)->maker = w->id;
    return p;
}

static void *make_aligned(struct worker *w, size_t n)
{
    void *p = NULL;
    switch (below(w, 4)) {
    case 0:
        return posix_memalign(&p, (size_t)16 << below(w, 8), n) == 0 ? p : NULL;
    case 1:
        return memalign((size_t)16 << below(w, 8), n);
    case 2:
        return valloc(n);
    default:
        return reallocarray(NULL, 1, n + malloc_usable_size(w->kept[0]) % 64);
    }
}

static void *resize(struct worker *w, void *p, size_t n)
{
    void *moved = realloc(p, n);
    return moved != NULL ? stamp(w, moved) : p;
}

static void *make(struct worker *w, size_t n)
{
    switch (below(w, 16)) {
    case 0:
        return stamp(w, calloc(1, n));
    case 1:
        return stamp(w, aligned_alloc((size_t)16 << below(w, 12), n));
    case 2:
        return resize(w, malloc(16 + below(w, n)), n);
    case 3:
        return stamp(w, make_aligned(w, n));
    default:
        return stamp(w, malloc(n));
    }
}

static size_t small_size(struct worker *w)
{
    return 16 + below(w, (size_t)16 << below(w, 11));
}

/* Puts one of mine for one of theirs, until it was another thread's. */
static void exchange(struct worker *w, _Atomic(void *) *table, size_t entries, size_t n)
{
    for (unsigned i = 0; i < 64; i++) {
        struct made *theirs = atomic_exchange(&table[below(w, entries)], make(w, n));
        bool remote = theirs != NULL && theirs->maker != w->id;
        free(theirs);
        if (remote) {
            done(w, KIND_REMOTE);
            return;
        }
    }
}

static void small(struct worker *w)
{
    for (unsigned i = 0; i < 32; i++) {
        void **at = &w->kept[below(w, KEPT)];
        free(*at);
        *at = NULL;
        *at = make(w, small_size(w));
        done(w, KIND_SMALL);
    }
}

/* More than the thread's cache of a class holds, out and back. */
static void burst(struct worker *w)
{
    void *block[BURST_MOST];
    size_t n = (size_t)64 << below(w, 8);
    unsigned count = (unsigned)((96u << 10) / n) + 8;
    if (count > BURST_MOST)
        count = BURST_MOST;
    for (unsigned i = 0; i < count; i++)
        block[i] = stamp(w, malloc(n));
    done(w, KIND_SMALL);
    for (unsigned i = 0; i < count; i++)
        if (below(w, 4) != 0)
            free(block[i]);
        else
            free(atomic_exchange(&small_table[below(w, SMALL_TABLE)], block[i]));
    done(w, KIND_SMALL);
}

static size_t large_size(struct worker *w)
{
    return (33u << 10) + below(w, 300u << 10);
}

static size_t whale_size(struct worker *w)
{
    return (1100u << 10) + below(w, 5u << 20);
}

static void large(struct worker *w)
{
    void *p = resize(w, make(w, large_size(w)), large_size(w));
    if (below(w, 2) == 0)
        free(p);
    else
        free(atomic_exchange(&large_table[below(w, LARGE_TABLE)], p));
    done(w, KIND_LARGE);
}

static void whale(struct worker *w)
{
    void *p = stamp(w, malloc(whale_size(w)));
    if (below(w, 4) == 0)
        p = resize(w, p, whale_size(w) * (1 + below(w, 3)));
    if (below(w, 2) == 0)
        free(p);
    else
        free(atomic_exchange(&large_table[below(w, LARGE_TABLE)], p));
    done(w, KIND_WHALE);
}

/* Many segments at once, not touched, and back; all but some, so that there are ever more of them,
 * and metadata of theirs to be made. */
static void balloon(struct worker *w)
{
    void *block[24];
    const unsigned count = 24;
    for (unsigned i = 0; i < count; i++)
        block[i] = malloc(1000u << 10);
    for (unsigned i = w->rounds < 600 ? 8 : 0; i < count; i++)
        free(block[i]);
    done(w, KIND_LARGE);
}

static void refused(struct worker *w)
{
    volatile size_t too_much = (size_t)1 << 50;
    free(malloc(too_much));
    done(w, KIND_WHALE);
}

static void statistics(struct worker *w)
{
    struct mallinfo2 info = mallinfo2();
    (void)info;
    if (w->rounds % 4 == 0)
        malloc_info(0, w->sink);
    if (w->rounds % 16 == 0)
        malloc_trim(below(w, 2) << 20);
    done(w, KIND_STATISTICS);
}

static void cxx(struct worker *w)
{
    if (cxx_new != NULL && cxx_delete != NULL)
        cxx_delete(cxx_new(small_size(w)));
}

/* ---- newcomers ---- */

static void begin_worker(void);

/* The last destructor: the allocator's has run. */
static void last_words(void *block)
{
    free(block);
    free(malloc(100));
    free(malloc(100u << 10));
    atomic_fetch_sub(&shared->newcomers, 1);
}

static struct worker worker_of(struct slot *slot)
{
    uintptr_t id = atomic_fetch_add(&next_id, 1) + 1;
    return (struct worker){
        .slot = slot, .id = id, .rng = (shared->seed + id) * 0x9e3779b97f4a7c15u | 1};
}

static void *newcomer(void *unused)
{
    struct worker w = worker_of(NULL);
    (void)unused;
    pthread_setspecific(last_key, malloc(small_size(&w)));
    small(&w);
    for (unsigned i = 0; i < KEPT; i++)
        free(w.kept[i]);
    large(&w);
    whale(&w);
    exchange(&w, small_table, SMALL_TABLE, small_size(&w));
    exchange(&w, large_table, LARGE_TABLE, large_size(&w));
    if (below(&w, 4) == 0)
        burst(&w);
    return NULL;
}

static bool count_up(_Atomic(int32_t) *count, int32_t most)
{
    if (atomic_fetch_add(count, 1) < most)
        return true;
    atomic_fetch_sub(count, 1);
    return false;
}

static void begin_newcomer(void)
{
    pthread_t thread;
    if (!count_up(&shared->newcomers, shared->newcomers_most))
        return;
    if (pthread_create(&thread, &attributes, newcomer, NULL) != 0)
        atomic_fetch_sub(&shared->newcomers, 1);
}

/* ---- workers ---- */

static void one_round(struct worker *w)
{
    small(w);
    burst(w);
    large(w);
    whale(w);
    cxx(w);
    exchange(w, small_table, SMALL_TABLE, small_size(w));
    exchange(w, large_table, LARGE_TABLE, large_size(w));
    statistics(w);
    if (w->rounds % 32 == 0)
        refused(w);
    if (w->rounds % 16 == 0)
        balloon(w);
    w->rounds++;
}

static void *work(void *slot)
{
    struct worker w = worker_of(slot);
    w.sink = sinks[w.slot - shared->slot];
    w.rounds = (unsigned)below(&w, 4);
    w.slot->tid = (pid_t)syscall(SYS_gettid);
    for (;;) {
        one_round(&w);
        begin_newcomer();
        begin_worker();
        sched_yield();
    }
    return NULL;
}

/* Where park has taken one away for good. */
static void begin_worker(void)
{
    pthread_t thread;
    if (shared->workers >= shared->workers_wanted ||
        !count_up(&shared->workers, shared->workers_wanted))
        return;
    uint32_t i = atomic_fetch_add(&shared->slots_used, 1);
    if (i < PARK_SLOTS)
        pthread_create(&thread, &attributes, work, &shared->slot[i]);
}

static void prepare(void)
{
    shared = park_shared_memory(sizeof *shared, "park");
    for (unsigned i = 0; i < PARK_SLOTS; i++) {
        sinks[i] = fopen("/dev/null", "w");
        setvbuf(sinks[i], malloc(BUFSIZ), _IOFBF, BUFSIZ);
    }
    cxx_new = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "_Znwm");
    cxx_delete = (void (*)(void *))dlsym(RTLD_DEFAULT, "_ZdlPv");
    pthread_key_create(&last_key, last_words);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
}

int main(void)
{
    prepare();
    while (shared->workers < shared->workers_wanted)
        begin_worker();
    for (;;)
        pause();
}
