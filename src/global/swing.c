/*
 * swing.c: see swing.h.
 *
 * SYNCHRONIZATION: see swing.h.
 */
#include "swing.h"
#include "variant.h"
#include "window.h"

static bool was_as_high(struct swing *s, long peak)
{
    return peak / 2 <= window_get(&s->deep_peak);
}

/* Of those who see that it has risen, one counts it. */
static void count_deep(struct swing *s, long used, long peak)
{
    bool counts = was_as_high(s, peak);
    if (atomic_exchange_explicit(&s->trough, 0, memory_order_relaxed) == 0)
        return;
    window_set(&s->crest, used);
    window_set(&s->deep, counts ? window_get(&s->deep) + 1 : 1);
    if (!counts)
        window_set(&s->deep_before, 0);
    window_set(&s->deep_peak, peak);
}

static void watch_rise(struct swing *s, long used, long peak)
{
    long trough = window_get(&s->trough), least = trough - 1;
    if (trough == 0)
        window_raise(&s->crest, used);
    else if (used - least >= (window_get(&s->crest) - least) / 2)
        count_deep(s, used, peak);
}

static void watch_fall(struct swing *s, long used, bool comes_again)
{
    long trough = window_get(&s->trough);
    bool falls = trough != 0 ? used + 1 < trough : comes_again && used < window_get(&s->crest) / 2;
    if (falls)
        window_set(&s->trough, used + 1);
}

/* What stays as low for so long is the crest itself now. */
static void lower_crest(struct swing *s, long high)
{
    long crest = min_long(window_get(&s->crest), high);
    window_set(&s->crest, crest);
    if (window_get(&s->trough) > crest / 2)
        window_set(&s->trough, 0);
}

/* One heap for all threads can't tell who takes from who only frees. */
static void count_fall(struct swing *s, long amount)
{
    long fall = swing_fall(s), most = VARIANT_HEAP_PER_THREAD ? window_get(&s->fall_most) : 0;
    long now = min_long(max_long(fall + amount, 0), most);
    if (now != fall)
        window_set(&s->fall, now);
}

/* What is left of a rise, now that so much is in use. */
static long is_left(long rise, long from, long used)
{
    return max_long(rise - max_long(from - used, 0), 0);
}

/* One from lower down counts by what is left of the last there: what swings on may come down. */
static void note_rise(struct swing *s, long rise, long from)
{
    long last_from = window_get(&s->rose_from);
    if (rise <= is_left(window_get(&s->rise), last_from, from))
        return;
    window_set(&s->rise, rise);
    if (from != last_from)
        window_set(&s->rose_from, from);
}

void swing_take(struct swing *s, long amount)
{
    long used = atomic_fetch_add_explicit(&s->used, amount, memory_order_relaxed) + amount;
    long peak = window_get(&s->peak);
    count_fall(s, -amount);
    long low = window_get(&s->low);
    note_rise(s, min_long(used, peak) - low, low);
    window_raise(&s->high, used);
    /* First the low: one from before this peak would look like a swing. */
    if (used > peak)
        window_raise(&s->low, used);
    window_raise(&s->peak, used);
    watch_rise(s, used, peak);
}

void swing_return(struct swing *s, long amount, bool comes_again)
{
    long used = atomic_fetch_sub_explicit(&s->used, amount, memory_order_relaxed) - amount;
    if (used < window_get(&s->low))
        window_set(&s->low, used);
    watch_fall(s, used, comes_again);
    if (comes_again)
        count_fall(s, amount);
}

static void next_window(struct swing *s)
{
    long used = swing_used(s);
    window_set(&s->rise_before, window_get(&s->rise));
    window_set(&s->rose_from_before, window_get(&s->rose_from));
    window_set(&s->rise, 0);
    window_set(&s->fall, window_get(&s->fall) / 2);
    window_set(&s->deep_before, window_get(&s->deep));
    window_set(&s->deep, 0);
    window_set(&s->peak, window_get(&s->high));
    lower_crest(s, window_get(&s->high));
    window_set(&s->high, used);
    window_set(&s->low, used);
}

long swing_width(struct swing *s)
{
    for (unsigned ended = windows_ended(&s->since); ended > 0; ended--)
        next_window(s);
    long used = swing_used(s);
    return max_long(is_left(window_get(&s->rise), window_get(&s->rose_from), used),
                    is_left(window_get(&s->rise_before), window_get(&s->rose_from_before), used));
}

bool swing_is_often(struct swing *s)
{
    return window_get(&s->deep) + window_get(&s->deep_before) >= SWING_OFTEN &&
           was_as_high(s, window_get(&s->peak));
}
