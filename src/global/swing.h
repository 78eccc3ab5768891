/*
 * swing.h: by how much what is in use has fallen and risen again of late.
 *
 * Memory that was given back to the system and is wanted again costs its pages anew; memory that is
 * kept and not wanted is waste. What use has fallen by and risen to again will likely be wanted
 * once more, so that much is worth keeping. Growth proves nothing, nor does what merely stays in
 * use. The first fall proves little: what it leaves is worth keeping up to a bound, for a while,
 * and if it is the work of who takes as well.
 *
 * As far as use falls below where it rose from, it does not swing any more: it goes.
 *
 * It swings often if it fell below half of what it had come to, and rose again by half of that
 * fall, SWING_OFTEN times in the two windows; where the peak has more than doubled since, these do
 * not count. It need not rise to where it had been: phases of a program need as much as each needs,
 * and one that needs more than the others would hide that they swing. What is given back then costs
 * its pages that often. Where it swings more seldom, or not as deep, the caller may bound what it
 * keeps by what is in use, and no program loses much time to that. It must be the work of who takes
 * as well that use comes to half: where one makes what another frees, nobody may come again.
 *
 * Two windows of time are remembered, that which is under way and the one before (window.h); of a
 * fall, half with each that ends.
 *
 * SYNCHRONIZATION: all fields are atomic and relaxed, and a window is ended by who changes `since`.
 * Threads that meet may lose each other's highs and lows, and one that is stopped between its count
 * and its low may set that too low: the answer is an estimate, so the caller bounds what it keeps.
 * `used` is exact.
 */
#ifndef HAK_SWING_H
#define HAK_SWING_H

#include "base.h"

#define SWING_OFTEN 3

struct swing {
    /* What calls write to. */
    _Alignas(HAK_CACHE_LINE) _Atomic(long) used; /* in use now, in the caller's measure */
    _Atomic(long) high;                          /* the most of this window */
    _Atomic(long) peak;                          /* the most of this window and the one before */
    _Atomic(long) low;                           /* the least since the peak, or of this window */
    _Atomic(long) rise;   /* how far use rose from `low`, up to `peak` at most: in this window */
    _Atomic(long) crest;  /* the most since it last rose again, and of the two windows */
    _Atomic(long) trough; /* 1 more than the least since it fell below half of the crest; 0: it has
                             not, or has risen again */
    _Atomic(long) fall;   /* how far it fell by the work of who takes as well, and has not risen
                             again; half is forgotten with each window */

    _Atomic(long) fall_most;   /* what counts of that */
    _Atomic(long) rose_from;   /* what was in use where `rise` began: changes seldom */
    _Atomic(long) rise_before; /* of the window before */
    _Atomic(long) rose_from_before;
    _Atomic(long) deep;        /* how often it rose again after it had fallen: in this window */
    _Atomic(long) deep_before; /* the same, of the window before */
    _Atomic(long) deep_peak;   /* the peak of the windows then */
    _Atomic(uint64_t) since;   /* milliseconds: when this window began; 0: nobody has asked */
};

static_assert(offsetof(struct swing, fall_most) == HAK_CACHE_LINE, "calls write to one line");

void swing_take(struct swing *s, long amount);
/* comes_again: the caller takes as much as it returns, or nearly, so that it will likely want it
 * again. */
void swing_return(struct swing *s, long amount, bool comes_again);
/* By how much it has swung. */
long swing_width(struct swing *s);
/* Whether it swings often; as of when swing_width was asked last. */
bool swing_is_often(struct swing *s);

HAK_INLINE long swing_used(struct swing *s)
{
    return atomic_load_explicit(&s->used, memory_order_relaxed);
}

/* How far it fell; as of when swing_width was asked last. */
HAK_INLINE long swing_fall(struct swing *s)
{
    return atomic_load_explicit(&s->fall, memory_order_relaxed);
}

/* What counts of a fall: so many times the limit. Who has set a higher one than is usual wants no
 * more than that. */
HAK_INLINE long swing_fall_bound(long limit, long usual, long times)
{
    return limit <= usual ? limit * times : max_long(usual * times, limit);
}

HAK_INLINE void swing_set_fall_most(struct swing *s, long most)
{
    atomic_store_explicit(&s->fall_most, most, memory_order_relaxed);
}

/* Of what was counted wrong, in the child of a fork. */
HAK_INLINE void swing_set_used(struct swing *s, long used)
{
    atomic_store_explicit(&s->used, used, memory_order_relaxed);
}

#endif
