/*
 * relief.h: what idle threads strand goes to who wants memory.
 *
 * A heap keeps slabs and runs for its thread. Where that thread comes to no slow path any more,
 * since it sleeps or lives in its bins, nobody else could use them, however much that is. So
 * whoever takes new units looks now and then at some other heaps; one that has been idle for
 * about a tenth of a second it seizes, and gives up some of its slabs. With memory out, or for
 * malloc_trim, all that are in no slow path at the moment are relieved, idle or not. And who frees
 * much into the slabs of others looks whether their threads come for that: else what these had
 * would stay, whole, with a process that goes idle then.
 *
 * Bins, and frees on their way in the out-buffer, stay: the thread comes to these without a slow
 * path.
 *
 * SYNCHRONIZATION: a heap is seized by CAS of its `holder`, a barrier, and a look at `busy`
 * (heap.h). Who seizes does not wait, nor does the heap's thread, which borrows another heap
 * meanwhile; so a part at a time is given up.
 */
#ifndef HAK_RELIEF_H
#define HAK_RELIEF_H

#include "heap.h"

#define RELIEF_EACH 8u /* fresh units: 512 KiB, which cost their page faults already */

HAK_INLINE bool relief_is_due(const struct heap *h)
{
    return h->owned.fresh - h->fresh_relieved >= RELIEF_EACH;
}

/* For a heap that is about to take a slab of this class, or units for a large block: some of the
 * slabs of one idle heap become SHARED, or a run goes back. */
void relief_look(struct heap *h, unsigned class_no);
/* All slabs and runs of all heaps that are in no slow path. False: there were none. */
bool relief_all(void);

#define RELIEF_WAITS  64u /* chains freed into other heaps' slabs */
#define RELIEF_CLOCKS 2u  /* of processor_clock: a whole one at least, if it moves at all */

/* The heap in whose slab the last of so much waits that h has freed may be of a thread that comes to
 * no slow path any more. If it has refilled and flushed nothing (heap_now) since an earlier look, it
 * is relieved of some. Only heaps that heap_of_owner finds. */
void relief_look_at_awaited(struct heap *h);
/* The same of one that was looked at earlier; by turns. */
void relief_of_watched(struct heap *h);

HAK_INLINE void relief_if_awaited(struct heap *h)
{
    if (HAK_UNLIKELY(h->owned.waits >= RELIEF_WAITS))
        relief_look_at_awaited(h);
}

#endif
