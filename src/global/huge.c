/*
 * huge.c: see huge.h.
 *
 * SYNCHRONIZATION: see huge.h.
 */
#include "huge.h"
#include "os.h"
#include "total.h"

#define HUGE_PAGE    MIB(2)
#define PAGE_SHIFT   12 /* with larger pages the huge ones are too large for any mapping of ours */
#define PROBE_EVERY  8u
#define OLD_AFTER    2u /* mappings of its kind that were made since */
#define PARTS        8u /* of a mapping, all over it, are looked at */
#define PART         KIB(128)
#define SIMILAR      4u   /* times its size: what a mapping speaks for */
#define SLOW_US      1000 /* small pages, at a microsecond or two each, take no longer */
#define PAUSE_LEAST  8u   /* mappings that do not ask, after a slow one */
#define PAUSE_TIMES  4u   /* as many after the next */
#define PAUSE_MOST   1024u
#define ADVISED_MOST (8 * 1024) /* Linux allows 65,530 mappings; each makes two more at most */

static_assert(PARTS * PART <= HUGE_PAGE, "whatever asks has as many parts");

static _Atomic(enum huge_mode) mode = HUGE_WHERE_USED; /* atomic, relaxed; so are all of these */
static _Atomic(unsigned) pause;                        /* mappings that will not ask */
static _Atomic(unsigned) next_pause = PAUSE_LEAST;
static _Atomic(long) advised; /* mappings that have asked, and are there still */

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

static bool is_mode(enum huge_mode wanted)
{
    return atomic_load_explicit(&mode, memory_order_relaxed) == wanted;
}

/* ---- what is used ---- */

/* Eleven sixteenths, since small pages lie unused in any mapping, where blocks do not fill what they
 * are cut from. */
static bool is_used(char *start, size_t bytes)
{
    size_t resident = 0;
    for (size_t i = 0; i < PARTS; i++) {
        size_t at = (bytes - PART) / (PARTS - 1) * i; /* of the blocks in it, each time elsewhere */
        resident += os_resident(start + (at >> PAGE_SHIFT << PAGE_SHIFT), PART, 0);
    }
    return resident >= PARTS * PART / 16 * 11;
}

/* A mapping, in a word: the start, and below its alignment the number of pages. */
static uintptr_t place_of(const char *start, size_t bytes)
{
    return (uintptr_t)start | min_size(bytes >> PAGE_SHIFT, SEGMENT_SIZE - 1);
}

static void look(struct huge_kind *kind, uintptr_t place)
{
    uintptr_t pages = place & (SEGMENT_SIZE - 1);
    size_t bytes = (size_t)pages << PAGE_SHIFT;
    size_t used = is_used((char *)(place - pages), bytes) ? bytes : 0;
    atomic_store_explicit(&kind->used_bytes, used, memory_order_relaxed);
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
static bool are_used(struct huge_kind *kind, size_t bytes)
{
    grow_old(kind);
    uintptr_t old = atomic_load_explicit(&kind->old, memory_order_relaxed);
    if (old != 0)
        look(kind, old);
    return bytes / SIMILAR <= atomic_load_explicit(&kind->used_bytes, memory_order_relaxed);
}

static void keep_sample(struct huge_kind *kind, const char *start, size_t bytes)
{
    if (atomic_load_explicit(&kind->new, memory_order_relaxed) != 0)
        return;
    set(&kind->new_since, get(&kind->made));
    atomic_store_explicit(&kind->new, place_of(start, bytes), memory_order_relaxed);
}

static void drop(_Atomic(uintptr_t) *sample, uintptr_t that)
{
    if (atomic_load_explicit(sample, memory_order_relaxed) == that)
        atomic_store_explicit(sample, 0, memory_order_relaxed);
}

void huge_forget(struct huge_kind *kind, char *start, size_t bytes)
{
    drop(&kind->new, place_of(start, bytes));
    drop(&kind->old, place_of(start, bytes));
}

/* A new one as well, where there is no other: each block may be freed before the next is made. */
void huge_look(struct huge_kind *kind, char *start, size_t bytes)
{
    uintptr_t place = place_of(start, bytes);
    uintptr_t old = atomic_load_explicit(&kind->old, memory_order_relaxed);
    uintptr_t new = atomic_load_explicit(&kind->new, memory_order_relaxed);
    if (old == place || (old == 0 && new == place))
        look(kind, place);
}

/* ---- what it costs ---- */

bool huge_note_touch(unsigned microseconds)
{
    unsigned next = get(&next_pause), more = next * PAUSE_TIMES, less = next / PAUSE_TIMES;
    if (microseconds < SLOW_US) {
        set(&next_pause, less > PAUSE_LEAST ? less : PAUSE_LEAST);
        return true;
    }
    set(&pause, next);
    set(&next_pause, more < PAUSE_MOST ? more : PAUSE_MOST);
    return false;
}

static bool pauses(void)
{
    unsigned left = get(&pause);
    if (left > 0)
        set(&pause, left - 1);
    return left > 0;
}

/* There are not too many yet, and the last ones were not slow. */
static bool is_cheap(void)
{
    return atomic_load_explicit(&advised, memory_order_relaxed) < ADVISED_MOST && !pauses();
}

/* Of what is mapped, and of what was resident at most, the less: that much is used. */
static bool is_enough_used(size_t bytes)
{
    return total_used() >= (long)bytes && os_peak_resident() >= bytes;
}

/* ---- the interface ---- */

/* One mapping in PROBE_EVERY, but not each eighth, since programs repeat themselves: by the golden
 * ratio (Knuth, The Art of Computer Programming 3, 6.4). */
static bool is_probe(unsigned no)
{
    return no * 0x9e3779b1u < UINT32_MAX / PROBE_EVERY;
}

static bool is_wanted(struct huge_kind *kind, size_t bytes)
{
    if (!is_mode(HUGE_WHERE_USED))
        return is_mode(HUGE_ALWAYS);
    unsigned no = atomic_fetch_add_explicit(&kind->made, 1, memory_order_relaxed);
    return are_used(kind, bytes) && !is_probe(no) &&
           is_enough_used(max_size(bytes, kind->used_least)) && is_cheap();
}

enum huge_state huge_stop(enum huge_state state, char *start, size_t bytes)
{
    if (state != HUGE_ASKED)
        return state;
    os_avoid_huge_pages(start, bytes);
    return HUGE_STOPPED;
}

static bool are_pages_small(void)
{
    return os_page_size() == (size_t)1 << PAGE_SHIFT;
}

static enum huge_state ask(enum huge_state state, char *start, size_t bytes)
{
    os_ask_huge_pages(start, bytes);
    if (state == HUGE_NOT_ASKED)
        atomic_fetch_add_explicit(&advised, 1, memory_order_relaxed);
    return HUGE_ASKED;
}

enum huge_state huge_ask(struct huge_kind *kind, char *start, size_t bytes)
{
    if (bytes < HUGE_PAGE || !are_pages_small())
        return HUGE_NOT_ASKED;
    if (!is_wanted(kind, bytes)) {
        keep_sample(kind, start, bytes);
        return HUGE_NOT_ASKED;
    }
    enum huge_state asked = ask(HUGE_NOT_ASKED, start, bytes);
    bool is_fast = huge_note_touch(os_touch(start));
    return is_fast || is_mode(HUGE_ALWAYS) ? asked : huge_stop(asked, start, bytes);
}

static bool is_wanted_to_grow(char *start, size_t had, size_t more)
{
    if (!is_mode(HUGE_WHERE_USED))
        return is_mode(HUGE_ALWAYS);
    return had >= HUGE_PAGE && more >= HUGE_PAGE && more <= had && is_used(start, had) &&
           is_cheap();
}

enum huge_state huge_grow(enum huge_state state, char *start, size_t had, size_t bytes)
{
    if (state == HUGE_ASKED)
        return is_mode(HUGE_ALWAYS) ? state : huge_stop(state, start, bytes);
    if (!are_pages_small() || !is_wanted_to_grow(start, had, bytes - had))
        return state;
    return ask(state, start, bytes);
}

void huge_gone(enum huge_state state)
{
    if (state != HUGE_NOT_ASKED)
        atomic_fetch_sub_explicit(&advised, 1, memory_order_relaxed);
}
