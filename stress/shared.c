/*
 * shared: the stacks of SHARED slabs, pushed and popped by all.
 *
 * Why: they are popped singly, by the double-word CAS, and the slabs in them may be claimed,
 * emptied and of another class meanwhile: the place for ABA. How: four threads, two classes at a
 * time. Each makes blocks for some forty slabs, frees most of them at random and keeps the rest for
 * later turns, so that its slabs are partly free and beyond what a heap may own: they are given up
 * to the stacks, and what is made next comes from there. The threads never meet but in the
 * allocator. Edges: shared_push to shared_pop; `linked`; `owner` from set_nobodys to claim_owner.
 * How long: 2 s.
 */
#include "stress.h"

#define THREADS 4
#define BLOCKS  1024

static parcel blocks[THREADS][BLOCKS];

static void make_all(struct worker *w, size_t n)
{
    for (unsigned i = 0; i < BLOCKS; i++)
        if (blocks[w->number][i] == 0)
            blocks[w->number][i] = parcel_make(w, n);
}

static void free_some(struct worker *w, uint64_t of_eight)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        parcel *x = &blocks[w->number][i];
        if (*x == 0 || rng_below(&w->rng, 8) >= of_eight)
            continue;
        parcel_free(*x);
        *x = 0;
    }
}

static void body(struct worker *w)
{
    while (!stress_over(w)) {
        make_all(w, rng_below(&w->rng, 2) == 0 ? 2048 : 2560);
        free_some(w, 7);
        if (rng_below(&w->rng, 16) == 0)
            free_some(w, 8);
    }
    free_some(w, 8);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "shared");
    stress_expect(100, NULL, 0);
    stress_run(THREADS, body, NULL);
    return stress_end();
}
