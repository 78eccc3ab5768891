/*
 * looks: the two second looks of a slab's owner and of who frees into it, one slab after the other.
 *
 * Why: an owner gives a slab up and looks at its remote stack again; who pushes a block there looks
 * at the owner again. If one did not, the block would stay in a slab that nobody looks at. The next
 * free into the slab, or the next search for one, would find it, and so a busy program hides it:
 * there must be none. How: in rounds of two threads. One makes sixteen slabs' worth of blocks, of
 * which two fit into a slab, and hands them over. The other frees every second one; then, at a
 * sign, the first gives all its slabs up, by a trim, while the second frees the rest, in the same
 * order, after a delay that varies. Then it gives up what it came to own, by a trim, and no block
 * may be out: looked up each few rounds, in the statistics. Signs are relaxed, but for those.
 * Edges: `owner` from set_nobodys to claim_owner; push on `remote` to drain; both second looks. How
 * long: 2 s.
 */
#include "stress.h"

#include <sched.h>

#define BLOCKS  32 /* OWNED_LEAST slabs of two */
#define BYTES   32768
#define STAMPED 64                /* to write the rest would take the time */
#define KEEP    ((size_t)1 << 30) /* of free pages: only the slabs are to be given up */
#define CHECKED 4                 /* one round in so many is looked up */

static slot slots[BLOCKS];
static _Atomic(uint32_t) halves, signs, freed; /* rounds that got so far */
static _Atomic(bool) over;

/* False: the scenario is over. */
static bool wait_for(_Atomic(uint32_t) *what, uint32_t round)
{
    for (unsigned i = 1; atomic_load_explicit(what, memory_order_relaxed) < round; i++) {
        if (atomic_load_explicit(&over, memory_order_relaxed))
            return false;
        if (i % 1024 == 0)
            sched_yield();
    }
    return true;
}

static void hand_over(struct worker *w)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        void *p = block_make_part(w, BYTES, STAMPED);
        if (p == NULL)
            stress_fail("out of memory");
        slot_put(&slots[i], parcel_of(p));
    }
}

static void look_up(uint32_t round)
{
    while (atomic_load_explicit(&freed, memory_order_acquire) < round)
        continue;
    size_t out = hak_mallinfo2().uordblks;
    if (out != 0)
        stress_fail("round %u: all blocks were freed, but %zu bytes are out", round, out);
}

static void give_up(struct worker *w)
{
    for (uint32_t round = 1; !stress_over(w); round++) {
        hand_over(w);
        wait_for(&halves, round);
        atomic_store_explicit(&signs, round, memory_order_relaxed);
        hak_malloc_trim(KEEP);
        wait_for(&freed, round);
        if (round % CHECKED == 0)
            look_up(round);
        w->met++;
    }
    atomic_store_explicit(&over, true, memory_order_relaxed);
}

/* Every second one, in the order in which they come. */
static void free_half(unsigned first)
{
    for (unsigned i = first; i < BLOCKS; i += 2) {
        parcel x = 0;
        while (x == 0 && !atomic_load_explicit(&over, memory_order_relaxed))
            x = slot_take(&slots[i]);
        if (x != 0)
            parcel_free(x);
    }
}

static void delay(struct worker *w)
{
    for (volatile uint64_t left = rng_below(&w->rng, 1000); left > 0; left--)
        continue;
}

static void free_all(struct worker *w)
{
    for (uint32_t round = 1;; round++) {
        free_half(0);
        atomic_store_explicit(&halves, round, memory_order_relaxed);
        if (!wait_for(&signs, round))
            return;
        delay(w);
        free_half(1);
        hak_malloc_trim(KEEP);
        atomic_store_explicit(&freed, round, memory_order_release);
    }
}

static void body(struct worker *w)
{
    if (w->number == 0)
        give_up(w);
    else
        free_all(w);
}

int main(int argc, char **argv)
{
    stress_begin(argc, argv, "looks");
    stress_expect(2, "rounds", 1);
    stress_run(2, body, NULL);
    slots_free(slots, BLOCKS);
    return stress_end();
}
