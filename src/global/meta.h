/*
 * meta.h: memory for hakmem's own descriptors. What it gives is never returned and never unmapped:
 * once a descriptor, always a descriptor of the same type. That is what lets a thread look at one
 * it no longer owns.
 *
 * SYNCHRONIZATION: lock-free; any thread, signal handlers included.
 */
#ifndef HAK_META_H
#define HAK_META_H

#include "base.h"

#define META_MAX KIB(64)

/* `bytes` (at most META_MAX) of zeroed memory on a cache line of its own; NULL if the system
 * refuses. */
void *meta_alloc(size_t bytes);
/* Bytes mapped for metadata so far. */
size_t meta_mapped(void);

#endif
