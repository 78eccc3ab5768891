/*
 * shared.h: the slabs that have blocks left and no owner, a stack a class.
 *
 * SYNCHRONIZATION. Descriptors are pushed and popped singly (pop_mpmc), so the stacks are ABA-safe
 * and the nodes type-stable. A descriptor is in one stack at most by each of its two links: whoever
 * turns `linked` from 0 to 1 + class pushes it, whoever pops it turns it back *before* trying to
 * claim the slab. So:
 *
 * - a slab may be claimed, used up, emptied, even be of another class by now, while its descriptor is
 *   linked: who pops it finds its claim refused, or claims a slab of another class and must look;
 * - a slab that is shared again while linked under its class is not pushed again, and is found all the same;
 * - one that is of another class by now is pushed by its second link. Where that is taken too, only a free
 *   into it finds it. So that this stays rare, where classes come and go out of use, a unit that is taken for a new slab
 *   while its descriptor is linked under other classes sees to it that some of these stacks' links are cleared.
 *
 * A thread that is stopped between the pop and the clearing, or between setting a slab SHARED and
 * pushing it, keeps that one slab from being found through the stack, and one that clears links a
 * few; frees into them still claim them.
 */
#ifndef HAK_SHARED_H
#define HAK_SHARED_H

#include "slab.h"

/* The caller has set `owner` to SLAB_SHARED. */
void shared_push(struct slab *s);
/* A slab that was SHARED when it was pushed, and may be anything by now. NULL: none. */
struct slab *shared_pop(unsigned class_no);
/* Of a slab that is the caller's, newly made: clears links under other classes, its own or such as
 * are as old. */
void shared_unlink_stale(struct slab *s);

#endif
