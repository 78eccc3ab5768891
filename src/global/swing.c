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

static void set(_Atomic(long) *value, long to)
{
    atomic_store_explicit(value, to, memory_order_relaxed);
}

/* Writes to the shared line only where it says something new. */
static void raise(_Atomic(long) *value, long to)
{
    if (to > get(value))
        set(value, to);
}

void swing_take(struct swing *s, long amount)
{
    long used = atomic_fetch_add_explicit(&s->used, amount, memory_order_relaxed) + amount;
    long peak = get(&s->peak);
    raise(&s->rise, min_long(used, peak) - get(&s->low));
    raise(&s->high, used);
    if (used > peak)
        raise(&s->low, used); /* first: a low from before this peak would look like a swing */
    raise(&s->peak, used);
}

void swing_return(struct swing *s, long amount)
{
    long used = atomic_fetch_sub_explicit(&s->used, amount, memory_order_relaxed) - amount;
    if (used < get(&s->low))
        set(&s->low, used);
}

static void next_window(struct swing *s)
{
    long used = swing_used(s);
    set(&s->rise_before, get(&s->rise));
    set(&s->rise, 0);
    set(&s->peak, get(&s->high));
    set(&s->high, used);
    set(&s->low, used);
}

/* One thread only ends it. */
static bool ends_window(struct swing *s, uint64_t since, uint64_t now)
{
    return atomic_compare_exchange_strong_explicit(&s->since, &since, now, memory_order_relaxed,
                                                   memory_order_relaxed);
}

long swing_width(struct swing *s)
{
    uint64_t since = atomic_load_explicit(&s->since, memory_order_relaxed);
    uint64_t now = os_milliseconds(); /* after `since`: never less */
    if ((since == 0 || now - since > SWING_MS) && ends_window(s, since, now) && since != 0)
        next_window(s);
    return max_long(get(&s->rise), get(&s->rise_before));
}
