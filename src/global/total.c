/*
 * total.c: see total.h.
 *
 * SYNCHRONIZATION: see total.h.
 */
#include "total.h"
#include "os.h"
#include "segment.h"
#include "swing.h"
#include "whale.h"

static _Atomic(long) high;      /* atomic, relaxed: bytes, the most of this window */
static _Atomic(long) before;    /* the same, of the window before */
static _Atomic(uint64_t) since; /* atomic, relaxed: milliseconds, when this window began */

static long note(void)
{
    long used = segment_used_bytes() + whale_used_bytes();
    if (used > atomic_load_explicit(&high, memory_order_relaxed))
        atomic_store_explicit(&high, used, memory_order_relaxed);
    return used;
}

void total_note(void)
{
    note();
}

static void next_window(long used)
{
    long most = atomic_exchange_explicit(&high, used, memory_order_relaxed);
    atomic_store_explicit(&before, most, memory_order_relaxed);
}

long total_fallen(void)
{
    long used = note();
    uint64_t began = atomic_load_explicit(&since, memory_order_relaxed);
    uint64_t now = os_milliseconds(); /* after `since`: never less */
    if (now - began > SWING_MS &&
        atomic_compare_exchange_strong_explicit(&since, &began, now, memory_order_relaxed,
                                                memory_order_relaxed))
        next_window(used);
    long most = max_long(atomic_load_explicit(&high, memory_order_relaxed),
                         atomic_load_explicit(&before, memory_order_relaxed));
    return max_long(most - used, 0);
}
