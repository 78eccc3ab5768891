/*
 * huge.c: see huge.h.
 *
 * SYNCHRONIZATION: see huge.h.
 */
#include "huge.h"
#include "os.h"
#include "total.h"

#define HUGE_PAGE   MIB(2)
#define PROBE_EVERY 8u
#define OLD_AFTER   2u   /* mappings of its kind that were made since */
#define SLOW_US     1000 /* small pages, at a microsecond or two each, take no longer */
#define PAUSE_LEAST 4u   /* mappings that do not ask, after a slow one */
#define PAUSE_MOST  256u

static _Atomic(enum huge_mode) mode = HUGE_WHERE_USED; /* atomic, relaxed; so are all of these */
static _Atomic(unsigned) pause;                        /* mappings that will not ask */
static _Atomic(unsigned) next_pause = PAUSE_LEAST;

static unsigned get(_Atomic(unsigned) *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void set(_Atomic(unsigned) *value, unsigned to)
{
    atomic_store_explicit(value, to, memory_order_relaxed);
}

void huge_set_mode(enum huge_mode wanted)
{
    atomic_store_explicit(&mode, wanted, memory_order_relaxed);
    set(&pause, 0);
    set(&next_pause, PAUSE_LEAST);
}

/* ---- what is used ---- */

/* Five eighths, since small pages lie unused in any mapping, where blocks do not fill what they are
 * cut from. */
static bool is_written_to(uintptr_t start, size_t bytes)
{
    return os_resident((void *)start, bytes) >= bytes / 8 * 5;
}

static bool look(struct huge_kind *kind, uintptr_t sample)
{
    bool is_used = is_written_to(sample, kind->sample_bytes);
    atomic_store_explicit(&kind->is_used, is_used, memory_order_relaxed);
    return is_used;
}

static void grow_old(struct huge_kind *kind)
{
    uintptr_t new = atomic_load_explicit(&kind->new, memory_order_relaxed);
    if (new == 0 || get(&kind->made) - get(&kind->new_since) <= OLD_AFTER)
        return;
    atomic_store_explicit(&kind->old, new, memory_order_relaxed);
    atomic_store_explicit(&kind->new, 0, memory_order_relaxed);
}

/* By the old one, or by what was known when it went. */
static bool is_used(struct huge_kind *kind)
{
    grow_old(kind);
    uintptr_t old = atomic_load_explicit(&kind->old, memory_order_relaxed);
    return old != 0 ? look(kind, old) : atomic_load_explicit(&kind->is_used, memory_order_relaxed);
}

static uintptr_t sample_of(const struct huge_kind *kind, char *start, size_t bytes)
{
    return (uintptr_t)start + bytes - kind->sample_bytes;
}

static void keep_sample(struct huge_kind *kind, char *start, size_t bytes)
{
    if (atomic_load_explicit(&kind->new, memory_order_relaxed) != 0)
        return;
    set(&kind->new_since, get(&kind->made));
    atomic_store_explicit(&kind->new, sample_of(kind, start, bytes), memory_order_relaxed);
}

static void drop(_Atomic(uintptr_t) *sample, uintptr_t that)
{
    if (atomic_load_explicit(sample, memory_order_relaxed) == that)
        atomic_store_explicit(sample, 0, memory_order_relaxed);
}

void huge_forget(struct huge_kind *kind, char *start, size_t bytes)
{
    drop(&kind->new, sample_of(kind, start, bytes));
    drop(&kind->old, sample_of(kind, start, bytes));
}

/* A new one as well is looked at, where there is no other: each block may be freed before the next
 * is made. */
void huge_gone(struct huge_kind *kind, char *start, size_t bytes)
{
    uintptr_t sample = sample_of(kind, start, bytes);
    uintptr_t old = atomic_load_explicit(&kind->old, memory_order_relaxed);
    uintptr_t new = atomic_load_explicit(&kind->new, memory_order_relaxed);
    if (old == sample || (old == 0 && new == sample))
        look(kind, sample);
    huge_forget(kind, start, bytes);
}

/* ---- what it costs ---- */

void huge_note_touch(unsigned microseconds)
{
    unsigned next = get(&next_pause);
    if (microseconds < SLOW_US) {
        set(&next_pause, next / 2 > PAUSE_LEAST ? next / 2 : PAUSE_LEAST);
        return;
    }
    set(&pause, next);
    set(&next_pause, next * 2 < PAUSE_MOST ? next * 2 : PAUSE_MOST);
}

static bool pauses(void)
{
    unsigned left = get(&pause);
    if (left > 0)
        set(&pause, left - 1);
    return left > 0;
}

/* ---- the interface ---- */

static bool is_mode(enum huge_mode wanted)
{
    return atomic_load_explicit(&mode, memory_order_relaxed) == wanted;
}

/* What is in use is as much as that, and the last ones were not slow. */
static bool is_worth_it(const struct huge_kind *kind, size_t bytes)
{
    return total_used() >= (long)max_size(bytes, kind->used_least) && !pauses();
}

static bool is_wanted(struct huge_kind *kind, size_t bytes)
{
    if (!is_mode(HUGE_WHERE_USED))
        return is_mode(HUGE_ALWAYS);
    unsigned no = atomic_fetch_add_explicit(&kind->made, 1, memory_order_relaxed);
    return is_used(kind) && no % PROBE_EVERY != 0 && is_worth_it(kind, bytes);
}

static void ask(char *start, size_t bytes, char *first)
{
    os_ask_huge_pages(start, bytes);
    huge_note_touch(os_touch(first));
}

bool huge_ask(struct huge_kind *kind, char *start, size_t bytes)
{
    if (bytes < HUGE_PAGE)
        return false;
    if (is_wanted(kind, bytes)) {
        ask(start, bytes, start);
        return true;
    }
    keep_sample(kind, start, bytes);
    return false;
}

static bool is_wanted_to_grow(const struct huge_kind *kind, char *start, size_t had, size_t more)
{
    if (!is_mode(HUGE_WHERE_USED))
        return is_mode(HUGE_ALWAYS);
    return had >= kind->sample_bytes &&
           is_written_to(sample_of(kind, start, had), kind->sample_bytes) &&
           is_worth_it(kind, more);
}

void huge_ask_to_grow(const struct huge_kind *kind, char *start, size_t had, size_t bytes)
{
    char *first = (char *)align_up((uintptr_t)start + had, HUGE_PAGE);
    if (bytes >= had + 2 * HUGE_PAGE && is_wanted_to_grow(kind, start, had, bytes - had))
        ask(start, bytes, first);
}
