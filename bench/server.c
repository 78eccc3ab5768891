/*
 * server: requests at a bounded rate. Each takes some twenty small blocks, two medium and now and
 * then a large one; most go when it is answered, some are left for another thread to free (a reply
 * on its way, a cache entry). The latency of each malloc and free is taken by the clock.
 *
 *     -q RATE      requests a second, over all threads; 20,000 if not given
 *
 * Pairs printed: malloc_p50 .. malloc_max and free_p50 .. free_max, in nanoseconds, the clock
 * included.
 */
#include "bench.h"
#include "histogram.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define SMALL  20
#define SHARED 4096

static long rate = 20000;
static _Atomic(char *) shared[SHARED];
static struct histogram all_mallocs, all_frees;
static pthread_mutex_t merging = PTHREAD_MUTEX_INITIALIZER;

struct latencies {
    struct histogram mallocs, frees;
};

static uint64_t nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static char *timed_malloc(struct bench_thread *t, size_t n)
{
    struct latencies *l = t->own;
    uint64_t before = nanoseconds();
    char *p = malloc(n);
    histogram_add(&l->mallocs, nanoseconds() - before);
    if (p == NULL)
        bench_fail("out of memory");
    p[0] = p[n - 1] = 1;
    t->operations++;
    return p;
}

static void timed_free(struct bench_thread *t, char *p)
{
    struct latencies *l = t->own;
    uint64_t before = nanoseconds();
    free(p);
    histogram_add(&l->frees, nanoseconds() - before);
}

static void leave_to_another(struct bench_thread *t, char *p)
{
    char *old = atomic_exchange(&shared[bench_random(t) % SHARED], p);
    if (old != NULL)
        timed_free(t, old);
}

static void answer(struct bench_thread *t)
{
    char *small[SMALL], *medium[2], *large = NULL;
    for (int i = 0; i < SMALL; i++)
        small[i] = timed_malloc(t, bench_between(t, 16, 600));
    for (int i = 0; i < 2; i++)
        medium[i] = timed_malloc(t, bench_between(t, 2000, 16000));
    if (bench_random(t) % 20 == 0)
        large = timed_malloc(t, bench_between(t, 40000, 400000));
    for (int i = 0; i < SMALL; i++)
        if (i % 5 == 0)
            leave_to_another(t, small[i]);
        else
            timed_free(t, small[i]);
    timed_free(t, medium[0]);
    if (bench_random(t) % 4 == 0)
        leave_to_another(t, medium[1]);
    else
        timed_free(t, medium[1]);
    if (large != NULL)
        timed_free(t, large);
}

static void work(struct bench_thread *t)
{
    struct latencies *l = t->own = calloc(1, sizeof *l);
    double every = (double)bench_threads / (double)rate;
    double due = bench_now() + every * (double)t->number / (double)bench_threads;
    while (!bench_over()) {
        answer(t);
        due += every;
        double early = due - bench_now();
        if (early > 0)
            bench_sleep(early);
        else if (early < -0.1)
            due = bench_now(); /* too slow for the rate: what was missed is not made up for */
    }
    pthread_mutex_lock(&merging);
    histogram_merge(&all_mallocs, &l->mallocs);
    histogram_merge(&all_frees, &l->frees);
    pthread_mutex_unlock(&merging);
    free(l);
}

static void add_all(const char *const names[5], const struct histogram *h)
{
    const double shares[4] = {0.5, 0.99, 0.999, 0.9999};
    for (int i = 0; i < 4; i++)
        bench_add(names[i], (double)histogram_at(h, shares[i]));
    bench_add(names[4], (double)h->most);
}

static _Atomic(long) finished;

static void work_and_add(struct bench_thread *t)
{
    static const char *const of_malloc[5] = {"malloc_p50", "malloc_p99", "malloc_p99.9",
                                             "malloc_p99.99", "malloc_max"};
    static const char *const of_free[5] = {"free_p50", "free_p99", "free_p99.9", "free_p99.99",
                                           "free_max"};
    work(t);
    if (atomic_fetch_add(&finished, 1) + 1 == bench_threads) {
        add_all(of_malloc, &all_mallocs);
        add_all(of_free, &all_frees);
    }
}

int main(int argc, char **argv)
{
    const struct bench_option options[] = {{'q', &rate, "REQUESTS_A_SECOND"}, {0, NULL, NULL}};
    bench_begin(argc, argv, "server", options);
    bench_run(work_and_add);
    return 0;
}
