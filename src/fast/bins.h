/*
 * bins.h: how many blocks the bins of a heap hold, and how they go back to their slabs.
 *
 * How much a bin holds at most: nothing, until it first ran out. Then little, and its heap owns no
 * slab of the class, while it seldom runs out: that many threads allocate a little of each class is
 * common, and bins and slabs of their own would cost them more than their blocks do. Once a class
 * is in demand, 96 KiB. A bin that runs over again and again, and never runs out, is of a thread
 * that only frees: each block that it keeps may be the last of its slab, so it keeps ever fewer,
 * 128 or less, and once it has not run out for about a second, none, until it does. One that runs
 * over and out by turns is of a thread whose use swings by more than fits in: it may keep more; of
 * small blocks only if little is in use, since in the order they were freed in, they are scattered
 * over all that is; and of blocks above 2 KiB 2 MiB at most, since threads that free for each other
 * would hold what differs by chance. A thread that slept has bins of 24 KiB, until it was awake for
 * a while.
 *
 * SYNCHRONIZATION: all of it for who has the heap: its thread, in a slow path (bins_bytes: anywhere
 * inside malloc or free), or who mends or adopts it.
 */
#ifndef HAK_BINS_H
#define HAK_BINS_H

#include "heap.h"

/* A class is in demand when its bin has run out as often as this, each time soon after the last and
 * with twice as many blocks. */
#define DEMAND_MOST 4

HAK_INLINE bool bins_in_demand(const struct heap *h, unsigned class_no)
{
    return h->demand[class_no] == DEMAND_MOST;
}

/* Blocks that a call gives back at most, unless it empties a bin for good. */
#define BINS_FLUSH_MOST 4096

/* Gives back `count` blocks, the last freed first. The bin may be of another heap of the same
 * thread, if h is borrowed. */
void bins_flush(struct heap *h, struct bin *bin, unsigned class_no, int32_t count);
/* Of a bin that has run over, of a class in demand: a few blocks, which are in the cache yet. To
 * walk a list that is not takes longer than all the rest of a free. */
void bins_flush_full(struct heap *h, unsigned class_no);
/* What it holds at most follows; before it is refilled, or after some went back. */
void bins_ran_out(struct heap *h, unsigned class_no);
void bins_ran_over(struct heap *h, unsigned class_no);
/* Before each refill, and now and then where only large blocks come and go. It looks at the classes
 * by turns: one whose bin ran out long ago is not in demand any more. */
void bins_begin_refill(struct heap *h);

/* For who has taken memory from the system since the last look: bins that have grown, and were not
 * used meanwhile, give back some of what is in them. */
void bins_shrink_stale(struct heap *h);

HAK_INLINE bool bins_may_be_stale(const struct heap *h)
{
    return h->owned.fresh != h->fresh_seen;
}

/* Of a heap that was just taken over: its bounds are another thread's. */
void bins_begin(struct heap *h);
/* The counts anew: it was left between two steps of a fast path. */
void bins_recount(struct heap *h);
/* What is in them; what is in the heap's slabs is not. */
size_t bins_bytes(const struct heap *h);
/* All of it goes back, and they hold nothing, until they run out. */
void bins_empty(struct heap *h);

#endif
