/*
 * line: what a write to a cache line costs that other threads write to as well, for
 * docs/scaling.md.
 *
 * How: each thread adds to a counter, or takes and gives back a mutex. Nothing is allocated; an
 * operation is one addition, or one such pair.
 *
 *     -m MODE      1: a counter each; 2: one counter; 3: a mutex each; 4: one mutex. 2 if not given
 */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>

#define LINE    128 /* two, as processors fetch pairs */
#define THREADS 64
#define BATCH   1000

static struct {
    _Alignas(LINE) _Atomic(long) count;
    _Alignas(LINE) pthread_mutex_t mutex;
} line[THREADS];

static long mode = 2;

static void add(struct bench_thread *t)
{
    _Atomic(long) *count = &line[mode == 1 ? t->number % THREADS : 0].count;
    for (; !bench_over(); t->operations += BATCH)
        for (int i = 0; i < BATCH; i++)
            atomic_fetch_add(count, 1);
}

static void lock(struct bench_thread *t)
{
    unsigned which = mode == 3 ? t->number % THREADS : 0;
    for (; !bench_over(); t->operations += BATCH)
        for (int i = 0; i < BATCH; i++) {
            pthread_mutex_lock(&line[which].mutex);
            atomic_store_explicit(&line[which].count, i, memory_order_relaxed);
            pthread_mutex_unlock(&line[which].mutex);
        }
}

int main(int argc, char **argv)
{
    const struct bench_option options[] = {{'m', &mode, "MODE"}, {0, NULL, ""}};
    bench_begin(argc, argv, "line", options);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_mutex_init(&line[i].mutex, NULL);
    bench_run(mode <= 2 ? add : lock);
    return 0;
}
