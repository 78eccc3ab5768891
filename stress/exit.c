/*
 * exit: threads end while others free their blocks.
 *
 * Why: at its end a thread gives up all its slabs, parks its heap or breaks it up, and the next
 * thread takes it over; frees by others meet every step of that. How: two threads start short-lived
 * ones, one after the other; each makes some hundred blocks, hands them over and ends at once. Two
 * more threads, which know nothing of these, free them. A few blocks a thread frees itself, to
 * leave its bins full. Starting and joining order the short-lived threads with who started them,
 * never after who frees. Edges: the push of a heap on `parked` to its pop; `owner` from set_nobodys
 * to claim_owner, push on `remote` to drain, the shared stacks. How long: 2 s.
 */
#include "stress.h"

#define STARTERS 2
#define SLOTS    512

static slot slots[STARTERS][SLOTS];

static void short_life(struct worker *w)
{
    slot *to = w->argument;
    for (uint64_t left = 50 + rng_below(&w->rng, 200); left > 0; left--) {
        parcel x = parcel_make(w, rng_slab_size(&w->rng));
        if (rng_below(&w->rng, 4) == 0 || !slot_put(&to[rng_below(&w->rng, SLOTS)], x))
            parcel_free(x);
    }
}

static void start(struct worker *w)
{
    for (unsigned i = 0; !stress_over(w); i++) {
        struct worker child;
        stress_start(&child, 4 + 2 * i * STARTERS + w->number, short_life, slots[w->number]);
        pthread_join(child.thread, NULL);
        w->met++;
    }
}

static void take(struct worker *w)
{
    while (!stress_over(w))
        slots_free(slots[rng_below(&w->rng, STARTERS)], SLOTS);
}

static void body(struct worker *w)
{
    if (w->number < STARTERS)
        start(w);
    else
        take(w);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "exit");
    stress_expect(100, "threads ended", 2);
    stress_run(2 * STARTERS, body, NULL);
    slots_free(slots[0], STARTERS * SLOTS);
    return stress_end();
}
