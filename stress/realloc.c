/*
 * realloc: blocks are resized by threads that did not make them.
 *
 * Why: realloc frees the old block by the thread that resizes, shrinks and grows runs in place by
 * giving units back and taking those that follow, and moves whales by page tables. How: four
 * threads in a row. The first makes blocks of all tiers; the next two give each a new size, of the
 * same tier or of another, after which its contents must be there up to the shorter length; the
 * last frees. Blocks go down the row only, so what comes back up is ordered by the allocator alone.
 * Edges: as prodcons, and `free` of a segment by segment_take_at and segment_return;
 * registry_prepare and the moved whale's publication. How long: 2 s.
 */
#include "stress.h"

#include <string.h>

#define THREADS 4
#define SLOTS   64

static slot slots[THREADS - 1][SLOTS];

static size_t size_for(struct rng *rng)
{
    uint64_t dice = rng_below(rng, 256);
    if (dice == 0)
        return ((size_t)3 << 20) + rng_below(rng, 2u << 20);
    return dice < 32 ? 32769 + rng_below(rng, 200000) : rng_slab_size(rng);
}

/* Anything, or up to twice its length, which is not checked yet: the bound is odd, never 0. */
static size_t next_size(struct rng *rng, parcel x)
{
    struct stamp was;
    memcpy(&was, parcel_block(x), sizeof was);
    return rng_below(rng, 2) == 0 ? size_for(rng) : 16 + rng_below(rng, 2 * was.bytes + 1);
}

static parcel resize(struct worker *w, parcel x)
{
    w->met++;
    return parcel_resize(w, x, next_size(&w->rng, x));
}

static void body(struct worker *w)
{
    while (!stress_over(w)) {
        parcel x = w->number == 0 ? parcel_make(w, size_for(&w->rng))
                                  : slot_take(&slots[w->number - 1][rng_below(&w->rng, SLOTS)]);
        if (x != 0 && w->number != 0 && w->number != THREADS - 1)
            x = resize(w, x);
        if (x != 0 && w->number == THREADS - 1)
            parcel_free(x);
        else if (x != 0)
            slots_put(w, slots[w->number], SLOTS, x);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "realloc");
    stress_expect(2, "blocks resized", 20);
    stress_run(THREADS, body, NULL);
    slots_free(slots[0], (THREADS - 1) * SLOTS);
    return stress_end();
}
