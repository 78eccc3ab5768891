/*
 * aligned: blocks of every alignment, freed by others.
 *
 * Why: an alignment changes the class, or makes a run or a whale of a small block; and free must
 * know without being told. How: two threads make blocks of alignments of 16 bytes to 64 KiB, now
 * and then to 8 MiB, by each function that there is; two check and free them, by each function too.
 * Blocks go one way only. Edges: as prodcons; and `free` of a segment from put_back to try_take,
 * for runs. How long: 2 s.
 */
#include "stress.h"

#define MAKERS 2
#define SLOTS  128

static slot slots[MAKERS][SLOTS];

static void *allocate(struct rng *rng, size_t alignment, size_t n)
{
    void *p = NULL;
    switch (rng_below(rng, 3)) {
    case 0:
        return hak_aligned_alloc(alignment, n);
    case 1:
        return hak_memalign(alignment, n);
    default:
        return hak_posix_memalign(&p, alignment, n) == 0 ? p : NULL;
    }
}

static parcel make(struct worker *w)
{
    unsigned shift = rng_below(&w->rng, 64) == 0 ? 17 + (unsigned)rng_below(&w->rng, 7)
                                                 : 4 + (unsigned)rng_below(&w->rng, 13);
    size_t n = rng_slab_size(&w->rng), alignment = (size_t)1 << shift;
    void *p = allocate(&w->rng, alignment, n);
    if (p == NULL)
        stress_fail("out of memory at %zu bytes aligned to %zu", n, alignment);
    if (((uintptr_t)p & (alignment - 1)) != 0 || hak_malloc_usable_size(p) < n)
        stress_fail("%zu bytes aligned to %zu: got %p, of %zu bytes", n, alignment, p,
                    hak_malloc_usable_size(p));
    block_receive(w, p, n);
    return parcel_of(p);
}

static parcel make_of_pages(struct worker *w)
{
    size_t n = rng_slab_size(&w->rng);
    void *p = rng_below(&w->rng, 2) == 0 ? hak_valloc(n) : hak_pvalloc(n);
    if (p == NULL || ((uintptr_t)p & 4095) != 0)
        stress_fail("%zu bytes aligned to a page: got %p", n, p);
    block_receive(w, p, n);
    return parcel_of(p);
}

static void body(struct worker *w)
{
    while (!stress_over(w)) {
        slot *which = slots[w->number % MAKERS];
        if (w->number < MAKERS)
            slots_put(w, which, SLOTS, rng_below(&w->rng, 16) == 0 ? make_of_pages(w) : make(w));
        else
            slots_free(which, SLOTS);
    }
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "aligned");
    stress_expect(100, NULL, 0);
    stress_run(2 * MAKERS, body, NULL);
    slots_free(slots[0], MAKERS * SLOTS);
    return stress_end();
}
