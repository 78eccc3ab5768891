/*
 * mend.h: in the child of a fork, what threads had in their hands that are not there any more.
 *
 * All that a thread has in its hands, it has in a slow path: a heap whose thread was in none is
 * whole, and waits for whoever adopts it.
 *
 * SYNCHRONIZATION: see mend_lost.
 */
#ifndef HAK_MEND_H
#define HAK_MEND_H

#include "heap.h"

/* Takes it back: their heaps can be adopted then, and their slabs are nobody's. `own` is the heap of
 * the calling thread, or NULL. By the only thread that there is, in the handler of a fork, if that
 * did not interrupt malloc or free. Async-signal-safe. */
void mend_lost(const struct heap *own);

#endif
