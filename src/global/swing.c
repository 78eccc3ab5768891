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

static bool has_fallen(struct swing *s)
{
    return atomic_load_explicit(&s->has_fallen, memory_order_relaxed);
}

static void set_fallen(struct swing *s, bool fallen)
{
    atomic_store_explicit(&s->has_fallen, fallen, memory_order_relaxed);
}

static bool was_as_high(struct swing *s, long peak)
{
    return peak / 2 <= get(&s->deep_peak);
}

static void count_deep(struct swing *s, long peak)
{
    bool counts = was_as_high(s, peak);
    set_fallen(s, false);
    set(&s->deep, counts ? get(&s->deep) + 1 : 1);
    if (!counts)
        set(&s->deep_before, 0);
    set(&s->deep_peak, peak);
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
    if (has_fallen(s) && used > peak - peak / 4)
        count_deep(s, peak);
}

void swing_return(struct swing *s, long amount, bool comes_again)
{
    long used = atomic_fetch_sub_explicit(&s->used, amount, memory_order_relaxed) - amount;
    if (used < get(&s->low))
        set(&s->low, used);
    if (comes_again && !has_fallen(s) && used < get(&s->peak) / 2)
        set_fallen(s, true);
}

static void next_window(struct swing *s)
{
    long used = swing_used(s);
    set(&s->rise_before, get(&s->rise));
    set(&s->rise, 0);
    set(&s->deep_before, get(&s->deep));
    set(&s->deep, 0);
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
    bool is_over = since == 0 || now - since > SWING_MS;
    if (is_over && ends_window(s, since, now) && since != 0) {
        next_window(s);
        if (now - since > 2 * SWING_MS)
            next_window(s); /* nobody asked for so long */
    }
    return max_long(get(&s->rise), get(&s->rise_before));
}

bool swing_is_often(struct swing *s)
{
    return get(&s->deep) + get(&s->deep_before) >= SWING_OFTEN && was_as_high(s, get(&s->peak));
}
