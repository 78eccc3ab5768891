/*
 * priority: a thread of high priority never waits for one of low priority that is inside the
 * allocator.
 *
 *     LD_PRELOAD=LIBRARY priority [--expect-waits] [SECONDS]      5 seconds a part
 *
 * Why: it is where locks hurt most: the low thread holds one, a thread of middle priority takes its
 * processor away, and the high one waits for both. How: three threads pinned to one processor. The
 * low one allocates and frees without end, so that it is inside nearly always. The middle one keeps
 * the processor for 5 ms of each 12. The high one wakes every millisecond, makes and frees blocks,
 * also some that the low thread made, and times each call.
 *
 * In the first part all blocks are below 100 KiB, so that no allocator has to ask the kernel once
 * it has its memory. In the second, the low one has blocks of up to 6 MiB: then mmap, munmap and
 * page faults are part of the calls, and what is preempted inside the kernel holds the kernel's
 * lock on the address space; those waits are shown, and are nobody's fault here.
 *
 * With SCHED_FIFO: high 30, middle 20, low 10; nothing preempts the high one then, and a call has
 * waited if it took longer than LIMIT_NS while its thread was on the processor for less than half
 * of that. Where SCHED_FIFO is refused, SCHED_OTHER against SCHED_IDLE, as the first line says: the
 * scheduler's own delays are in the figures, so nothing is judged. Exit status: 0, 1 if a call of
 * the first part waited (with --expect-waits: the other way round), 77 if nothing was judged, 2 if
 * it could not be run.
 *
 * How threads meet: a table of blocks by atomic exchange, and flags.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define TABLE   256
#define SAMPLES (1u << 20)
#define LIMIT_NS                                                                                   \
    1000000u /* a fault or a system call is far below; the middle one's turn far above */
#define HOG_NS  5000000u
#define HOG_GAP 7000000u

enum role { HIGH, MIDDLE, LOW, ROLES };
enum call { MALLOC_SMALL, MALLOC_LARGE, MALLOC_WHALE, FREE_OWN, FREE_REMOTE, CALLS };

static const char *const call_names[CALLS] = {"malloc, to 32 KiB", "malloc, to 1 MiB",
                                              "malloc, above", "free, own",
                                              "free, the low thread's"};
static _Atomic(void *) table[TABLE];
static _Atomic(bool) over;
static bool with_mappings; /* the second part; constant while threads run */
static _Atomic(uint64_t) low_rounds;
static _Atomic(bool) low_is_warm;
static bool fifo = true;
static uint32_t *samples[CALLS]; /* ns */
static unsigned sample_count[CALLS], waits[CALLS];
static uint64_t worst_wait;

static uint64_t now_on(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t below(uint64_t *rng, uint64_t bound)
{
    *rng = *rng * 6364136223846793005u + 1442695040888963407u;
    return (*rng >> 33) % bound;
}

/* ---- the threads ---- */

static void become(enum role role)
{
    static const int priorities[ROLES] = {30, 20, 10};
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    struct sched_param fixed = {.sched_priority = priorities[role]}, none = {0};
    if (fifo)
        pthread_setschedparam(pthread_self(), SCHED_FIFO, &fixed);
    else if (role == LOW)
        pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
}

static size_t large_size(uint64_t *rng)
{
    return (33u << 10) + below(rng, (with_mappings ? 900u : 67u) << 10);
}

static size_t whale_size(uint64_t *rng)
{
    return (1100u << 10) + below(rng, 5u << 20);
}

static size_t low_size(uint64_t *rng)
{
    uint64_t dice = below(rng, 16);
    if (dice == 0)
        return large_size(rng);
    if (dice == 1 && with_mappings)
        return whale_size(rng);
    return 16 + below(rng, 20000);
}

static void *be_low(void *unused)
{
    uint64_t rng = 1;
    become(LOW);
    for (unsigned i = 0; i < 20 * TABLE; i++) /* it has its memory */
        free(atomic_exchange(&table[below(&rng, TABLE)], malloc(low_size(&rng))));
    low_is_warm = true;
    while (!over) {
        for (unsigned i = 0; i < 64; i++)
            free(atomic_exchange(&table[below(&rng, TABLE)], malloc(low_size(&rng))));
        low_rounds++;
    }
    return unused;
}

static void sleep_ns(long ns)
{
    struct timespec time = {0, ns};
    nanosleep(&time, NULL);
}

static void *be_middle(void *unused)
{
    become(MIDDLE);
    while (!over) {
        sleep_ns(HOG_GAP);
        uint64_t end = now_on(CLOCK_MONOTONIC) + HOG_NS;
        while (now_on(CLOCK_MONOTONIC) < end)
            continue;
    }
    return unused;
}

/* `on` is processor time: what is missing to the wall's was spent waiting. */
static void note(enum call call, uint64_t wall, uint64_t on)
{
    if (sample_count[call] < SAMPLES)
        samples[call][sample_count[call]++] = (uint32_t)(wall < UINT32_MAX ? wall : UINT32_MAX);
    if (wall < LIMIT_NS || on > wall / 2)
        return;
    waits[call]++;
    if (wall > worst_wait)
        worst_wait = wall;
}

static void *timed_malloc(enum call call, size_t n)
{
    uint64_t on = now_on(CLOCK_THREAD_CPUTIME_ID), wall = now_on(CLOCK_MONOTONIC);
    void *p = malloc(n);
    uint64_t took = now_on(CLOCK_MONOTONIC) - wall;
    note(call, took, now_on(CLOCK_THREAD_CPUTIME_ID) - on);
    return p;
}

static void timed_free(enum call call, void *p)
{
    uint64_t on = now_on(CLOCK_THREAD_CPUTIME_ID), wall = now_on(CLOCK_MONOTONIC);
    free(p);
    uint64_t took = now_on(CLOCK_MONOTONIC) - wall;
    note(call, took, now_on(CLOCK_THREAD_CPUTIME_ID) - on);
}

static void high_round(uint64_t *rng)
{
    void *block[8] = {0};
    for (unsigned i = 0; i < 6; i++)
        block[i] = timed_malloc(MALLOC_SMALL, 16 + below(rng, 30000));
    block[6] = timed_malloc(MALLOC_LARGE, large_size(rng));
    if (with_mappings)
        block[7] = timed_malloc(MALLOC_WHALE, whale_size(rng));
    for (unsigned i = 0; i < 8; i++)
        timed_free(FREE_OWN, block[i]);
    for (unsigned i = 0; i < 4; i++)
        timed_free(FREE_REMOTE, atomic_exchange(&table[below(rng, TABLE)], NULL));
}

static void *be_high(void *unused)
{
    uint64_t rng = 2;
    become(HIGH);
    while (!low_is_warm)
        sleep_ns(1000000);
    for (unsigned i = 0; i < 100; i++) /* so has this one */
        high_round(&rng);
    memset(sample_count, 0, sizeof sample_count);
    memset(waits, 0, sizeof waits);
    worst_wait = 0;
    while (!over) {
        sleep_ns(1000000);
        high_round(&rng);
    }
    return unused;
}

/* ---- the report ---- */

static bool fifo_is_allowed(void)
{
    struct sched_param fixed = {.sched_priority = 40}, none = {0};
    if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &fixed) == 0)
        return true; /* main stays above them all: it ends them */
    pthread_setschedparam(pthread_self(), SCHED_OTHER, &none);
    return false;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* How often the high thread waited. */
static unsigned report(void)
{
    unsigned all_waits = 0;
    for (enum call c = 0; c < CALLS; c++) {
        unsigned n = sample_count[c];
        if (n == 0)
            continue;
        qsort(samples[c], n, sizeof *samples[c], by_value);
        printf("%-24s %7u calls  p50 %8.1f us  p99.9 %8.1f us  worst %8.1f us  waited %u\n",
               call_names[c], n, samples[c][n / 2] / 1e3, samples[c][n - 1 - n / 1000] / 1e3,
               samples[c][n - 1] / 1e3, waits[c]);
        all_waits += waits[c];
    }
    printf(
        "priority: the high thread waited %u times, %.1f ms at most; the low one made %lu rounds\n",
        all_waits, (double)worst_wait / 1e6, low_rounds);
    return all_waits;
}

static void run(unsigned seconds)
{
    static void *(*const bodies[ROLES])(void *) = {be_high, be_middle, be_low};
    pthread_t threads[ROLES];
    over = false;
    for (enum role r = 0; r < ROLES; r++) {
        if (pthread_create(&threads[r], NULL, bodies[r], NULL) != 0) {
            fprintf(stderr, "priority: no thread: %s; giving up\n", strerror(errno));
            exit(2);
        }
    }
    sleep(seconds);
    over = true;
    for (enum role r = 0; r < ROLES; r++)
        pthread_join(threads[r], NULL);
}

int main(int argc, char **argv)
{
    unsigned seconds = 5;
    bool expect_waits = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--expect-waits") == 0)
            expect_waits = true;
        else
            seconds = (unsigned)strtoul(argv[i], NULL, 10);
    }
    const char *library = getenv("LD_PRELOAD");
    fifo = fifo_is_allowed();
    printf("priority: %s, %u s, %s\n", library != NULL ? library : "system", seconds,
           fifo ? "SCHED_FIFO" : "SCHED_FIFO is refused: SCHED_OTHER against SCHED_IDLE");
    for (enum call c = 0; c < CALLS; c++) {
        samples[c] = malloc(SAMPLES * sizeof *samples[c]);
        memset(samples[c], 0, SAMPLES * sizeof *samples[c]); /* no faults while it is timed */
    }
    run(seconds);
    unsigned waited = report();
    with_mappings = true;
    run(seconds);
    report();
    if (!fifo)
        return 77;
    return (waited != 0) != expect_waits;
}
