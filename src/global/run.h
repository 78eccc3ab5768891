/*
 * run.h: blocks of the L2.5 tier, over 64 KiB and up to 4 MiB: units in a row, inside a segment.
 * From 32 KiB on where it is to be zeroed, for fresh units are, or became as short.
 *
 * SYNCHRONIZATION: a run is its holder's; taking and returning it are those of its units. Any
 * thread may free it.
 */
#ifndef HAK_RUN_H
#define HAK_RUN_H

#include "base.h"

/* bytes <= SEGMENT_SIZE; a power-of-two alignment up to SEGMENT_SIZE. *zeroed: it all reads as
 * zero. NULL: no memory, or a segment would have to be mapped for it, and much of that left over
 * (segment_take). */
void *run_alloc(size_t bytes, size_t alignment, bool *zeroed);
void run_free(void *p, bool comes_again);
/* The same, of one whose word says UNIT_FREE already. */
void run_free_units(void *p, unsigned units, bool comes_again);
size_t run_bytes(const void *p);
/* Makes it smaller or larger where it is. */
bool run_resize(void *p, size_t bytes);

#endif
