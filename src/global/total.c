/*
 * total.c: see total.h.
 *
 * SYNCHRONIZATION: see total.h.
 */
#include "total.h"
#include "segment.h"
#include "whale.h"
#include "window.h"

/* Atomic and relaxed. */
static struct {
    _Alignas(HAK_CACHE_LINE) _Atomic(long) high; /* bytes: the most of this window */
    _Atomic(long) before;                        /* the same, of the window before */
    _Atomic(uint64_t) since;                     /* milliseconds: when this window began */
} peak;

long total_used(void)
{
    return segment_used_bytes() + whale_used_bytes();
}

static long note(void)
{
    long used = total_used();
    window_raise(&peak.high, used);
    return used;
}

void total_note(void)
{
    note();
}

static void next_window(long used)
{
    window_set(&peak.before, window_get(&peak.high));
    window_set(&peak.high, used);
}

long total_fallen(void)
{
    long used = note();
    for (unsigned ended = windows_ended(&peak.since); ended > 0; ended--)
        next_window(used);
    long most = max_long(window_get(&peak.high), window_get(&peak.before));
    return max_long(most - used, 0);
}
