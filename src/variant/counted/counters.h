/*
 * counters.h, the counting build (libhakmem-counters.so): how often each path is taken. tools/bench
 * prints them; they are what docs/scaling.md starts from.
 *
 * SYNCHRONIZATION: a thread counts for itself, and adds its counts to the process's, by relaxed
 * atomics, when it ends; the process prints them when it ends.
 */
#ifndef HAK_COUNTERS_H
#define HAK_COUNTERS_H

#include <stdint.h>

#define COUNTERS(X)                                                                                \
    X(malloc)       /* calls of malloc */                                                          \
    X(malloc_slow)  /* of which not served from a bin */                                           \
    X(free)         /* calls of free */                                                            \
    X(free_slow)    /* of which not put into a bin or the out-buffer at once */                    \
    X(remote_block) /* blocks freed to another heap's slab */                                      \
    X(remote_chain) /* pushes that took them there */                                              \
    X(cas)          /* compare-and-swaps and exchanges on shared lines, on slow paths */           \
    X(cas_failed)   /* of which had to be done again */                                            \
    X(claim)        /* slabs claimed */                                                            \
    X(disown)       /* full slabs given up */                                                      \
    X(share)        /* partly free slabs given up */                                               \
    X(unit)         /* units taken from segments */                                                \
    X(segment)      /* segments mapped */

#define COUNTER_NAME(name) COUNTER_##name,
enum counter { COUNTERS(COUNTER_NAME) COUNTER_COUNT };

extern __thread uint64_t counters_mine[COUNTER_COUNT] __attribute__((tls_model("initial-exec")));

#define COUNT_N(counter, n) ((void)(counters_mine[COUNTER_##counter] += (n)))
#define COUNT(counter)      COUNT_N(counter, 1)
#define COUNTERS_MERGE()    counters_merge()

void counters_merge(void);

#endif
