/*
 * growth: whether an operation costs the same whatever the size of the heap.
 *
 *     -n BLOCKS    live blocks in the background; 1,000,000 if not given
 *     -b BYTES     of each block, and then no byte of any is touched here; if not given, 16 to 64
 *
 * With the background there, each by itself, in nanoseconds:
 *
 *     build_ns     malloc of a block of the background, first touch of its memory included
 *     next_ns      malloc of the next 100,000 blocks (128 MiB of them, if -b is given)
 *     order_ns     free of these, in the order in which they were allocated
 *     pair_ns      free and malloc in a working set of fixed size, which is in the caches however large the
 *                  background is
 *     random_ns    free and malloc of a block of the background, at random
 *     misses_ns    what the user pays in the last without any allocator: finding the block, and writing to it
 *
 * All but the first are medians of several parts; those of the last three take a sixteenth of -s
 * each. ops_per_second is not to be compared. One thread; -t is not looked at.
 */
#include "bench.h"

#include <stdlib.h>
#include <sys/mman.h>

#define NEXT          100000
#define NEXT_LARGE    ((size_t)128 << 20) /* bytes, if -b is given */
#define WORKING       4096                /* blocks */
#define WORKING_LARGE 64                  /* if -b is given */
#define BURST         1000
#define PARTS         5

static long count = 1000000, bytes;
static struct bench_thread self;
static char **background, **working;
static size_t next_count, working_count;
static uint64_t replaced;

static char *allocate(void)
{
    char *p = malloc(bytes > 0 ? (size_t)bytes : 16 + (size_t)(bench_random(&self) & 3) * 16);
    if (p == NULL)
        bench_fail("out of memory");
    if (bytes == 0)
        *p = 1;
    return p;
}

/* Not from the allocator that is measured, and touched in advance. */
static char **table(size_t n)
{
    char **t = mmap(NULL, n * sizeof *t, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (t == MAP_FAILED)
        bench_fail("out of memory for the table of blocks");
    return t;
}

static void fill(char **block, size_t n)
{
    for (size_t i = 0; i < n; i++)
        block[i] = allocate();
}

static double since_ns(double start, size_t n)
{
    return (bench_now() - start) * 1e9 / (double)n;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *ns)
{
    qsort(ns, PARTS, sizeof *ns, compare);
    return ns[PARTS / 2];
}

/* The first round is not counted: it touches new memory, which the later ones find touched. */
static void measure_next(void)
{
    char **next = table(next_count);
    double next_ns[PARTS + 1], order_ns[PARTS + 1];
    for (int round = 0; round <= PARTS; round++) {
        double start = bench_now();
        fill(next, next_count);
        next_ns[round] = since_ns(start, next_count);
        start = bench_now();
        for (size_t i = 0; i < next_count; i++)
            free(next[i]);
        order_ns[round] = since_ns(start, next_count);
    }
    bench_add("next_ns", median(next_ns + 1));
    bench_add("order_ns", median(order_ns + 1));
    munmap(next, next_count * sizeof *next);
}

static void replace(char **block, size_t n)
{
    char **at = &block[bench_random(&self) % n];
    free(*at);
    *at = allocate();
}

static void pair(void)
{
    replace(working, working_count);
}

static void replace_random(void)
{
    replace(background, (size_t)count);
    replaced++;
}

/* The same places and random numbers, but the block stays. */
static void only_touch(void)
{
    char *p = background[bench_random(&self) % (size_t)count];
    if (bytes == 0)
        *p += (char)bench_random(&self);
}

static double part_ns(void (*operation)(void))
{
    double start = bench_now();
    size_t done = 0;
    while (bench_now() - start < bench_seconds / (3 * PARTS + 1)) {
        for (int i = 0; i < BURST; i++)
            operation();
        done += BURST;
    }
    return since_ns(start, done);
}

static void measure_pairs(void)
{
    double ns[PARTS];
    part_ns(pair);
    for (int i = 0; i < PARTS; i++)
        ns[i] = part_ns(pair);
    bench_add("pair_ns", median(ns));
}

/* In turn: what a cache miss costs drifts. */
static void measure_random(void)
{
    double random_ns[PARTS], misses_ns[PARTS];
    part_ns(only_touch);
    for (int i = 0; i < PARTS; i++) {
        random_ns[i] = part_ns(replace_random);
        misses_ns[i] = part_ns(only_touch);
    }
    bench_add("random_ns", median(random_ns));
    bench_add("misses_ns", median(misses_ns));
}

static void prepare(void)
{
    next_count = bytes > 0 ? NEXT_LARGE / (size_t)bytes + 1 : NEXT;
    working_count = bytes > 0 ? WORKING_LARGE : WORKING;
    self.random = (uint64_t)bench_seed;
    background = table((size_t)count);
    working = table(working_count);
    double start = bench_now();
    fill(background, (size_t)count);
    bench_add("build_ns", since_ns(start, (size_t)count));
}

int main(int argc, char **argv)
{
    const struct bench_option options[] = {
        {'n', &count, "BLOCKS"}, {'b', &bytes, "BYTES"}, {0, NULL, NULL}};
    bench_begin(argc, argv, "growth", options);
    prepare();
    measure_next();
    fill(working, working_count);
    measure_pairs();
    measure_random();
    bench_report(replaced);
    return 0;
}
