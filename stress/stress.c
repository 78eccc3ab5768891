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

#define NOTE_AT  16u /* the allocator's own words are before it */
#define TAG_BITS 20  /* of a parcel; the rest is the address over 16 */

#define PATIENCE 8 /* times the seconds that were asked for */

static const char *scenario;
static uint64_t seed;
static double seconds = 2;
static double started;
static const char *met_what;
static double least_crossed, least_met;

/* Relaxed, all of them: they must not order threads. */
static _Atomic(uint64_t) made, crossed, met;

static struct worker main_worker = {.number = UINT32_MAX};
static __thread unsigned my_number = UINT32_MAX;

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

/* ---- random numbers ---- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t rng_next(struct rng *rng)
{
    return mix(rng->state += 0x9e3779b97f4a7c15u);
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
        return 16 + rng_below(rng, 6u << 20);
    if (dice < 8)
        return 16 + rng_below(rng, 256u << 10);
    return 16 + rng_below(rng, most[dice % 9]);
}

size_t rng_slab_size(struct rng *rng)
{
    size_t octave = (size_t)16 << rng_below(rng, 12);
    return octave + rng_below(rng, octave) + 1;
}

/* ---- beginning and ending ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void stress_begin(int argc, char **argv, const char *name)
{
    scenario = name;
    started = now();
    if (argc > 1)
        seconds = strtod(argv[1], NULL);
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : mix((uint64_t)(started * 1e9));
    main_worker.rng.state = seed;
    printf("%s: %g s, seed %llu\n", name, seconds, (unsigned long long)seed);
    fflush(stdout);
}

void stress_expect(unsigned least_crossed_a_second, const char *what, unsigned least_met_a_second)
{
    least_crossed = least_crossed_a_second * seconds;
    met_what = what;
    least_met = least_met_a_second * seconds;
}

struct worker *stress_main(void)
{
    return &main_worker;
}

/* Bytes in units that are not free: slabs and runs, whatever their own counts say. */
static size_t bytes_taken(void)
{
    static const char before[] = "<segments count=\"%*u\" size=\"%zu\" free=\"%zu\"";
    size_t size = 0, free_size = 0;
    static char text[1 << 16];
    FILE *stream = fmemopen(text, sizeof text, "w");
    if (stream == NULL || hak_malloc_info(0, stream) != 0 || fclose(stream) != 0)
        stress_fail("malloc_info failed");
    const char *segments = strstr(text, "<segments");
    if (segments == NULL || sscanf(segments, before, &size, &free_size) != 2)
        stress_fail("malloc_info says nothing of segments: %s", text);
    return size - free_size;
}

static void check_all_freed(void)
{
    hak_malloc_trim(0);
    struct mallinfo2 left = hak_mallinfo2();
    size_t taken = bytes_taken();
    if (left.uordblks != 0 || left.hblks != 0)
        stress_fail("all blocks were freed, but %zu bytes are out and %zu whales mapped",
                    left.uordblks, left.hblks);
    if (taken != 0)
        stress_fail("all blocks were freed, but %zu bytes of segments are in use", taken);
}

static void move_to(_Atomic(uint64_t) *sum, uint64_t *part)
{
    if (*part != 0)
        atomic_fetch_add_explicit(sum, *part, memory_order_relaxed);
    *part = 0;
}

static void add_up(struct worker *w)
{
    move_to(&made, &w->made);
    move_to(&crossed, &w->crossed);
    move_to(&met, &w->met);
}

static double sum_of(_Atomic(uint64_t) *sum)
{
    return (double)atomic_load_explicit(sum, memory_order_relaxed);
}

static void check_least(const char *what, double count, double least)
{
    if (count < least)
        stress_fail("%s: %.0f, of %.0f at least: what it is to test hardly happens", what, count,
                    least);
}

int stress_end(void)
{
    check_all_freed();
    add_up(&main_worker);
    printf("%s: %.0f blocks, %.0f crossed", scenario, sum_of(&made), sum_of(&crossed));
    if (met_what != NULL)
        printf(", %.0f %s", sum_of(&met), met_what);
    putchar('\n');
    check_least("blocks that crossed", sum_of(&crossed), least_crossed);
    check_least(met_what, sum_of(&met), least_met);
    printf("%s: ok\n", scenario);
    return 0;
}

bool stress_over(struct worker *w)
{
    if (rng_below(&w->rng, 64) == 0) {
        add_up(w);
        sched_yield();
    }
    double elapsed = now() - started;
    if (elapsed < seconds)
        return false;
    return elapsed > PATIENCE * seconds ||
           (sum_of(&crossed) >= least_crossed && sum_of(&met) >= least_met);
}

/* ---- threads ---- */

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
    my_number = start.worker->number;
    start.body(start.worker);
    add_up(start.worker);
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

/* ---- the pattern ---- */

/* TSan's own, absent elsewhere: whole ranges at once, since word by word it would spend nearly all
 * of the time on patterns. */
__attribute__((weak)) void __tsan_read_range(void *p, long n);
__attribute__((weak)) void __tsan_write_range(void *p, long n);

#define UNSEEN __attribute__((noinline, no_sanitize("thread")))

static uint64_t key_of(const struct stamp *stamp)
{
    return mix(seed ^ ((uint64_t)stamp->owner << 32 | stamp->sequence));
}

static uint32_t check_of(const struct stamp *stamp)
{
    return (uint32_t)(mix(key_of(stamp) + stamp->bytes) >> 32);
}

/* Of the 8 bytes at offset 8 * i. */
static inline uint64_t word_of(uint64_t key, size_t i)
{
    return key + i * 0x9e3779b97f4a7c15u;
}

/* Word by word, and what is left of the last. */
UNSEEN static void fill(char *p, size_t n, uint64_t key)
{
    size_t i = sizeof(struct stamp) / 8;
    for (; i < n / 8; i++) {
        uint64_t word = word_of(key, i);
        memcpy(p + 8 * i, &word, 8);
    }
    uint64_t last = word_of(key, i);
    for (size_t at = 8 * i; at < n; at++)
        p[at] = (char)(last >> 8 * (at % 8));
}

/* The offset of the first wrong byte or word; n if there is none. */
UNSEEN static size_t first_wrong(const char *p, size_t n, uint64_t key)
{
    size_t i = sizeof(struct stamp) / 8;
    for (; i < n / 8; i++) {
        uint64_t word;
        memcpy(&word, p + 8 * i, 8);
        if (word != word_of(key, i))
            return 8 * i;
    }
    uint64_t last = word_of(key, i);
    for (size_t at = 8 * i; at < n; at++)
        if (p[at] != (char)(last >> 8 * (at % 8)))
            return at;
    return n;
}

/* ---- blocks ---- */

struct note {
    uint64_t mark; /* of the address, so that a copy is none */
    uint64_t freer;
};

static uint64_t mark_of(const void *p)
{
    return mix((uintptr_t)p ^ seed);
}

static void look_at_note(struct worker *w, const void *p, size_t n)
{
    struct note note;
    if (n < NOTE_AT + sizeof note)
        return;
    memcpy(&note, (const char *)p + NOTE_AT, sizeof note);
    if (note.mark == mark_of(p) && note.freer != w->number)
        w->crossed++;
}

void block_stamp(struct worker *w, void *p, size_t n)
{
    struct stamp stamp = {w->number, w->sequence++, (uint32_t)n, 0};
    stamp.check = check_of(&stamp);
    if (__tsan_write_range != NULL)
        __tsan_write_range(p, (long)n);
    memcpy(p, &stamp, sizeof stamp);
    fill(p, n, key_of(&stamp));
}

void block_receive(struct worker *w, void *p, size_t n)
{
    if (((uintptr_t)p & 15) != 0)
        stress_fail("a block of %zu bytes at %p, which is not aligned to 16", n, p);
    look_at_note(w, p, n);
    block_stamp(w, p, n);
    w->made++;
}

void *block_make_part(struct worker *w, size_t n, size_t stamped)
{
    void *p = hak_malloc(n);
    if (p != NULL)
        block_receive(w, p, stamped);
    return p;
}

void *block_make(struct worker *w, size_t n)
{
    return block_make_part(w, n, n);
}

static void check_kept(const void *p, const struct stamp *was, size_t n)
{
    struct stamp now;
    memcpy(&now, p, sizeof now);
    if (memcmp(&now, was, sizeof now) != 0 || now.check != check_of(&now) || now.bytes < sizeof now)
        stress_fail("block %p: the stamp is broken or another's: owner %u, sequence %u, %u bytes",
                    p, now.owner, now.sequence, now.bytes);
    if (__tsan_read_range != NULL)
        __tsan_read_range((void *)p, (long)n);
    size_t wrong = first_wrong(p, n, key_of(&now));
    if (wrong < n)
        stress_fail("block %p of %u/%u: wrong at byte %zu of %u", p, now.owner, now.sequence, wrong,
                    now.bytes);
}

void block_check(const void *p)
{
    struct stamp stamp;
    memcpy(&stamp, p, sizeof stamp);
    check_kept(p, &stamp, stamp.check == check_of(&stamp) ? stamp.bytes : sizeof stamp);
}

/* Over what was checked: stale contents are not taken for right ones. */
void block_free(void *p)
{
    struct stamp stamp;
    block_check(p);
    memcpy(&stamp, p, sizeof stamp);
    memset(p, 0xdd, stamp.bytes < 256 ? stamp.bytes : 256);
    struct note note = {mark_of(p), my_number};
    if (stamp.bytes >= NOTE_AT + sizeof note)
        memcpy((char *)p + NOTE_AT, &note, sizeof note);
    hak_free(p);
}

/* ---- parcels ---- */

static uint64_t tag_of(const struct stamp *stamp)
{
    return stamp->check & ((1u << TAG_BITS) - 1);
}

parcel parcel_of(const void *p)
{
    struct stamp stamp;
    memcpy(&stamp, p, sizeof stamp);
    return (uint64_t)(uintptr_t)p << (TAG_BITS - 4) | tag_of(&stamp);
}

void *parcel_block(parcel x)
{
    return (void *)(uintptr_t)(x >> TAG_BITS << 4);
}

parcel parcel_make(struct worker *w, size_t n)
{
    void *p = block_make(w, n);
    if (p == NULL)
        stress_fail("out of memory at %zu bytes", n);
    return parcel_of(p);
}

void parcel_check(parcel x)
{
    void *p = parcel_block(x);
    block_check(p);
    if (parcel_of(p) != x)
        stress_fail("block %p: whole, but not the one that was put", p);
}

parcel parcel_resize(struct worker *w, parcel x, size_t n)
{
    struct stamp was;
    parcel_check(x);
    memcpy(&was, parcel_block(x), sizeof was);
    void *p = hak_realloc(parcel_block(x), n);
    if (p == NULL)
        stress_fail("out of memory at %zu bytes", n);
    if (hak_malloc_usable_size(p) < n)
        stress_fail("realloc to %zu bytes gave %zu", n, hak_malloc_usable_size(p));
    check_kept(p, &was, n < was.bytes ? n : was.bytes);
    block_stamp(w, p, n);
    return parcel_of(p);
}

void parcel_free(parcel x)
{
    parcel_check(x);
    block_free(parcel_block(x));
}

/* The look is relaxed, and the putter's CAS no acquire: a taker is not ordered before a putter. */
bool slot_put(slot *s, parcel x)
{
    uint64_t empty = 0;
    return atomic_load_explicit(s, memory_order_relaxed) == 0 &&
           atomic_compare_exchange_strong_explicit(s, &empty, x, memory_order_release,
                                                   memory_order_relaxed);
}

parcel slot_take(slot *s)
{
    if (atomic_load_explicit(s, memory_order_relaxed) == 0)
        return 0;
    return atomic_exchange_explicit(s, 0, memory_order_acquire);
}

void slots_put(struct worker *w, slot *s, unsigned count, parcel x)
{
    while (!stress_over(w))
        for (unsigned tries = 0; tries < 16; tries++)
            if (slot_put(&s[rng_below(&w->rng, count)], x))
                return;
    parcel_free(x);
}

void slots_free(slot *s, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        parcel x = slot_take(&s[i]);
        if (x != 0)
            parcel_free(x);
    }
}
