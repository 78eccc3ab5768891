/*
 * local: each thread frees what it made.
 *
 * Why: most programs do little else; and units, slabs and whole segments go from thread to thread
 * all the same, when one has emptied them. How: four threads, each with 2,000 blocks of its own, of
 * all sizes, one replaced at random at a time; now and then all are freed at once, so that slabs
 * become FREE, and then of another class, in another thread. The threads never meet but in the
 * allocator. Edges: `free` of a segment (put_back to try_take), `owner` and the shared stacks
 * (set_nobodys to claim_owner). How long: 2 s.
 */
#include "stress.h"

#define THREADS 4
#define BLOCKS  2000

static void free_all(parcel *mine)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (mine[i] != 0)
            parcel_free(mine[i]);
        mine[i] = 0;
    }
}

static void body(struct worker *w)
{
    static parcel blocks[THREADS][BLOCKS];
    parcel *mine = blocks[w->number];
    while (!stress_over(w)) {
        if (rng_below(&w->rng, 20000) == 0)
            free_all(mine);
        parcel *at = &mine[rng_below(&w->rng, BLOCKS)];
        if (*at != 0)
            parcel_free(*at);
        *at = parcel_make(w, rng_size(&w->rng));
    }
    free_all(mine);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "local");
    stress_expect(2, NULL, 0);
    stress_run(THREADS, body, NULL);
    return stress_end();
}
