/*
 * swing.c: see swing.h.
 *
 * SYNCHRONIZATION: see swing.h.
 */
#include "swing.h"
#include "os.h"

static long get(_Atomic(long) *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

/* Writes to the shared line only where it says something new. */
static void set(_Atomic(long) *value, long to)
{
    if (get(value) != to)
        atomic_store_explicit(value, to, memory_order_relaxed);
}

static void raise(_Atomic(long) *value, long to)
{
    if (to > get(value))
        atomic_store_explicit(value, to, memory_order_relaxed);
}

static long lesser(long a, long b)
{
    return a < b ? a : b;
}

void swing_take(struct swing *s, long amount)
{
    long used = atomic_fetch_add_explicit(&s->used, amount, memory_order_relaxed) + amount;
    long peak = get(&s->peak);
    raise(&s->rise, lesser(used, peak) - get(&s->low));
    raise(&s->high, used);
    if (used > peak) {
        set(&s->peak, used);
        set(&s->low, used);
    }
}

void swing_return(struct swing *s, long amount)
{
    long used = atomic_fetch_sub_explicit(&s->used, amount, memory_order_relaxed) - amount;
    if (used < get(&s->low))
        set(&s->low, used);
}

static void next_window(struct swing *s, uint64_t now)
{
    long used = swing_used(s);
    atomic_store_explicit(&s->since, now, memory_order_relaxed);
    set(&s->rise_before, get(&s->rise));
    set(&s->rise, 0);
    set(&s->peak, get(&s->high));
    set(&s->high, used);
    set(&s->low, used);
}

long swing_width(struct swing *s)
{
    uint64_t now = os_milliseconds(), since = atomic_load_explicit(&s->since, memory_order_relaxed);
    if (since == 0)
        atomic_store_explicit(&s->since, now, memory_order_relaxed);
    else if (now - since > SWING_MS)
        next_window(s, now);
    long rise = get(&s->rise), before = get(&s->rise_before);
    return rise > before ? rise : before;
}
