/*
 * relief.h: what idle threads strand goes to who wants memory.
 *
 * A heap keeps slabs and runs for its thread. Where that thread comes to no slow path any more,
 * since it sleeps or lives in its bins, nobody else could use them, however much that is. So
 * whoever takes new units looks now and then at some other heaps; one that has been idle for
 * about a tenth of a second it seizes, and gives up some of its slabs. With memory out, or for
 * malloc_trim, all that are in no slow path at the moment are relieved, idle or not.
 *
 * Bins, and frees on their way in the out-buffer, stay: the thread comes to these without a slow
 * path.
 *
 * SYNCHRONIZATION: a heap is seized by CAS of its `holder`, a barrier, and a look at `busy` (heap.h). Who seizes does not wait, nor
 * does the heap's thread, which borrows another heap meanwhile; so a part at a time is given up.
 */
#ifndef HAK_RELIEF_H
#define HAK_RELIEF_H

#include "heap.h"

#define RELIEF_EACH 8u /* fresh units: 512 KiB, which cost their page faults already */

HAK_INLINE bool relief_is_due(const struct heap *h)
{
    return h->owned.fresh >= RELIEF_EACH;
}

/* For a heap that is about to take a slab of this class, or units for a large block: some of the
 * slabs of one idle heap become SHARED, or a run goes back. */
void relief_look(struct heap *h, unsigned class_no);
/* All slabs and runs of all heaps that are in no slow path. False: there were none. */
bool relief_all(void);

#endif
