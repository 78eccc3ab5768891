/*
 * oneslab: many threads free into one slab at the same moment.
 *
 * Why: its remote stack, and its claim, have no more contention than this. How: one thread makes a
 * few slabs' worth of blocks of one class and hands them out in one go, to four threads by turns,
 * which wait until all are there and then free theirs. No slot of an out-buffer holds more than 8
 * KiB, and blocks are of 1 to 8 KiB, so pushes are frequent and chains short. Whether all were
 * freed the maker learns by relaxed counts: what it is given then is ordered by the allocator
 * alone. Edges: push on `remote` to drain, from many at once; `owner` to claim_owner. How long: 2
 * s.
 */
#include "stress.h"

#include <sched.h>

#define TAKERS 4
#define BATCH  64

static slot slots[TAKERS][BATCH];
static _Atomic(uint32_t) round_made;           /* release by the maker */
static _Atomic(uint32_t) rounds_freed[TAKERS]; /* relaxed: says nothing of memory */
static _Atomic(bool) over;

static void hand_out(struct worker *w, unsigned each, size_t n)
{
    for (unsigned i = 0; i < TAKERS * each; i++)
        slot_put(&slots[i % TAKERS][i / TAKERS], parcel_make(w, n));
}

static bool all_freed(uint32_t round)
{
    for (unsigned i = 0; i < TAKERS; i++)
        if (atomic_load_explicit(&rounds_freed[i], memory_order_relaxed) != round)
            return false;
    return true;
}

static void make(struct worker *w)
{
    uint32_t round = 0;
    while (!stress_over(w)) {
        size_t n = (size_t)1024 << rng_below(&w->rng, 4);
        hand_out(w, 1 + (unsigned)rng_below(&w->rng, BATCH), n);
        atomic_store_explicit(&round_made, ++round, memory_order_release);
        while (!all_freed(round))
            sched_yield();
        w->met++;
    }
    atomic_store_explicit(&over, true, memory_order_relaxed);
}

static void take(struct worker *w)
{
    uint32_t done = 0;
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        if (atomic_load_explicit(&round_made, memory_order_acquire) == done) {
            sched_yield();
            continue;
        }
        slots_free(slots[w->number - 1], BATCH);
        atomic_store_explicit(&rounds_freed[w->number - 1], ++done, memory_order_relaxed);
    }
}

static void body(struct worker *w)
{
    if (w->number == 0)
        make(w);
    else
        take(w);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "oneslab");
    stress_expect(100, "rounds", 2);
    stress_run(1 + TAKERS, body, NULL);
    slots_free(slots[0], TAKERS * BATCH);
    return stress_end();
}
