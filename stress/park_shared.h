/*
 * park_shared.h: what park and its workload say to each other, in memory that both have mapped; and
 * the few functions that step, its workload and these two share.
 *
 * SYNCHRONIZATION: every field is atomic; relaxed, as they are counts and hints. A worker writes
 * its own slot, park the rest.
 */
#ifndef PARK_SHARED_H
#define PARK_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>

#define PARK_FD    100 /* the workload finds the shared memory there */
#define PARK_SLOTS 64

enum kind { KIND_SMALL, KIND_LARGE, KIND_WHALE, KIND_REMOTE, KIND_STATISTICS, KINDS };

/* A worker. `tid` is 0 as long as nobody has the slot. */
struct slot {
    _Alignas(64) _Atomic(pid_t) tid;
    _Atomic(bool) was_stopped;        /* by park: its next gap is not the allocator's */
    _Atomic(uint64_t) done[KINDS];    /* operations */
    _Atomic(uint64_t) last_ns;        /* when the last one ended */
    _Atomic(uint64_t) worst_stopped;  /* ns between two operations while a thread was stopped */
    _Atomic(uint64_t) worst_ordinary; /* while none was */
};

struct shared {
    _Atomic(uint64_t) seed;
    _Atomic(uint64_t) stopped_since; /* ns; 0: no thread is stopped */
    _Atomic(int32_t) workers;        /* that are alive */
    _Atomic(int32_t) workers_wanted;
    _Atomic(int32_t) newcomers; /* short-lived threads under way */
    _Atomic(int32_t) newcomers_most;
    _Atomic(uint32_t) slots_used;
    struct slot slot[PARK_SLOTS];
};

static inline uint64_t park_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* xorshift64* (Vigna 2016) */
static inline uint64_t park_below(uint64_t *rng, uint64_t bound)
{
    *rng ^= *rng >> 12;
    *rng ^= *rng << 25;
    *rng ^= *rng >> 27;
    return (*rng * 0x2545f4914f6cdd1du >> 20) % bound;
}

/* In the workload: the memory that it shares with the tool that has started it. */
static inline void *park_shared_memory(size_t bytes, const char *tool)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, PARK_FD, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "%s_work: no shared memory; it is started by %s; ending\n", tool, tool);
        exit(2);
    }
    return p;
}

#endif
