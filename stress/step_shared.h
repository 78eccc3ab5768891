/*
 * step_shared.h: what step and its workload say to each other, in memory that both have mapped.
 *
 * SYNCHRONIZATION: atomic, sequentially consistent. The stepped thread writes `phase` and the
 * texts, step writes `go`, `again` and `asked`, the other thread `answered` and `tid`.
 */
#ifndef STEP_SHARED_H
#define STEP_SHARED_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

enum phase { PHASE_BEFORE, PHASE_INSIDE, PHASE_AFTER, PHASE_OVER };

struct step_shared {
    _Atomic(int) phase;
    _Atomic(int) go;            /* the tracer is ready */
    _Atomic(int) sampled;       /* not every instruction: the longest scenarios are left out */
    _Atomic(int) again;         /* not everything that the scenario is for was met */
    _Atomic(unsigned) decided;  /* calls of which `again` was said */
    _Atomic(unsigned) scenario; /* which it is */
    _Atomic(pid_t) tid;         /* of the other thread */
    _Atomic(uint64_t) asked, answered;
    char from[64];     /* a function, with a space after it; empty: ask from the start */
    char name[64];     /* of the scenario; constant while it runs */
    char expects[256]; /* functions that it must meet, with a space after each */
};

#endif
