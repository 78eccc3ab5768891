/*
 * trim: memory goes back to the system while all is in use.
 *
 * Why: a trim breaks up parked heaps, seizes those that are in no slow path, empties the cache of
 * whales, and takes free units for as long as it purges them. A block of which a page was purged
 * reads as zeroes. How: two threads make blocks of all sizes, two free them, one starts threads
 * that end at once, for heaps to be parked; one trims all the time, with more or less kept, and
 * changes the bound at which free does so itself. Blocks go one way only. Edges: `free` and `dirty`
 * of a segment from put_back to try_take, with the purger in between; a parked heap from shelve to
 * heap_dissolve_parked; `holder` of one that is seized, and given back or left; a second look:
 * hint_full against put_back. How long: 2 s.
 */
#include "stress.h"

#define MAKERS 2
#define SLOTS  256

static slot slots[MAKERS][SLOTS];

static void make(struct worker *w)
{
    while (!stress_over(w))
        slots_put(w, slots[w->number % MAKERS], SLOTS, parcel_make(w, rng_size(&w->rng)));
}

static void take(struct worker *w)
{
    while (!stress_over(w))
        slots_free(slots[w->number % MAKERS], SLOTS);
}

static void trim(struct worker *w)
{
    while (!stress_over(w)) {
        w->met += hak_malloc_trim(rng_below(&w->rng, 64) << 16) == 1;
        hak_mallopt(M_TRIM_THRESHOLD, (int)(rng_below(&w->rng, 64) << 16));
    }
}

static void short_life(struct worker *w)
{
    parcel few[32];
    for (unsigned i = 0; i < 32; i++)
        few[i] = parcel_make(w, rng_slab_size(&w->rng));
    for (unsigned i = 0; i < 32; i++)
        parcel_free(few[i]);
}

static void start(struct worker *w)
{
    for (unsigned i = 0; !stress_over(w); i++) {
        struct worker child;
        stress_start(&child, 100 + i, short_life, NULL);
        pthread_join(child.thread, NULL);
    }
}

static void body(struct worker *w)
{
    void (*const bodies[])(struct worker *) = {make, make, take, take, trim, start};
    bodies[w->number](w);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "trim");
    stress_expect(20, "trims that found something", 2);
    stress_run(6, body, NULL);
    slots_free(slots[0], MAKERS * SLOTS);
    return stress_end();
}
