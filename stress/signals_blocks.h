/*
 * signals_blocks.h: stamped blocks of the plain interface, for the scenarios that run under a
 * preloaded allocator. All of it may be called by signal handlers.
 *
 * A block says who made it, in which turn and how long it is, and the rest of it is a pattern of
 * these. It is written whole by who makes it and checked whole by who frees or resizes it.
 *
 * SYNCHRONIZATION: a block is one thread's at a time; it changes hands by atomic exchange of a
 * slot.
 */
#ifndef SIGNALS_BLOCKS_H
#define SIGNALS_BLOCKS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SIZE_LEAST 16u

struct stamp {
    uint32_t owner;
    uint32_t sequence;
    uint64_t bytes;
};

/* splitmix64 (Steele, Lea, Flood 2014); an interrupted step may give a number twice. */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* 16 bytes to 2 MiB: all tiers, the dear ones rarely. */
size_t random_size(uint64_t random);

/* Writes a line and ends the process with `status`: at once, from a handler as well. */
void complain(int status, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

/* By malloc, calloc (found zero) or aligned_alloc, as `random` has it. */
void *block_make(uint32_t owner, uint32_t sequence, uint64_t random);
/* To another random size; what was in it is checked before and after. */
void *block_resize(void *p, uint32_t owner, uint32_t sequence, uint64_t random);
/* Ends the process if the block is not as its maker left it. */
void block_check(const void *p);
/* Checks, overwrites and frees it; free must keep errno. NULL is allowed. */
void block_free(void *p);

/* If set, what the thread is filling or checking is there as well, so that who survives it can free
 * it. */
extern __thread _Atomic(void *) *block_in_hand;

/* A field of /proc/self/status in KiB ("VmHWM:"), -1 if it is not there. Allocates nothing. */
long status_kib(const char *field);

#endif
