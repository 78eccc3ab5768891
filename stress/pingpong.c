/*
 * pingpong: a block goes over, its memory comes back, at once.
 *
 * Why: the shortest way from free by one thread to malloc by another, met as often as can be. How:
 * two pairs of threads. One of a pair makes blocks, of sizes of which few fit into a slab and into
 * an out-buffer's slot, so that each free is pushed soon; the other frees them. A pair has eight
 * slots, so the maker soon needs what was just freed. Blocks go one way only: what the maker is
 * given was ordered by the allocator. Edges: push on `remote` to pop in drain; with the out-buffer,
 * chains and their labels. How long: 2 s.
 */
#include "stress.h"

#define THREADS 4
#define SLOTS   8

static slot between[THREADS / 2][SLOTS];

static size_t size_for(struct rng *rng)
{
    static const size_t sizes[] = {1000, 4000, 8192, 10000, 16384, 32768};
    return sizes[rng_below(rng, sizeof sizes / sizeof *sizes)];
}

static void body(struct worker *w)
{
    slot *slots = between[w->number / 2];
    while (!stress_over(w)) {
        if (w->number % 2 == 0)
            slots_put(w, slots, SLOTS, parcel_make(w, size_for(&w->rng)));
        else
            slots_free(slots, SLOTS);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "pingpong");
    stress_expect(100, NULL, 0);
    stress_run(THREADS, body, NULL);
    slots_free(between[0], SLOTS * THREADS / 2);
    return stress_end();
}
