/*
 * whale: the cache of freed large blocks, used by all at once.
 *
 * Why: a slot of the cache is looked at before it is taken, when what is in it may be another whale
 * by the time it is taken. How: two threads make blocks of 4 to 8 MiB, of a few sizes that the
 * cache takes for each other or does not; two free them, resize some before, and trim now and then,
 * which empties the cache. Every byte is written and checked. Blocks go one way only, so the cache
 * alone orders what comes back. Edges: `cache[]` from slot_fill to slot_take; a descriptor through
 * its grace period; rcu_assign_pointer to registry_region. How long: 2 s.
 */
#include "stress.h"

#include <string.h>

#define MAKERS 2
#define SLOTS  6

static slot slots[MAKERS][SLOTS];

static size_t size_for(struct rng *rng)
{
    static const size_t sizes[] = {4200000, 4800000, 5600000, 8000000};
    return sizes[rng_below(rng, 4)] + rng_below(rng, 3) * 4096;
}

static void take(struct worker *w)
{
    while (!stress_over(w)) {
        parcel x = slot_take(&slots[rng_below(&w->rng, MAKERS)][rng_below(&w->rng, SLOTS)]);
        if (x == 0)
            continue;
        if (rng_below(&w->rng, 8) == 0)
            x = parcel_resize(w, x, size_for(&w->rng));
        parcel_free(x);
        if (rng_below(&w->rng, 64) == 0)
            hak_malloc_trim((size_t)1 << 30);
    }
}

static void body(struct worker *w)
{
    if (w->number >= MAKERS) {
        take(w);
        return;
    }
    while (!stress_over(w))
        slots_put(w, slots[w->number], SLOTS, parcel_make(w, size_for(&w->rng)));
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "whale");
    stress_expect(2, NULL, 0);
    stress_run(2 * MAKERS, body, NULL);
    slots_free(slots[0], MAKERS * SLOTS);
    return stress_end();
}
