/*
 * window.h: windows of time over which use is watched, and the highs in them (swing.h, total.h).
 *
 * A window lasts WINDOW_MS at least. It ends when somebody asks; the first begins when somebody
 * does for the first time.
 *
 * SYNCHRONIZATION: all is atomic and relaxed. A window is ended by who changes its start; threads
 * that meet may lose each other's highs, so that what is told from them is an estimate.
 */
#ifndef HAK_WINDOW_H
#define HAK_WINDOW_H

#include "base.h"
#include "os.h"

#define WINDOW_MS    1000u
#define WINDOWS_MOST 10u /* after which next to nothing is left of what is halved */

HAK_INLINE long window_get(_Atomic(long) *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

HAK_INLINE void window_set(_Atomic(long) *value, long to)
{
    atomic_store_explicit(value, to, memory_order_relaxed);
}

/* Writes to the shared line only where it says something new. */
HAK_INLINE void window_raise(_Atomic(long) *value, long to)
{
    if (to > window_get(value))
        window_set(value, to);
}

/* How many windows have ended: none, that which was under way, or more, if nobody asked for so long.
 * One thread only is told. `since`: in milliseconds, when this one began; 0: nobody has asked. */
HAK_INLINE unsigned windows_ended(_Atomic(uint64_t) *since)
{
    uint64_t began = atomic_load_explicit(since, memory_order_relaxed);
    uint64_t now = os_milliseconds(); /* after `began`: never less */
    if (began != 0 && now - began < WINDOW_MS)
        return 0;
    if (!atomic_compare_exchange_strong_explicit(since, &began, now, memory_order_relaxed,
                                                 memory_order_relaxed) ||
        began == 0)
        return 0;
    uint64_t ended = (now - began) / WINDOW_MS;
    return ended < WINDOWS_MOST ? (unsigned)ended : WINDOWS_MOST;
}

#endif
