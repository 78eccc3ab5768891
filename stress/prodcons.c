/*
 * prodcons: producers and consumers, in three modes, a program each: one to many, many to one, and
 * a ring.
 *
 * Why: servers pass their work on; and who frees is seldom who made. How: blocks of all sizes of
 * slabs, now and then a larger one.
 *   one_to_many   one thread makes, four free: many push on one heap's slabs
 *   many_to_one   four threads make, one frees: one claims and feeds the slabs of four
 *   ring          each of four threads takes from the one before, checks, writes the block anew or frees it
 *                 and makes another, and passes it on: ownership wanders
 * In the first two blocks go one way only, so what comes back is ordered by the allocator alone.
 * The ring orders its threads in the end, a turn later; it is for the data. Edges: push on `remote`
 * to drain, `owner` from set_nobodys to claim_owner, the shared stacks. How long: 2 s a mode.
 */
#include "stress.h"

#define THREADS 5
#define RING    4
#define SLOTS   256

static slot slots[RING][SLOTS];

static size_t size_for(struct rng *rng)
{
    return rng_below(rng, 500) == 0 ? 16 + rng_below(rng, 300000) : rng_slab_size(rng);
}

static void produce(struct worker *w)
{
    while (!stress_over(w))
        slots_put(w, slots[0], SLOTS, parcel_make(w, size_for(&w->rng)));
}

static void consume(struct worker *w)
{
    while (!stress_over(w)) {
        parcel x = slot_take(&slots[0][rng_below(&w->rng, SLOTS)]);
        if (x != 0)
            parcel_free(x);
    }
}

__attribute__((unused)) static void one_to_many(struct worker *w)
{
    if (w->number == 0)
        produce(w);
    else
        consume(w);
}

__attribute__((unused)) static void many_to_one(struct worker *w)
{
    if (w->number == 0)
        consume(w);
    else
        produce(w);
}

static parcel pass_on(struct worker *w, parcel x)
{
    if (rng_below(&w->rng, 2) == 0) {
        parcel_free(x);
        return parcel_make(w, size_for(&w->rng));
    }
    struct stamp stamp = *(struct stamp *)parcel_block(x);
    parcel_check(x);
    block_stamp(w, parcel_block(x), stamp.bytes);
    return parcel_of(parcel_block(x));
}

__attribute__((unused)) static void ring(struct worker *w)
{
    slot *from = slots[w->number % RING], *to = slots[(w->number + 1) % RING];
    for (unsigned i = 0; i < SLOTS / 4; i++)
        slots_put(w, to, SLOTS, parcel_make(w, size_for(&w->rng)));
    while (!stress_over(w)) {
        parcel x = slot_take(&from[rng_below(&w->rng, SLOTS)]);
        if (x != 0)
            slots_put(w, to, SLOTS, pass_on(w, x));
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, STRESS_NAME);
    stress_expect(100, NULL, 0);
    stress_run(THREADS, STRESS_MODE, NULL);
    slots_free(slots[0], RING * SLOTS);
    return stress_end();
}
