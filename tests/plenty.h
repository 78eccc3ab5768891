/*
 * plenty.h: keeps so much in use that a heap may keep runs for that alone. Else it may as long as
 * it returns many: how many it does by the clock hangs on the machine.
 */
#ifndef HAK_PLENTY_H
#define HAK_PLENTY_H

#include "fast/heap.h"

#include <hakmem.h>

enum { PLENTY_RUNS = 64 };

static void *plenty[PLENTY_RUNS];

static inline int hold_plenty(void **state)
{
    (void)state;
    for (int i = 0; i < PLENTY_RUNS; i++)
        plenty[i] = hak_malloc(MIB(1));
    heap_current->runs.looks = 0; /* so the next that it frees is told */
    return 0;
}

static inline int let_plenty_go(void **state)
{
    (void)state;
    for (int i = 0; i < PLENTY_RUNS; i++)
        hak_free(plenty[i]);
    return 0;
}

#define TEST_WITH_PLENTY(function)                                                                 \
    cmocka_unit_test_setup_teardown(function, hold_plenty, let_plenty_go)

#endif
