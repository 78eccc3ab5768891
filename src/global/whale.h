/*
 * whale.h: blocks that are each a mapping of their own: over 4 MiB, and some over 1 MiB
 * (size_class.h). Freed ones wait in a cache, bounded in number, bytes and age, for the next of about
 * their size, or for one that grows.
 *
 * SYNCHRONIZATION: a whale is its holder's; any thread may free it. Cache slots are taken and
 * filled by CAS, descriptors are type-stable.
 */
#ifndef HAK_WHALE_H
#define HAK_WHALE_H

#include "base.h"

/* A power-of-two alignment of any size. *zeroed: before, whether it is to read as zero; after,
 * whether it does. NULL: refused by the system. */
void *whale_alloc(size_t bytes, size_t alignment, bool *zeroed);
/* For a block that has grown, and may do so again: one from the cache with room to grow in, three
 * times as much as it uses at most, and over all the cache's limit and a quarter of what is in use.
 * NULL: there is none. */
void *whale_alloc_to_grow(size_t bytes);
/* The same for one that can't grow where its mapping is: with so many pages that it is better
 * copied there. */
void *whale_roomier(void *p, size_t bytes);
void whale_free(void *p, bool comes_again);
/* That it may use. */
size_t whale_bytes(const void *p);
/* Grows or shrinks it, moving its pages if it must, never copying. NULL: it is unchanged. */
void *whale_resize(void *p, size_t bytes);
/* Unmaps those that have been in the cache for too long. */
void whale_decay(void);
/* And those that are beyond its bound. */
void whale_purge_some(void);
/* Unmaps all cached whales; false if there were none. */
bool whale_drop_cache(void);
size_t whale_cached_bytes(void);
/* Of whales that are not in the cache. */
long whale_used_bytes(void);
void whale_set_cache_limit(size_t bytes);
/* For the only thread there is, after a fork: whales that vanished threads were putting into the
 * cache or taking out of it go there, or are unmapped. */
void whale_take_back(void);

#endif
