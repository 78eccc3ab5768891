/*
 * stress.c: see stress.h.
 */
#include "stress.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

_Atomic(uint64_t) stress_blocks;

static const char *scenario;
static uint64_t seed;
static double seconds = 2;
static struct timespec deadline;

void stress_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: seed %llu: ", scenario, (unsigned long long)seed);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

/* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t rng_next(struct rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    return rng_next(rng) % bound;
}

size_t rng_size(struct rng *rng)
{
    static const size_t most[] = {64, 64, 256, 256, 1024, 1024, 4096, 4096, 32768};
    uint64_t dice = rng_below(rng, 1000);
    if (dice == 0)
        return 16 + rng_below(rng, 2u << 20);
    if (dice < 8)
        return 16 + rng_below(rng, 256u << 10);
    return 16 + rng_below(rng, most[dice % 9]);
}

void stress_begin(int argc, char **argv, const char *name)
{
    scenario = name;
    if (argc > 1)
        seconds = atof(argv[1]);
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    seed = argc > 2 ? strtoull(argv[2], NULL, 0)
                    : (uint64_t)deadline.tv_nsec * 1000003u + (uint64_t)deadline.tv_sec;
    double whole = (double)deadline.tv_nsec / 1e9 + seconds;
    deadline.tv_sec += (time_t)whole;
    deadline.tv_nsec = (long)((whole - (double)(time_t)whole) * 1e9);
    printf("%s: %g s, seed %llu\n", name, seconds, (unsigned long long)seed);
    fflush(stdout);
}

int stress_end(void)
{
    printf("%s: ok, %llu blocks\n", scenario, (unsigned long long)stress_blocks);
    return 0;
}

bool stress_over(struct worker *w)
{
    struct timespec now;
    if (rng_below(&w->rng, 64) == 0)
        sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > deadline.tv_sec ||
           (now.tv_sec == deadline.tv_sec && now.tv_nsec >= deadline.tv_nsec);
}

struct start {
    struct worker *worker;
    void (*body)(struct worker *);
};

static void *run_worker(void *argument)
{
    struct start start = *(struct start *)argument;
    free(argument);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(start.worker->number % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    start.body(start.worker);
    return NULL;
}

void stress_start(struct worker *w, unsigned number, void (*body)(struct worker *), void *argument)
{
    *w = (struct worker){.number = number, .argument = argument};
    w->rng.state = seed * 31 + number;
    struct start *start = malloc(sizeof *start);
    *start = (struct start){w, body};
    if (pthread_create(&w->thread, NULL, run_worker, start) != 0)
        stress_fail("no thread");
}

void stress_run(unsigned count, void (*body)(struct worker *), void *argument)
{
    struct worker *workers = calloc(count, sizeof *workers);
    for (unsigned i = 0; i < count; i++)
        stress_start(&workers[i], i, body, argument);
    for (unsigned i = 0; i < count; i++)
        pthread_join(workers[i].thread, NULL);
    free(workers);
}

static uint64_t pattern_of(const struct stamp *stamp)
{
    return ((uint64_t)stamp->owner << 32 | stamp->sequence) * 0x9e3779b97f4a7c15u;
}

void block_stamp(struct worker *w, void *p, size_t n)
{
    struct stamp stamp = {w->number, w->sequence++, n};
    memcpy(p, &stamp, sizeof stamp);
    memset((char *)p + sizeof stamp, (int)(pattern_of(&stamp) >> 56), n - sizeof stamp);
}

void *block_make(struct worker *w, size_t n)
{
    void *p = hak_malloc(n);
    if (p == NULL)
        return NULL;
    if (((uintptr_t)p & 15) != 0)
        stress_fail("hak_malloc(%zu) gave %p, which is not aligned", n, p);
    block_stamp(w, p, n);
    atomic_fetch_add_explicit(&stress_blocks, 1, memory_order_relaxed);
    return p;
}

void block_check(const void *p)
{
    struct stamp stamp;
    memcpy(&stamp, p, sizeof stamp);
    unsigned char expected = (unsigned char)(pattern_of(&stamp) >> 56);
    if (stamp.bytes < sizeof stamp || stamp.bytes > (64u << 20))
        stress_fail("block %p: the stamp is broken", p);
    const unsigned char *bytes = p;
    for (size_t i = sizeof stamp; i < stamp.bytes; i++)
        if (bytes[i] != expected)
            stress_fail("block %p of %u/%u: byte %zu of %zu is %02x, not %02x", p, stamp.owner,
                        stamp.sequence, i, (size_t)stamp.bytes, bytes[i], expected);
}

void block_free(void *p)
{
    struct stamp stamp;
    block_check(p);
    memcpy(&stamp, p, sizeof stamp);
    memset(p, 0xdd, stamp.bytes < 256 ? stamp.bytes : 256);
    hak_free(p);
}
