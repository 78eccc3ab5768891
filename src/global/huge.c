/*
 * huge.c: see huge.h.
 *
 * SYNCHRONIZATION: see huge.h.
 */
#include "huge.h"
#include "os.h"
#include "total.h"

#define PAGE_SHIFT   12 /* with larger pages the huge ones are too large for any mapping of ours */
#define PROBE_EVERY  16u
#define OLD_AFTER    8u  /* mappings of its kind that were made since: it is full, or stays so */
#define LOOK_EVERY   64u /* frees of mappings that stay */
#define PARTS        8u  /* of a mapping, all over it, are looked at */
#define PART         KIB(128)
#define SIMILAR      4u /* times its size: what a mapping speaks for */
#define SMALL_PAGES  (HUGE_PAGE >> PAGE_SHIFT)
#define SMALL_TIMED  4u    /* small pages, of each mapping that has not asked */
#define SMALL_NS     1500u /* what a small page takes, until it is known */
#define SMALL_SHARE  4     /* of the difference, a part as large is learnt from each */
#define SMALL_MOST   4     /* times what is known: what one can take to be learnt from */
#define LATE_MOST_US 8000  /* that huge pages may take longer than small ones would have */
#define PAUSE_LEAST  8u    /* mappings that do not ask then */
#define PAUSE_TIMES  4u    /* as many the next time */
#define PAUSE_MOST   1024u
#define ADVISED_MOST (8 * 1024) /* Linux allows 65,530 mappings; each makes three more at most */

static_assert(PARTS * PART <= HUGE_PAGE, "whatever asks has as many parts");

static _Atomic(enum huge_mode) mode = HUGE_WHERE_USED; /* atomic, relaxed; so are all of these */
static _Atomic(unsigned) small_ns; /* the first touch of a small page; 0: not known */
static _Atomic(long) late_us;      /* how much longer the last huge ones took than small ones */
static _Atomic(unsigned) pause;    /* mappings that will not ask */
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
    set(&small_ns, 0);
    atomic_store_explicit(&late_us, 0, memory_order_relaxed);
    set(&pause, 0);
    set(&next_pause, PAUSE_LEAST);
}

static bool is_mode(enum huge_mode wanted)
{
    return atomic_load_explicit(&mode, memory_order_relaxed) == wanted;
}

/* ---- what it costs ---- */

/* One that the system was slow with for once does not count for more than some others. */
void huge_note_small(unsigned nanoseconds)
{
    long known = get(&small_ns), took = nanoseconds;
    if (known != 0)
        took = known + (min_long(took, known * SMALL_MOST) - known) / SMALL_SHARE;
    set(&small_ns, (unsigned)took);
}

/* How much later than small ones, with what was before. */
static long lateness(unsigned microseconds)
{
    unsigned known = get(&small_ns);
    long small_us = (long)((known != 0 ? known : SMALL_NS) * SMALL_PAGES / 1000);
    long late = atomic_load_explicit(&late_us, memory_order_relaxed) + microseconds - small_us;
    return min_long(max_long(late, 0), LATE_MOST_US);
}

bool huge_note_touch(unsigned microseconds)
{
    unsigned next = get(&next_pause), more = next * PAUSE_TIMES;
    long late = lateness(microseconds);
    atomic_store_explicit(&late_us, late, memory_order_relaxed);
    if (late == 0)
        set(&next_pause, PAUSE_LEAST); /* they have made up for what was slow */
    if (late < LATE_MOST_US)
        return true;
    atomic_store_explicit(&late_us, LATE_MOST_US / 2, memory_order_relaxed);
    if (get(&pause) != 0)
        return false; /* others were as slow, in the same moment */
    set(&pause, next);
    set(&next_pause, more < PAUSE_MOST ? more : PAUSE_MOST);
    return false;
}

/* The first page comes with a page table, so it is not timed; and where it comes with others,
 * nothing is. */
static void time_small(char *start)
{
    const size_t page = (size_t)1 << PAGE_SHIFT;
    os_touch(start, 1);
    if (os_resident(start + page, SMALL_TIMED * page, page) == 0)
        huge_note_small(os_touch(start + page, SMALL_TIMED) / SMALL_TIMED);
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

/* Of what was mapped and in use, of late, and of what was ever resident (which counts what the
 * process was before execve), the less. */
static bool is_enough_used(size_t bytes)
{
    return total_used() + total_fallen() >= (long)bytes && os_peak_resident() >= bytes;
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

/* False: it is another one. */
static bool drop(_Atomic(uintptr_t) *sample, uintptr_t that)
{
    return atomic_load_explicit(sample, memory_order_relaxed) == that &&
           atomic_compare_exchange_strong_explicit(sample, &that, 0, memory_order_relaxed,
                                                   memory_order_relaxed);
}

/* How much of it is used: all, or none. */
static size_t used_of(uintptr_t place)
{
    uintptr_t pages = place & (SEGMENT_SIZE - 1);
    size_t bytes = (size_t)pages << PAGE_SHIFT;
    return is_used((char *)(place - pages), bytes) ? bytes : 0;
}

static void look(struct huge_kind *kind, uintptr_t place)
{
    atomic_store_explicit(&kind->used_bytes, used_of(place), memory_order_relaxed);
}

/* One that is not full may only not be full yet: many threads fill several by turns. */
static bool is_old(uintptr_t new, unsigned age)
{
    return age > OLD_AFTER || used_of(new) != 0;
}

static void grow_old(struct huge_kind *kind)
{
    uintptr_t new = atomic_load_explicit(&kind->new, memory_order_relaxed);
    if (new == 0 || !is_old(new, get(&kind->made) - get(&kind->new_since)))
        return;
    atomic_store_explicit(&kind->old, new, memory_order_relaxed);
    if (!drop(&kind->new, new)) /* it may have gone meanwhile */
        drop(&kind->old, new);
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

static void keep_sample(struct huge_kind *kind, char *start, size_t bytes)
{
    if (atomic_load_explicit(&kind->new, memory_order_relaxed) != 0)
        return;
    time_small(start);
    set(&kind->new_since, get(&kind->made));
    atomic_store_explicit(&kind->new, place_of(start, bytes), memory_order_relaxed);
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

/* One that is known to be full stays so. */
void huge_look_seldom(struct huge_kind *kind, char *start, size_t bytes)
{
    if (is_mode(HUGE_WHERE_USED) &&
        atomic_load_explicit(&kind->used_bytes, memory_order_relaxed) != bytes &&
        atomic_fetch_add_explicit(&kind->freed, 1, memory_order_relaxed) % LOOK_EVERY == 0)
        huge_look(kind, start, bytes);
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
    return is_enough_used(max_size(bytes, kind->used_least)) && are_used(kind, bytes) &&
           !is_probe(no) && is_cheap();
}

bool huge_is_wanted_still(struct huge_kind *kind, enum huge_state state, size_t bytes)
{
    return state == HUGE_ASKED &&
           (is_mode(HUGE_ALWAYS) || (get(&pause) == 0 && are_used(kind, bytes)));
}

enum huge_state huge_stop(enum huge_state state, char *start, size_t bytes)
{
    if (state != HUGE_ASKED)
        return state;
    return os_avoid_huge_pages(start, bytes) ? HUGE_STOPPED : state;
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
    if (bytes < HUGE_PAGE || !are_pages_small() || is_mode(HUGE_NEVER))
        return HUGE_NOT_ASKED;
    if (!is_wanted(kind, bytes)) {
        keep_sample(kind, start, bytes);
        return HUGE_NOT_ASKED;
    }
    enum huge_state asked = ask(HUGE_NOT_ASKED, start, bytes);
    bool is_fast = huge_note_touch(os_touch(start, 1) / 1000);
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
