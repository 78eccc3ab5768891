/*
 * relief.c: see relief.h.
 *
 * SYNCHRONIZATION: see relief.h. `in_turn` is atomic: any heap will do, and what it points to is a
 * heap for ever.
 */
#include "relief.h"
#include "processor.h"

#define HEAPS_A_LOOK  16
#define SLABS_AT_ONCE 16u /* each costs two locked operations, on lines that are far */
#define PARTS_MOST    (OWNED_MOST / SLABS_AT_ONCE + RUNS_MOST)

static _Atomic(struct heap *) in_turn; /* release: its list goes on; acquire by who looks next */

static struct heap *next_in_turn(void)
{
    struct heap *h = atomic_load_explicit(&in_turn, memory_order_acquire);
    struct heap *next = h != NULL ? h->all_next : NULL;
    if (next == NULL)
        next = heap_first();
    atomic_store_explicit(&in_turn, next, memory_order_release);
    return next;
}

/* False: it could not be seized, or has nothing. A part at a time: its thread may come for what is
 * left. */
static bool relieve(struct heap *h, unsigned class_no)
{
    if (!heap_keeps_any(h) || !heap_seize(h))
        return false;
    bool any = owned_give_up(&h->owned, class_no, SLABS_AT_ONCE) != 0;
    if (!any && runs_bytes(&h->runs) != 0) {
        runs_drop_one(&h->runs);
        any = true;
    }
    heap_end_seizure(h);
    return any;
}

/* One that had something is asked again at the next fresh slab. */
void relief_look(struct heap *h, unsigned class_no)
{
    bool any = false;
    struct heap *other = atomic_load_explicit(&in_turn, memory_order_acquire);
    long looks = min_long(HEAPS_A_LOOK, max_long(segment_heaps() - 1, 1)); /* but its own */
    for (; looks > 0 && !any; looks--) {
        any = other != NULL && heap_is_idle(other, processor_clock()) && relieve(other, class_no);
        if (!any)
            other = next_in_turn();
    }
    h->fresh_relieved = h->owned.fresh - (any ? RELIEF_EACH - 1 : 0);
}

/* ---- who comes for what is freed into its slabs ---- */

static void watch(struct watched *w, struct heap *other)
{
    *w = (struct watched){other, heap_now(other), processor_clock()};
}

/* Where it is watched, or may be: the place that was looked at last. */
static struct watched *watched_place(struct heap *h, const struct heap *other)
{
    for (unsigned i = 0; i < HEAP_WATCHED; i++)
        if (h->watched[i].heap == other)
            return &h->watched[i];
    return &h->watched[h->watched_next % HEAP_WATCHED];
}

/* If its thread has come to no slow path since. */
static void relieve_watched(struct heap *h, struct watched *w)
{
    if (w->heap == NULL || (uint16_t)(processor_clock() - w->at) < RELIEF_CLOCKS)
        return;
    if (heap_now(w->heap) != w->now)
        watch(w, w->heap);
    else if (!relieve(w->heap, h->owned.awaited_class))
        w->heap = NULL;
}

void relief_look_at_awaited(struct heap *h)
{
    struct heap *other = heap_of_owner(h->owned.awaited);
    h->owned.waits = 0;
    if (other == NULL)
        return;
    struct watched *w = watched_place(h, other);
    if (w->heap == other)
        relieve_watched(h, w);
    else
        watch(w, other);
    relief_of_watched(h);
}

void relief_of_watched(struct heap *h)
{
    relieve_watched(h, &h->watched[++h->watched_next % HEAP_WATCHED]);
}

bool relief_all(void)
{
    bool any = false;
    for (struct heap *h = heap_first(); h != NULL; h = h->all_next)
        for (unsigned parts = PARTS_MOST; parts > 0 && relieve(h, 0); parts--)
            any = true;
    return any;
}
