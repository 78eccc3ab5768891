/*
 * claim: who gives a slab up against who frees into it.
 *
 * Why: give_up and owned_push_remote both look twice; if one did not, a block would stay in the
 * remote stack of a slab that nobody looks at again. How: two threads make blocks of which two fit
 * into a slab, so that a heap gives its oldest slab up every other block, at OWNED_LEAST of them;
 * two threads free them, each block about when its slab is given up: some before, some after, some
 * between the two looks. Only the first bytes of a block are written, the rest would take the time.
 * Blocks go one way only. Edges: `owner` from set_nobodys to claim_owner; push on `remote` to
 * drain; both second looks, of which looks.c sees to it that one misses nothing. How long: 2 s.
 */
#include "stress.h"

#define MAKERS  2
#define SLOTS   64 /* twice OWNED_LEAST slabs, of two blocks */
#define STAMPED 64

static slot slots[MAKERS][SLOTS];

static void make(struct worker *w)
{
    size_t n = 0;
    for (unsigned turn = 0; !stress_over(w); turn++) {
        if (turn % 1024 == 0)
            n = rng_below(&w->rng, 2) == 0 ? 24576 : 32768;
        void *p = block_make_part(w, n, STAMPED);
        if (p == NULL)
            stress_fail("out of memory at %zu bytes", n);
        slots_put(w, slots[w->number], SLOTS, parcel_of(p));
    }
}

/* In the order of slots at times, at random at others: so the depth of the queue wanders about. */
static void take(struct worker *w)
{
    while (!stress_over(w)) {
        slot *from = slots[rng_below(&w->rng, MAKERS)];
        for (uint64_t left = rng_below(&w->rng, SLOTS); left > 0; left--) {
            parcel x = slot_take(&from[rng_below(&w->rng, SLOTS)]);
            if (x != 0)
                parcel_free(x);
        }
    }
}

static void body(struct worker *w)
{
    if (w->number < MAKERS)
        make(w);
    else
        take(w);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "claim");
    stress_expect(100, NULL, 0);
    stress_run(2 * MAKERS, body, NULL);
    slots_free(slots[0], MAKERS * SLOTS);
    return stress_end();
}
