/*
 * front.h: what malloc and free read on every call besides the thread's own heap, in one object:
 * the compiler then finds all of it from one address.
 *
 * SYNCHRONIZATION: constant, and in pages that cannot be written to.
 */
#ifndef HAK_FRONT_H
#define HAK_FRONT_H

#include "base.h"

#define SIZE_GRANULE  16
#define SIZE_TINY_MAX KIB(1)

/* A heap that has nothing is zeroes, but for two words (heap.h: `strange` and `near`). */
#define FRONT_NOTHINGS     3
#define FRONT_NOTHING      KIB(4)
#define FRONT_STRANGE      656
#define FRONT_STRANGE_BITS 0xff /* each byte of it */
#define FRONT_FAR          664
#define FRONT_FAR_BITS     0x80 /* the same */

struct front {
    char nothing[FRONT_NOTHINGS][FRONT_NOTHING]; /* the sentinel heaps (fast/heap.h) */
    uint16_t bin_place[SIZE_TINY_MAX + 1];       /* by bytes (global/size_class.h) */
};

extern _Alignas(HAK_CACHE_LINE) const struct front front;

/* &front, hidden from the compiler as a constant: it then adds the places of the parts to the
 * address, where they cost nothing, and not to the index. */
HAK_INLINE const struct front *front_base(void)
{
    const struct front *base = &front;
    HAK_OPAQUE(base);
    return base;
}

#endif
