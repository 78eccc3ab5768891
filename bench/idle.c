/*
 * idle: allocates much, frees it, and stays idle: how much memory stays resident, and for how long.
 *
 *     -b MIB       what is allocated over all threads; 256 if not given
 *
 * -s is how long it runs in all. Lines "rss MILLISECONDS KIB" over time, from the start on.
 */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static long mib = 256;
static double start;
static _Atomic(long) freed;

static void sample(void)
{
    printf("rss %.0f %ld\n", (bench_now() - start) * 1000, bench_rss_kib());
}

static void work(struct bench_thread *t)
{
    size_t left = ((size_t)mib << 20) / (size_t)bench_threads;
    size_t count = left / 200;
    char **block = calloc(count + 1, sizeof *block);
    size_t used = 0;
    while (left > 2000 && used < count) {
        size_t n = bench_between(t, 16, bench_random(t) % 32 == 0 ? 2000 : 400);
        block[used++] = bench_malloc(t, n);
        left -= n;
    }
    for (size_t i = 0; i < used;
         i++) /* half in order, half in another thread's way: from the end */
        free(block[i % 2 == 0 ? i / 2 : used - 1 - i / 2]);
    free(block);
    atomic_fetch_add(&freed, 1);
    while (!bench_over() || atomic_load(&freed) < bench_threads)
        bench_sleep(0.05);
}

static void *watch(void *argument)
{
    for (int i = 0; i < 20 * bench_seconds; i++) {
        sample();
        bench_sleep(0.05);
    }
    return argument;
}

int main(int argc, char **argv)
{
    const struct bench_option options[] = {{'b', &mib, "MIB"}, {0, NULL, NULL}};
    pthread_t watcher;
    bench_begin(argc, argv, "idle", options);
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    start = bench_now();
    if (pthread_create(&watcher, NULL, watch, NULL) != 0)
        bench_fail("no thread");
    bench_run(work);
    pthread_join(watcher, NULL);
    sample();
    return 0;
}
