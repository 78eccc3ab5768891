/*
 * churn: threads that live for a few hundred allocations. Each frees what its predecessor passed
 * on, allocates, passes a tenth on to its successor, frees the rest and ends.
 */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define BLOCKS 400
#define PASSED (BLOCKS / 10)

struct lane {
    struct bench_thread random;
    char *passed[PASSED];
    uint64_t generations;
};

static void *run(void *argument)
{
    struct lane *lane = argument;
    char *block[BLOCKS];
    for (int i = 0; i < PASSED; i++)
        free(lane->passed[i]);
    for (int i = 0; i < BLOCKS; i++)
        block[i] = bench_malloc(&lane->random, bench_between(&lane->random, 16, 1024));
    for (int i = 0; i < PASSED; i++)
        lane->passed[i] = block[i * 10];
    for (int i = 0; i < BLOCKS; i++)
        if (i % 10 != 0)
            free(block[i]);
    lane->generations++;
    return NULL;
}

static void work(struct bench_thread *t)
{
    struct lane *lane = bench_zeroed(1, sizeof *lane);
    lane->random = *t;
    while (!bench_over()) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, lane) != 0)
            bench_fail("no thread");
        pthread_join(thread, NULL);
    }
    t->operations = lane->random.operations;
    for (int i = 0; i < PASSED; i++)
        free(lane->passed[i]);
    free(lane);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv, "churn", NULL);
    bench_run(work);
    return 0;
}
