/*
 * counters.c: see counters.h.
 */
#include "counters.h"

#include <stdatomic.h>
#include <stdio.h>

__thread uint64_t counters_mine[COUNTER_COUNT];
static _Atomic(uint64_t) all[COUNTER_COUNT];

void counters_merge(void)
{
    for (int i = 0; i < COUNTER_COUNT; i++) {
        atomic_fetch_add_explicit(&all[i], counters_mine[i], memory_order_relaxed);
        counters_mine[i] = 0;
    }
}

__attribute__((destructor)) static void print(void)
{
    counters_merge();
    fprintf(stderr, "counters");
#define COUNTER_PRINT(name)                                                                        \
    fprintf(stderr, " %s %llu", #name, (unsigned long long)all[COUNTER_##name]);
    COUNTERS(COUNTER_PRINT)
    fprintf(stderr, "\n");
}
