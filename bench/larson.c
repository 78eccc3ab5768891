/*
 * larson: a server whose threads come and go (P.-A. Larson, M. Krishnan, Memory allocation for
 * long-running server applications, ISMM 1998).
 *
 * Each thread replaces random blocks of its array by blocks of random size, `rounds` times the
 * number of chunks; then it hands the array to a successor thread and ends. So most blocks are
 * freed by a thread that did not allocate them. The throughput is that of all threads.
 *
 * The defaults are the ancestor's: 8 to 1024 bytes, 10,000 chunks a thread, 1 round, seed 12345.
 * The usual ones are -a 8 -b 1000 -c 5000 -r 100 -e 4141.
 */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static long least = 8, most = 1024, chunks = 10000, rounds = 1;

/* An array of blocks, on its way from thread to thread. */
struct lane {
    struct bench_thread random;
    char **block;
    uint64_t generations;
};

static _Atomic(bool) over;
static _Atomic(long) lanes_running;

static char *make_block(struct lane *lane)
{
    return bench_malloc(&lane->random, bench_between(&lane->random, (size_t)least, (size_t)most));
}

static void replace_blocks(struct lane *lane)
{
    for (long i = 0; i < rounds * chunks; i++) {
        char **at = &lane->block[bench_random(&lane->random) % (uint64_t)chunks];
        free(*at);
        *at = make_block(lane);
        if (i % 1024 == 0 && atomic_load_explicit(&over, memory_order_relaxed))
            return;
    }
}

static void *run(void *argument)
{
    struct lane *lane = argument;
    pthread_t successor;
    replace_blocks(lane);
    lane->generations++;
    if (!atomic_load(&over)) {
        if (pthread_create(&successor, NULL, run, lane) != 0)
            bench_fail("no successor thread");
        pthread_detach(successor);
        return NULL;
    }
    atomic_fetch_sub(&lanes_running, 1);
    return NULL;
}

static void fill(struct lane *lane, long number)
{
    lane->random.random = (uint64_t)(bench_seed + number * 7919);
    lane->block = calloc((size_t)chunks, sizeof(char *));
    for (long k = 0; k < chunks; k++)
        lane->block[k] = make_block(lane);
    lane->random.operations = 0;
}

int main(int argc, char **argv)
{
    const struct bench_option options[] = {{'a', &least, "LEAST"},
                                           {'b', &most, "MOST"},
                                           {'c', &chunks, "CHUNKS"},
                                           {'r', &rounds, "ROUNDS"},
                                           {0, NULL, NULL}};
    bench_begin(argc, argv, "larson", options);
    if (most < least)
        bench_fail("the most bytes are less than the least");
    struct lane *lanes = bench_zeroed((size_t)bench_threads, sizeof *lanes);
    for (long i = 0; i < bench_threads; i++)
        fill(&lanes[i], i);
    atomic_store(&lanes_running, bench_threads);
    bench_start_clock();
    for (long i = 0; i < bench_threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, &lanes[i]) != 0)
            bench_fail("no thread");
        pthread_detach(thread);
    }
    bench_sleep(bench_seconds);
    atomic_store(&over, true);
    while (atomic_load(&lanes_running) > 0)
        bench_sleep(0.001);
    uint64_t operations = 0, generations = 0;
    for (long i = 0; i < bench_threads; i++) {
        operations += lanes[i].random.operations;
        generations += lanes[i].generations;
    }
    bench_add("generations", (double)generations);
    bench_report(operations);
    return 0;
}
