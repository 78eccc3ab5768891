/*
 * retire: segments and whales are unmapped and mapped again under those who walk.
 *
 * Why: a descriptor may be used again only when no walker can be looking at it any more; the grace
 * period is polled, by whoever retires. How: one thread makes runs that fill some thirty segments,
 * another frees them, so that segment after segment is empty and retired by the one while the other
 * maps new ones, with the same descriptors and, the kernel willing, at the same addresses; whales,
 * which the cache is told not to keep by a trim at each turn, as well. Two threads walk all the
 * time, so that there is hardly a moment without a reader. Blocks go one way only. Edges:
 * rcu_retire to batch_begin; a reader's last accesses to is_outside; a region's fields from reclaim
 * to the next publication; `polling`. How long: 2 s.
 */
#include "stress.h"

#define THREADS 4
#define BANKS   2
#define SLOTS   64
#define STAMPED 512

static slot banks[BANKS][SLOTS];

static size_t size_for(struct rng *rng)
{
    if (rng_below(rng, 16) == 0)
        return ((size_t)4 << 20) + 1 + rng_below(rng, 2u << 20);
    return 500000 + rng_below(rng, 500000);
}

/* Bank after bank, in order, so that the other is filled while one is emptied. */
static void make(struct worker *w)
{
    for (unsigned i = 0; !stress_over(w); i = (i + 1) % (BANKS * SLOTS)) {
        size_t n = size_for(&w->rng);
        void *p = block_make_part(w, n, STAMPED);
        if (p == NULL)
            stress_fail("out of memory at %zu bytes", n);
        while (!slot_put(&banks[0][i], parcel_of(p)))
            if (stress_over(w)) {
                block_free(p);
                return;
            }
    }
}

/* A whole bank at once, so that segments empty. */
static void take(struct worker *w)
{
    for (unsigned bank = 0; !stress_over(w);) {
        if (atomic_load_explicit(&banks[bank][SLOTS - 1], memory_order_relaxed) == 0)
            continue;
        slots_free(banks[bank], SLOTS);
        hak_malloc_trim((size_t)1 << 30);
        bank = (bank + 1) % BANKS;
    }
}

/* Counts how often there are fewer segments than at the last look. */
static void walk(struct worker *w)
{
    size_t arena = 0;
    while (!stress_over(w)) {
        struct mallinfo2 m = hak_mallinfo2();
        w->met += m.arena < arena;
        arena = m.arena;
    }
}

static void body(struct worker *w)
{
    if (w->number == 0)
        make(w);
    else if (w->number == 1)
        take(w);
    else
        walk(w);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "retire");
    stress_expect(1, "walks that found segments gone", 2);
    stress_run(THREADS, body, NULL);
    slots_free(banks[0], BANKS * SLOTS);
    return stress_end();
}
