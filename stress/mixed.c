/*
 * mixed: everything at once.
 *
 * Why: faults hide between the parts. How: eight threads, each with a table of its own. A thread
 * puts blocks of all sizes into its table and takes them from the tables of all threads of lower
 * numbers and its own, so that most blocks are freed, reallocated or checked by a thread that did
 * not make them; one in a thousand operations trims, one in a hundred reallocates, some are aligned
 * or zeroed. Since blocks go from lower to higher numbers only, what comes back is ordered by the
 * allocator alone: all its edges. How long: 2 s.
 */
#include "stress.h"

#include <string.h>

#define THREADS 8
#define TABLE   512

static slot table[THREADS][TABLE];

static parcel make(struct worker *w)
{
    size_t n = rng_size(&w->rng);
    uint64_t dice = rng_below(&w->rng, 32);
    if (dice > 1)
        return parcel_make(w, n);
    void *p =
        dice == 0 ? hak_calloc(1, n) : hak_aligned_alloc((size_t)16 << rng_below(&w->rng, 14), n);
    if (p == NULL)
        stress_fail("out of memory at %zu bytes", n);
    for (size_t i = 0; dice == 0 && i < n; i++)
        if (((char *)p)[i] != 0)
            stress_fail("hak_calloc(1, %zu): byte %zu is not zero", n, i);
    block_receive(w, p, n);
    return parcel_of(p);
}

static void body(struct worker *w)
{
    while (!stress_over(w)) {
        parcel mine = make(w);
        if (!slot_put(&table[w->number][rng_below(&w->rng, TABLE)], mine))
            parcel_free(mine);
        unsigned from = (unsigned)rng_below(&w->rng, w->number + 1);
        parcel theirs = slot_take(&table[from][rng_below(&w->rng, TABLE)]);
        uint64_t dice = rng_below(&w->rng, 1000);
        if (theirs == 0)
            continue;
        parcel_check(theirs);
        if (dice < 10)
            theirs = parcel_resize(w, theirs, rng_size(&w->rng));
        parcel_free(theirs);
        if (dice == 999)
            hak_malloc_trim(0);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "mixed");
    stress_expect(10, NULL, 0);
    stress_run(THREADS, body, NULL);
    slots_free(table[0], THREADS * TABLE);
    return stress_end();
}
