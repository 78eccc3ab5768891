/*
 * prodcons: producers allocate, consumers free and never allocate; they hand over 64 blocks at a
 * time.
 *
 *     -m 1    each producer has a consumer of its own (threads / 2 pairs)
 *     -m 2    one producer, all others consume
 *     -m 3    one consumer, all others produce
 *
 * With one thread it produces and consumes in turn.
 */
#include "bench.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define BATCH 64
#define RING  64

static long mode = 1;

struct batch {
    char *block[BATCH];
};

/* One producer and one consumer. */
struct ring {
    _Alignas(64) _Atomic(unsigned) head;
    _Alignas(64) _Atomic(unsigned) tail;
    struct batch batch[RING];
};

static struct ring *rings;
static _Atomic(long) producers_left;

static bool produce(struct bench_thread *t, struct ring *r)
{
    unsigned head = atomic_load_explicit(&r->head, memory_order_relaxed);
    if (head - atomic_load_explicit(&r->tail, memory_order_acquire) == RING)
        return false;
    for (int i = 0; i < BATCH; i++)
        r->batch[head % RING].block[i] = bench_malloc(t, bench_between(t, 16, 512));
    atomic_store_explicit(&r->head, head + 1, memory_order_release);
    return true;
}

static bool consume(struct ring *r)
{
    unsigned tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (atomic_load_explicit(&r->head, memory_order_acquire) == tail)
        return false;
    for (int i = 0; i < BATCH; i++)
        free(r->batch[tail % RING].block[i]);
    atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
    return true;
}

static void produce_into(struct bench_thread *t, long first, long count)
{
    for (unsigned i = 0; !bench_over(); i++)
        if (!produce(t, &rings[first + i % count]) && i % count == 0)
            sched_yield();
    atomic_fetch_sub(&producers_left, 1);
}

static void consume_from(long first, long count)
{
    for (bool any = true; any || atomic_load(&producers_left) > 0;) {
        any = false;
        for (long i = 0; i < count; i++)
            any |= consume(&rings[first + i]);
        if (!any)
            sched_yield();
    }
}

static void alone(struct bench_thread *t)
{
    while (!bench_over()) {
        while (produce(t, rings))
            continue;
        while (consume(rings))
            continue;
    }
}

static void work(struct bench_thread *t)
{
    long n = t->number;
    long others = bench_threads - 1;
    if (bench_threads == 1)
        alone(t);
    else if (mode == 1 && n % 2 == 0)
        produce_into(t, n / 2, 1);
    else if (mode == 1)
        consume_from(n / 2, 1);
    else if (mode == 2 && n == 0)
        produce_into(t, 0, others);
    else if (mode == 2)
        consume_from(n - 1, 1);
    else if (n == 0)
        consume_from(0, others);
    else
        produce_into(t, n - 1, 1);
}

int main(int argc, char **argv)
{
    const struct bench_option options[] = {{'m', &mode, "1 (1:1), 2 (1:N) or 3 (N:1)"},
                                           {0, NULL, NULL}};
    bench_begin(argc, argv, "prodcons", options);
    if (mode > 3 || (mode == 1 && bench_threads > 1 && bench_threads % 2 != 0))
        bench_fail("-m is 1, 2 or 3, and 1:1 wants an even number of threads");
    rings = aligned_alloc(64, (size_t)bench_threads * sizeof *rings);
    for (long i = 0; i < bench_threads; i++)
        rings[i].head = rings[i].tail = 0;
    producers_left = mode == 1 ? bench_threads / 2 : mode == 2 ? 1 : bench_threads - 1;
    bench_run(work);
    return 0;
}
