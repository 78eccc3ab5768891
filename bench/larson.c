/*
 * larson: a server whose threads come and go (P.-A. Larson, M. Krishnan, Memory allocation for long-running
 * server applications, ISMM 1998).
 *
 * Each thread replaces random blocks of its array by blocks of random size, `rounds` times the number of
 * chunks; then it hands the array to a successor thread and ends. So most blocks are freed by a thread that
 * did not allocate them. The throughput is that of all threads.
 *
 *     larson [-t THREADS] [-s SECONDS] [-a LEAST] [-b MOST] [-c CHUNKS] [-r ROUNDS] [-e SEED]
 *     defaults    4          2            8          1024      10000       1           12345
 */
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static struct {
    long threads, seconds, least, most, chunks, rounds, seed;
} options = {4, 2, 8, 1024, 10000, 1, 12345};

/* An array of blocks, on its way from thread to thread. */
struct lane {
    char **block;
    uint64_t random;
    uint64_t operations;
    uint64_t generations;
    struct lane *self;
};

static _Atomic(bool) over;
static _Atomic(long) lanes_running;

static uint64_t next_random(struct lane *lane)
{
    uint64_t z = lane->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 27);
}

static char *make_block(struct lane *lane)
{
    size_t span = (size_t)(options.most - options.least + 1);
    size_t n = (size_t)options.least + (size_t)(next_random(lane) >> 20) % span;
    char *p = malloc(n);
    if (p == NULL) {
        fprintf(stderr, "larson: out of memory at %zu bytes\n", n);
        exit(1);
    }
    p[0] = (char)n;
    p[n - 1] = (char)n;
    return p;
}

static void replace_blocks(struct lane *lane)
{
    for (long i = 0; i < options.rounds * options.chunks; i++) {
        char **at = &lane->block[(next_random(lane) >> 20) % (uint64_t)options.chunks];
        free(*at);
        *at = make_block(lane);
        if (i % 1024 == 0 && atomic_load_explicit(&over, memory_order_relaxed)) {
            lane->operations += (uint64_t)i;
            return;
        }
    }
    lane->operations += (uint64_t)(options.rounds * options.chunks);
}

static void *run(void *argument)
{
    struct lane *lane = argument;
    pthread_t successor;
    replace_blocks(lane);
    lane->generations++;
    if (!atomic_load(&over)) {
        if (pthread_create(&successor, NULL, run, lane) == 0) {
            pthread_detach(successor);
            return NULL;
        }
        fprintf(stderr, "larson: no successor thread\n");
    }
    atomic_fetch_sub(&lanes_running, 1);
    return NULL;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void read_options(int argc, char **argv)
{
    long *const where[] = {&options.threads, &options.seconds, &options.least, &options.most,
                           &options.chunks,  &options.rounds,  &options.seed};
    const char *letters = "tsabcre";
    int c;
    while ((c = getopt(argc, argv, "t:s:a:b:c:r:e:")) != -1) {
        const char *letter = strchr(letters, c);
        if (letter == NULL || (*where[letter - letters] = atol(optarg)) <= 0) {
            fprintf(stderr, "usage: larson [-t THREADS] [-s SECONDS] [-a LEAST] [-b MOST] "
                            "[-c CHUNKS] [-r ROUNDS] [-e SEED], each above 0\n");
            exit(2);
        }
    }
    if (options.most < options.least)
        options.most = options.least;
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    struct lane *lanes = calloc((size_t)options.threads, sizeof *lanes);
    for (long i = 0; i < options.threads; i++) {
        lanes[i].random = (uint64_t)(options.seed + i * 7919);
        lanes[i].block = calloc((size_t)options.chunks, sizeof(char *));
        for (long k = 0; k < options.chunks; k++)
            lanes[i].block[k] = make_block(&lanes[i]);
    }
    atomic_store(&lanes_running, options.threads);
    double start = now();
    for (long i = 0; i < options.threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, &lanes[i]) != 0)
            return 1;
        pthread_detach(thread);
    }
    pause_ms(options.seconds * 1000);
    atomic_store(&over, true);
    while (atomic_load(&lanes_running) > 0)
        pause_ms(1);
    double seconds = now() - start;
    uint64_t operations = 0, generations = 0;
    for (long i = 0; i < options.threads; i++) {
        operations += lanes[i].operations;
        generations += lanes[i].generations;
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("threads %ld ops_per_second %.0f generations %llu max_rss_kib %ld\n", options.threads,
           (double)operations / seconds, (unsigned long long)generations, usage.ru_maxrss);
    return 0;
}
