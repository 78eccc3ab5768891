/*
 * segment.c: taking and returning units, purging them, and mapping and unmapping segments.
 *
 * SYNCHRONIZATION: see segment.h.
 */
#include "segment.h"
#include "counters.h"
#include "meta.h"
#include "os.h"
#include "swing.h"
#include "total.h"
#include "window.h"

#include <limits.h>

#define ALL_UNITS          UINT64_MAX
#define SEGMENTS_PER_GROUP 64u
#define GROUPS             (1u << 16) /* 16 TiB */
#define EMPTY_KEPT         4          /* empty segments that stay mapped */
#define RUN_SEARCH_MOST    64u        /* segments too cut up for a run that are looked at */
#define PURGED_MOST        32         /* units at a time, so that a free does not take long */
#define PURGED_MORE                                                                                \
    4 /* times as many as were returned, if that is more: it must keep up; but
                                at most a segment's beyond these */
#define DIRTY_GROUPS_MOST 64u /* groups that are searched for dirty units */
#define DIRTY_LOOKS_RUN   8u  /* segments, where a run is looked for */
#define SWING_MARGIN      4   /* of the limit, a part as large stays beyond what use swings by */
#define PURGE_LIMIT       128 /* units, 8 MiB, if nobody says otherwise */
#define FALL_MOST         16  /* times the limit: what stays of a fall */
#define HEAP_SHARE        8   /* of the limit, a part as large may stay for each heap */
#define HEAPS_MOST        32  /* that count */
#define LEFT_MOST         16u /* units, of a new segment that is mapped for a run of over half of it */
#define HUGE_LEAST_SLABS  MIB(8) /* resident: below, no huge pages */
#define HUGE_LEAST_RUNS   MIB(4)
#define MISFIT_SHARE      2 /* of what is in use, a part as large may not fit */

struct group {
    _Atomic(struct segment *) segment[SEGMENTS_PER_GROUP]; /* constant once set (release) */
    _Atomic(uint8_t)
        cut_up[SEGMENTS_PER_GROUP]; /* atomic: not 0: no run of as many units is free */
};

static _Atomic(struct group *) groups[GROUPS]; /* constant once set, by CAS (release) */
/* Side by side, not in the groups: a search reads eight of them a cache line. */
static _Atomic(uint64_t) room_hints[GROUPS];  /* atomic: of each group, a bit a segment */
static _Atomic(uint64_t) dirty_hints[GROUPS]; /* the same: dirty units among them */
static _Atomic(uint32_t) segments_made;       /* atomic: indices given out */
static lf_stack spare;                        /* segment descriptors without memory */
static _Atomic(long) all_dirty; /* atomic, relaxed: a count of dirty units, free or in use */
static struct swing in_use = {.fall_most = FALL_MOST * PURGE_LIMIT}; /* units */
/* Units of runs that were taken clean, though as many were dirty. Atomic and relaxed. */
static struct {
    _Alignas(HAK_CACHE_LINE) _Atomic(long) now; /* in this window */
    _Atomic(long) before;                       /* in the window before */
    _Atomic(uint64_t) since;                    /* milliseconds: when this window began */
} misfits;
static _Atomic(uint32_t) dirty_group; /* atomic, relaxed: a hint, of the last return */
static _Atomic(long) empty_segments;  /* atomic, relaxed: a count */
static _Atomic(long) refused_units;   /* atomic, relaxed: dirty ones the system keeps (mlock) */
static _Atomic(long) purge_limit_units = PURGE_LIMIT; /* atomic, relaxed */
static _Atomic(long) heaps;                           /* atomic, relaxed: in use */
/* By what they are mapped for: blocks fill slabs, but buffers need not be filled. */
static struct huge_kind for_slabs = {.used_least = HUGE_LEAST_SLABS},
                        for_runs = {.used_least = HUGE_LEAST_RUNS};

static unsigned lowest(uint64_t bits)
{
    return (unsigned)__builtin_ctzll(bits);
}

static uint64_t mask_of(unsigned first, unsigned count)
{
    return (count == UNITS_PER_SEGMENT ? ALL_UNITS : ((uint64_t)1 << count) - 1) << first;
}

static uint64_t mask_of_half(unsigned half)
{
    return mask_of(half * UNITS_PER_HALF, UNITS_PER_HALF);
}

static enum huge_state huge_state(struct segment *s, unsigned half)
{
    return atomic_load_explicit(&s->huge[half], memory_order_relaxed);
}

static void set_huge_state(struct segment *s, unsigned half, enum huge_state state)
{
    atomic_store_explicit(&s->huge[half], state, memory_order_relaxed);
}

/* ---- hints: which segments have room, and for how much ---- */

static struct group *group_at(uint32_t i)
{
    return atomic_load_explicit(&groups[i], memory_order_acquire);
}

static uint32_t group_no(const struct segment *s)
{
    return s->index / SEGMENTS_PER_GROUP;
}

static uint64_t bit_in_group(const struct segment *s)
{
    return (uint64_t)1 << s->index % SEGMENTS_PER_GROUP;
}

static void hint_room(struct segment *s)
{
    _Atomic(uint64_t) *room = &room_hints[group_no(s)];
    if ((atomic_load_explicit(room, memory_order_seq_cst) & bit_in_group(s)) == 0)
        atomic_fetch_or_explicit(room, bit_in_group(s), memory_order_seq_cst);
}

/* A unit that is returned while the hint is cleared would be lost: hence the second look. */
static void hint_full(struct segment *s)
{
    atomic_fetch_and_explicit(&room_hints[group_no(s)], ~bit_in_group(s), memory_order_seq_cst);
    if (atomic_load_explicit(&s->free, memory_order_seq_cst) != 0)
        hint_room(s);
}

static uint64_t dirty_free(struct segment *s)
{
    return atomic_load_explicit(&s->free, memory_order_acquire) &
           atomic_load_explicit(&s->dirty, memory_order_relaxed);
}

/* A hint that is missed for once only costs pages: no second look. Release: who follows it finds
 * the segment. */
static void hint_dirty(struct segment *s)
{
    _Atomic(uint64_t) *dirty = &dirty_hints[group_no(s)];
    if ((atomic_load_explicit(dirty, memory_order_relaxed) & bit_in_group(s)) == 0)
        atomic_fetch_or_explicit(dirty, bit_in_group(s), memory_order_release);
    if (atomic_load_explicit(&dirty_group, memory_order_relaxed) != group_no(s))
        atomic_store_explicit(&dirty_group, group_no(s), memory_order_relaxed);
}

static void hint_clean(struct segment *s)
{
    atomic_fetch_and_explicit(&dirty_hints[group_no(s)], ~bit_in_group(s), memory_order_relaxed);
}

/* Where `count` free units in a row start, as bits. */
static uint64_t starts_of_runs(uint64_t free, unsigned count)
{
    unsigned have = 1;
    while (have < count) {
        unsigned step = have <= count - have ? have : count - have;
        free &= free >> step;
        have += step;
    }
    return free;
}

/* Of the `starts` of runs those where as many are free as are wanted, and no more; all, if there
 * are none. */
static uint64_t fitting_starts(uint64_t free, uint64_t starts, unsigned count)
{
    uint64_t fitting = count == UNITS_PER_SEGMENT
                           ? starts
                           : starts & ~(free << 1) & ~starts_of_runs(free, count + 1);
    return fitting != 0 ? fitting : starts;
}

static _Atomic(uint8_t) *cut_up_of(const struct segment *s)
{
    return &group_at(group_no(s))->cut_up[s->index % SEGMENTS_PER_GROUP];
}

/* By its hint: there is no run of as many. */
static bool lacks_run(uint8_t cut_up, unsigned count)
{
    return cut_up != 0 && cut_up <= count;
}

/* Of `free`, as it is now. */
static void hint_runs(struct segment *s, uint64_t free)
{
    _Atomic(uint8_t) *cut_up = cut_up_of(s);
    uint8_t count = atomic_load_explicit(cut_up, memory_order_seq_cst);
    if (count != 0 && starts_of_runs(free, count) != 0)
        atomic_store_explicit(cut_up, 0, memory_order_seq_cst);
}

/* There was no run of as many. One that is returned meanwhile would be lost: hence the second
 * look. */
static void hint_cut_up(struct segment *s, unsigned count)
{
    _Atomic(uint8_t) *cut_up = cut_up_of(s);
    if (lacks_run(atomic_load_explicit(cut_up, memory_order_relaxed), count))
        return;
    atomic_exchange_explicit(cut_up, (uint8_t)count, memory_order_seq_cst);
    hint_runs(s, atomic_load_explicit(&s->free, memory_order_seq_cst));
}

/* ---- units ---- */

/* The bits were just taken, from `before`. */
static void bits_taken(struct segment *s, uint64_t before, uint64_t mask)
{
    if (before == ALL_UNITS)
        atomic_fetch_sub_explicit(&empty_segments, 1, memory_order_relaxed);
    if (before == mask)
        hint_full(s);
}

static long dirty_of(struct segment *s, uint64_t mask)
{
    return __builtin_popcountll(mask & atomic_load_explicit(&s->dirty, memory_order_relaxed));
}

/* With what comes at the first touch of these, since a huge page comes as a whole. */
static uint64_t with_huge_pages(struct segment *s, uint64_t clean)
{
    uint64_t all = clean;
    for (unsigned half = 0; half < SEGMENT_HALVES; half++)
        if ((clean & mask_of_half(half)) != 0 && huge_state(s, half) == HUGE_ASKED)
            all |= mask_of_half(half);
    return all;
}

/* The caller has these units. Once dirty, they stay so until they are purged: most that come and go
 * change one shared word, and one count. True: all were clean, and read as zero. */
static bool set_dirty(struct segment *s, uint64_t mask)
{
    uint64_t before = atomic_load_explicit(&s->dirty, memory_order_relaxed), clean = mask & ~before;
    if (clean != 0) {
        uint64_t more = with_huge_pages(s, clean);
        if (more != clean)
            atomic_fetch_or_explicit(&s->unused, more & ~before & ~mask, memory_order_relaxed);
        before = atomic_fetch_or_explicit(&s->dirty, more, memory_order_relaxed);
        atomic_fetch_add_explicit(&all_dirty, __builtin_popcountll(more & ~before),
                                  memory_order_relaxed);
        if (more != clean)
            hint_dirty(s);
    }
    return clean == mask;
}

/* The caller has these units. Those that are marked as unused, and are so no more. */
static uint64_t take_unused(struct segment *s, uint64_t mask)
{
    uint64_t unused = mask & atomic_load_explicit(&s->unused, memory_order_relaxed);
    if (unused != 0)
        atomic_fetch_and_explicit(&s->unused, ~unused, memory_order_relaxed);
    return unused;
}

/* The caller has these units, and nobody has used them since. How many were dirty. */
static long set_clean(struct segment *s, uint64_t mask)
{
    uint64_t dirty = mask & atomic_load_explicit(&s->dirty, memory_order_relaxed);
    take_unused(s, mask);
    if (dirty != 0) {
        atomic_fetch_and_explicit(&s->dirty, ~dirty, memory_order_relaxed);
        atomic_fetch_sub_explicit(&all_dirty, __builtin_popcountll(dirty), memory_order_relaxed);
    }
    return __builtin_popcountll(dirty);
}

/* The bits were just taken, from `before`, to be used. True: all the pages read as zero. */
static bool units_taken(struct segment *s, uint64_t before, uint64_t mask)
{
    swing_take(&in_use, __builtin_popcountll(mask));
    bits_taken(s, before, mask);
    return set_dirty(s, mask);
}

static bool try_take(struct segment *s, uint64_t *free, uint64_t mask)
{
    COUNT(cas);
    bool done = atomic_compare_exchange_weak_explicit(&s->free, free, *free & ~mask,
                                                      memory_order_acq_rel, memory_order_acquire);
    COUNT_N(cas_failed, !done);
    return done;
}

static uint64_t aligned_starts(size_t alignment)
{
    if (alignment <= UNIT_SIZE)
        return ALL_UNITS;
    uint64_t starts = 0;
    for (unsigned unit = 0; unit < UNITS_PER_SEGMENT; unit += (unsigned)(alignment / UNIT_SIZE))
        starts |= (uint64_t)1 << unit;
    return starts;
}

/* What is looked for, and how. */
struct search {
    unsigned count;
    uint64_t allowed; /* where it may start */
    uint64_t clean;   /* all bits: clean units will do; none: dirty ones are wanted */
    bool down;        /* from the highest segment down, not from the lowest up */
    unsigned looks;   /* how many more segments, and groups of them, are looked at */
    bool all;         /* those as well that are said to be cut up */
};

static struct units take_from(struct segment *s, const struct search *search)
{
    uint64_t free = atomic_load_explicit(&s->free, memory_order_acquire);
    for (;;) {
        uint64_t dirty = atomic_load_explicit(&s->dirty, memory_order_relaxed);
        uint64_t wanted = free & (dirty | search->clean);
        uint64_t starts = starts_of_runs(wanted, search->count) & search->allowed;
        if (starts == 0)
            return (struct units){0};
        if ((starts & dirty) != 0)
            starts &= dirty;
        if (search->count > 1)
            starts = fitting_starts(wanted, starts, search->count);
        unsigned first = lowest(starts);
        uint64_t mask = mask_of(first, search->count);
        uint64_t before = free;
        if (try_take(s, &free, mask))
            return (struct units){s, first, search->count, units_taken(s, before, mask)};
    }
}

static uint64_t lowest_bits(uint64_t bits, unsigned most)
{
    uint64_t rest = bits;
    for (; most > 0 && rest != 0; most--)
        rest &= rest - 1;
    return bits & ~rest;
}

uint64_t segment_take_dirty(struct segment *s, unsigned most)
{
    uint64_t free = atomic_load_explicit(&s->free, memory_order_acquire);
    for (;;) {
        uint64_t dirty = free & atomic_load_explicit(&s->dirty, memory_order_relaxed);
        uint64_t before = free, units = lowest_bits(dirty, most);
        if (units == 0)
            return 0;
        if (try_take(s, &free, units)) {
            units_taken(s, before, units);
            return units;
        }
    }
}

static struct search search_row(unsigned count, unsigned looks)
{
    return (struct search){count, aligned_starts(count * UNIT_SIZE), 0, false, looks, false};
}

struct units segment_take_dirty_row(struct segment *s, unsigned count)
{
    struct search row = search_row(count, 1);
    return take_from(s, &row);
}

bool segment_take_at(struct segment *s, unsigned first, unsigned count, bool *zeroed)
{
    if (first + count > UNITS_PER_SEGMENT)
        return false;
    uint64_t mask = mask_of(first, count);
    uint64_t free = atomic_load_explicit(&s->free, memory_order_acquire);
    while ((free & mask) == mask) {
        uint64_t before = free;
        if (try_take(s, &free, mask)) {
            *zeroed = units_taken(s, before, mask);
            return true;
        }
    }
    return false;
}

unsigned segment_first_use(struct segment *s, unsigned first, unsigned count)
{
    return (unsigned)__builtin_popcountll(take_unused(s, mask_of(first, count)));
}

/* ---- segments come and go ---- */

static struct group *group_make(uint32_t index)
{
    struct group *group = group_at(index / SEGMENTS_PER_GROUP);
    if (group != NULL)
        return group;
    group = meta_alloc(sizeof *group);
    if (group == NULL)
        return NULL;
    struct group *seen = NULL;
    bool won =
        atomic_compare_exchange_strong_explicit(&groups[index / SEGMENTS_PER_GROUP], &seen, group,
                                                memory_order_acq_rel, memory_order_acquire);
    return won ? group : seen;
}

/* A descriptor without memory, in its group for ever. */
static struct segment *descriptor_make(void)
{
    uint32_t index = atomic_load_explicit(&segments_made, memory_order_relaxed);
    if (index >= GROUPS * SEGMENTS_PER_GROUP)
        return NULL;
    struct segment *s = meta_alloc(sizeof *s);
    if (s == NULL)
        return NULL;
    index = atomic_fetch_add_explicit(&segments_made, 1, memory_order_relaxed);
    struct group *group = index < GROUPS * SEGMENTS_PER_GROUP ? group_make(index) : NULL;
    if (group == NULL)
        return NULL; /* the descriptor is lost; memory is out anyway */
    s->index = index;
    for (unsigned unit = 0; unit < UNITS_PER_SEGMENT; unit++)
        s->slab[unit].unit = (uint16_t)unit;
    atomic_store_explicit(&group->segment[index % SEGMENTS_PER_GROUP], s, memory_order_release);
    return s;
}

static struct segment *descriptor_take(void)
{
    lf_node *node = lf_stack_pop_mpmc(&spare);
    return node != NULL ? LF_CONTAINER(node, struct segment, spare) : descriptor_make();
}

/* For all to take, but those that are not in `free`. */
static void open_units(struct segment *s, uint64_t free)
{
    for (unsigned unit = 0; unit < UNITS_PER_SEGMENT; unit++)
        registry_set_word(segment_unit(s, unit), UNIT_FREE);
    atomic_store_explicit(&s->free, free, memory_order_seq_cst);
    hint_runs(s, free);
    if (free != 0)
        hint_room(s);
}

/* Not in the first: most processes need no more. Nor where nothing that is free is to stay: it would
 * come as a whole, and most of it go back at once. */
static void ask_for_huge_pages(struct segment *s, struct huge_kind *kind, char *base)
{
    enum huge_state state = HUGE_NOT_ASKED;
    if (s->index == 0)
        os_avoid_huge_pages(base, SEGMENT_SIZE);
    else if (segment_purge_limit() != 0)
        state = huge_ask(kind, base, SEGMENT_SIZE);
    for (unsigned half = 0; half < SEGMENT_HALVES; half++)
        set_huge_state(s, half, state);
    if (state != HUGE_NOT_ASKED)
        set_huge_state(s, 0, HUGE_ASKED); /* if it was too slow, it is there all the same */
}

static bool unmap(struct segment *s, char *base)
{
    huge_forget(&for_slabs, base, SEGMENT_SIZE);
    huge_forget(&for_runs, base, SEGMENT_SIZE);
    if (!os_unmap(base, SEGMENT_SIZE))
        return false;
    huge_gone(huge_state(s, 0));
    return true;
}

/* Maps a segment of which the first `count` units are the caller's before anybody sees it. */
static struct units take_from_new(unsigned count, struct huge_kind *kind)
{
    struct segment *s = descriptor_take();
    if (s == NULL)
        return (struct units){0};
    char *base = os_map_aligned(SEGMENT_SIZE, SEGMENT_SIZE);
    if (base != NULL) {
        ask_for_huge_pages(s, kind, base);
        region_init(&s->region, REGION_SEGMENT, base, SEGMENT_SIZE);
        if (registry_publish(&s->region)) {
            set_dirty(s, mask_of(0, count));
            open_units(s, ~mask_of(0, count));
            if (dirty_free(s) != 0)
                hint_dirty(s);
            swing_take(&in_use, count);
            COUNT(segment);
            return (struct units){s, 0, count, true};
        }
        unmap(s, base);
    }
    lf_stack_push(&spare, &s->spare);
    return (struct units){0};
}

static void segment_reclaim(struct retired *retired)
{
    struct segment *s = LF_CONTAINER(retired, struct segment, retired);
    if (unmap(s, s->region.base)) {
        lf_stack_push(&spare, &s->spare);
        return;
    }
    registry_publish(&s->region); /* refused: it stays; its leaf exists, so this can't fail */
    bool purged = os_purge(s->region.base, SEGMENT_SIZE);
    if (!purged)
        set_dirty(s, ALL_UNITS);
    open_units(s, ALL_UNITS);
    if (!purged)
        hint_dirty(s);
    atomic_fetch_add_explicit(&empty_segments, 1, memory_order_relaxed);
}

/* Takes all units of an empty segment, if it still is, and sends it to be unmapped. */
static bool retire_if_empty(struct segment *s)
{
    uint64_t free = ALL_UNITS;
    if (!atomic_compare_exchange_strong_explicit(&s->free, &free, 0, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    bits_taken(s, ALL_UNITS, ALL_UNITS);
    if (set_clean(s, ALL_UNITS) != 0)
        os_purge(s->region.base, SEGMENT_SIZE); /* a reader may delay the unmapping, but not this */
    for (unsigned unit = 0; unit < UNITS_PER_SEGMENT; unit++)
        registry_set_word(segment_unit(s, unit), UNIT_FOREIGN);
    registry_unpublish(&s->region);
    rcu_retire(&s->retired, segment_reclaim);
    return true;
}

/* ---- the search ---- */

static uint32_t group_count(void)
{
    uint32_t made = atomic_load_explicit(&segments_made, memory_order_relaxed);
    uint32_t groups_made = (made + SEGMENTS_PER_GROUP - 1) / SEGMENTS_PER_GROUP;
    return groups_made < GROUPS ? groups_made
                                : GROUPS; /* the count may run over where memory runs out */
}

static unsigned highest(uint64_t bits)
{
    return 63 - (unsigned)__builtin_clzll(bits);
}

/* The hint was late. */
static void mend_hint(struct segment *s, const struct search *search)
{
    if (search->clean != 0 && search->allowed == ALL_UNITS)
        hint_cut_up(s, search->count);
    if (search->clean == 0 && dirty_free(s) == 0)
        hint_clean(s);
    if (atomic_load_explicit(&s->free, memory_order_relaxed) == 0)
        hint_full(s);
}

static uint64_t hints_of(uint32_t at, const struct search *search)
{
    return atomic_load_explicit(search->clean == 0 ? &dirty_hints[at] : &room_hints[at],
                                memory_order_acquire);
}

/* Known to lack such a run. */
static bool is_cut_up(struct group *group, unsigned i, const struct search *search)
{
    uint8_t cut_up = atomic_load_explicit(&group->cut_up[i], memory_order_relaxed);
    return lacks_run(cut_up, search->count) && !search->all;
}

static struct units take_from_group(uint32_t at, struct search *search)
{
    struct units taken = {0};
    uint64_t hints = hints_of(at, search);
    if (hints == 0)
        return taken;
    struct group *group = group_at(at); /* is there: a segment of it has given a hint */
    search->looks--;                    /* for the group: those that are cut up are passed over */
    while (hints != 0 && taken.units == 0 && search->looks > 0) {
        unsigned i = search->down ? highest(hints) : lowest(hints);
        hints &= ~((uint64_t)1 << i);
        if (is_cut_up(group, i, search))
            continue;
        struct segment *s = atomic_load_explicit(&group->segment[i], memory_order_acquire);
        taken = take_from(s, search);
        search->looks--;
        if (taken.units == 0)
            mend_hint(s, search);
    }
    return taken;
}

static struct units search_groups(struct search *search, uint32_t count)
{
    struct units taken = {0};
    for (uint32_t i = 0; i < count && search->looks > 0 && taken.units == 0; i++) {
        uint32_t at = search->down ? count - 1 - i : i;
        if (hints_of(at, search) != 0)
            taken = take_from_group(at, search);
    }
    return taken;
}

/* Where one was returned last, then from the lowest up, not too far. */
static struct units search_dirty(struct search *search)
{
    uint32_t groups_made = group_count(),
             last = atomic_load_explicit(&dirty_group, memory_order_relaxed);
    struct units taken = {0};
    if (last < groups_made)
        taken = take_from_group(last, search);
    if (taken.units != 0)
        return taken;
    return search_groups(search, groups_made < DIRTY_GROUPS_MOST ? groups_made : DIRTY_GROUPS_MOST);
}

/* Blocks of as many units would take a segment each, of which much is left over: twice their
 * addresses, and, where memory is committed or locked as it is mapped, twice their memory. */
static bool leaves_too_much(unsigned count)
{
    return count > UNITS_PER_SEGMENT / 2 && count < UNITS_PER_SEGMENT - LEFT_MOST;
}

/* Dirty units first, wherever they are: they cost no page. Then from the lowest segment up, so that
 * the highest empty; where those are too cut up for a run, from the newest down: that is where the
 * last runs came from. Of a new segment `count_of_new` are taken. */
static struct units take(unsigned count, size_t alignment, unsigned count_of_new)
{
    uint64_t allowed = aligned_starts(alignment);
    struct search dirty = {count, allowed, 0, false, count == 1 ? RUN_SEARCH_MOST : DIRTY_LOOKS_RUN,
                           false};
    struct search any = {count, allowed, ALL_UNITS, false, RUN_SEARCH_MOST, false};
    struct search newest = {count, allowed, ALL_UNITS, true, RUN_SEARCH_MOST, false};
    struct search last = {count, allowed, ALL_UNITS, false, UINT_MAX, true};
    struct units taken = {0};
    COUNT(unit);
    bool has_dirty = segment_dirty_units() >= (long)count;
    if (has_dirty)
        taken = search_dirty(&dirty);
    if (taken.units == 0)
        taken = search_groups(&any, group_count());
    if (taken.units == 0 && any.looks == 0)
        taken = search_groups(&newest, group_count());
    if (taken.units == 0 && leaves_too_much(count))
        return taken;
    if (taken.units == 0)
        taken = take_from_new(count_of_new, count == 1 ? &for_slabs : &for_runs);
    if (taken.units == 0 && count > 1) /* who was to say that one is free may have been stopped */
        taken = search_groups(&last, group_count());
    if (has_dirty && taken.zeroed && count > 1)
        atomic_fetch_add_explicit(&misfits.now, count, memory_order_relaxed);
    return taken;
}

struct units segment_take(unsigned count, size_t alignment)
{
    return take(count, alignment, count);
}

struct units segment_take_for_slab(unsigned count)
{
    struct search row = search_row(count, DIRTY_LOOKS_RUN);
    struct units taken = {0};
    long dirty = segment_dirty_units();
    row.clean = dirty == 0 ? ALL_UNITS : 0;
    if (dirty == 0)
        taken = search_groups(&row, group_count());
    else if (dirty >= (long)count)
        taken = search_dirty(&row);
    return taken.units != 0 ? taken : take(1, UNIT_SIZE, count);
}

/* ---- purging ---- */

/* Of these units only: what is purged of a huge page must not be filled up again, and the page is
 * given back as small ones. Advice on a part of it makes small pages of it all. */
static void stop_huge_pages(struct segment *s, unsigned half, uint64_t mask)
{
    if (huge_state(s, half) != HUGE_ASKED || mask == 0 || mask == mask_of_half(half))
        return;
    char *start = segment_unit(s, half * UNITS_PER_HALF);
    set_huge_state(s, half, huge_stop(HUGE_ASKED, start, UNITS_PER_HALF * UNIT_SIZE));
    os_split_huge_pages(segment_unit(s, lowest(mask)),
                        (unsigned)__builtin_popcountll(mask) * UNIT_SIZE);
}

static bool purge_run(struct segment *s, unsigned first, unsigned count)
{
    for (unsigned half = 0; half < SEGMENT_HALVES; half++)
        stop_huge_pages(s, half, mask_of(first, count) & mask_of_half(half));
    return os_purge(segment_unit(s, first), count * UNIT_SIZE);
}

/* The caller has these units. False: the system took none of them. */
static bool purge_units(struct segment *s, uint64_t mask)
{
    bool any = false;
    while (mask != 0) {
        unsigned first = (unsigned)__builtin_ctzll(mask);
        uint64_t from_first = ~(mask >> first);
        unsigned count =
            from_first == 0 ? UNITS_PER_SEGMENT : (unsigned)__builtin_ctzll(from_first);
        uint64_t run = mask_of(first, count);
        if (purge_run(s, first, count)) {
            set_clean(s, run);
            any = true;
        } else {
            atomic_fetch_add_explicit(&refused_units, dirty_of(s, run), memory_order_relaxed);
        }
        mask &= ~run;
    }
    return any;
}

static void put_back(struct segment *s, uint64_t mask)
{
    COUNT(cas);
    uint64_t before = atomic_fetch_or_explicit(&s->free, mask, memory_order_seq_cst);
    hint_room(s); /* always: who returned the first unit may have been stopped before saying so */
    hint_runs(s, before | mask);
    if ((before | mask) != ALL_UNITS)
        return;
    bool enough = atomic_fetch_add_explicit(&empty_segments, 1, memory_order_relaxed) >= EMPTY_KEPT;
    if (enough && atomic_load_explicit(&s->dirty, memory_order_relaxed) == 0)
        retire_if_empty(s); /* else the purge that comes to its dirty units will */
}

/* Of the free units those that hold memory. If `whole`, a huge page that is in use in part is left
 * alone. */
static uint64_t units_to_purge(struct segment *s, uint64_t free, bool whole)
{
    uint64_t mask = free & atomic_load_explicit(&s->dirty, memory_order_relaxed);
    for (unsigned half = 0; half < SEGMENT_HALVES; half++)
        if (whole && huge_state(s, half) == HUGE_ASKED &&
            (free & mask_of_half(half)) != mask_of_half(half))
            mask &= ~mask_of_half(half);
    return mask;
}

static bool purge_segment(struct segment *s, bool whole)
{
    uint64_t free = atomic_load_explicit(&s->free, memory_order_acquire);
    for (;;) {
        uint64_t mask = units_to_purge(s, free, whole);
        if (mask == 0)
            return false;
        uint64_t before = free;
        if (!try_take(s, &free, mask))
            continue;
        bits_taken(s, before, mask);
        /* Another may have purged them since the look at `dirty`. */
        bool any = purge_units(s, units_to_purge(s, mask, whole));
        put_back(s, mask);
        return any;
    }
}

static bool purge_group(uint32_t at, long keep, bool whole)
{
    bool any = false;
    struct group *group = group_at(at);
    uint64_t room = atomic_load_explicit(&room_hints[at], memory_order_acquire);
    while (room != 0 && segment_dirty_units() > keep) {
        unsigned i = highest(room);
        room &= ~((uint64_t)1 << i);
        any |= purge_segment(atomic_load_explicit(&group->segment[i], memory_order_acquire), whole);
    }
    return any;
}

/* From the highest segment down: units are taken from the lowest up. Those that are refused are
 * counted anew, since all are asked again. */
static bool purge_groups(long keep, bool whole)
{
    bool any = false;
    atomic_store_explicit(&refused_units, 0, memory_order_relaxed);
    for (uint32_t i = group_count(); i-- > 0 && segment_dirty_units() > keep;)
        any |= purge_group(i, keep, whole);
    return any;
}

/* Huge pages that are free as a whole first: they come again as such. */
bool segment_purge(long keep)
{
    bool any = purge_groups(keep, true);
    return segment_dirty_units() > keep ? purge_groups(keep, false) || any : any;
}

static bool drop_empty_of(uint32_t at)
{
    bool any = false;
    struct group *group = group_at(at);
    for (uint64_t room = atomic_load_explicit(&room_hints[at], memory_order_acquire); room != 0;
         room &= room - 1)
        any |= retire_if_empty(
            atomic_load_explicit(&group->segment[lowest(room)], memory_order_acquire));
    return any;
}

bool segment_drop_empty(void)
{
    bool any = false;
    for (uint32_t i = 0; i < group_count(); i++)
        any |= drop_empty_of(i);
    return any;
}

long segment_dirty_units(void)
{
    long all = atomic_load_explicit(&all_dirty, memory_order_relaxed);
    return max_long(all - swing_used(&in_use), 0);
}

long segment_used_bytes(void)
{
    return swing_used(&in_use) * (long)UNIT_SIZE;
}

long segment_purge_limit(void)
{
    return atomic_load_explicit(&purge_limit_units, memory_order_relaxed);
}

void segment_set_purge_limit(long units)
{
    const long most = LONG_MAX / 16; /* what is in use, and for heaps, comes on top */
    units = min_long(units, most);
    atomic_store_explicit(&purge_limit_units, units, memory_order_relaxed);
    swing_set_fall_most(&in_use, swing_fall_bound(units, PURGE_LIMIT, FALL_MOST));
}

long segment_heaps(void)
{
    return max_long(atomic_load_explicit(&heaps, memory_order_relaxed), 1);
}

size_t segment_used_bytes_a_heap(void)
{
    return (size_t)max_long(segment_used_bytes(), 0) / (size_t)segment_heaps();
}

void segment_set_heaps(long now)
{
    atomic_store_explicit(&heaps, now, memory_order_relaxed);
}

/* ---- how much stays dirty ---- */

/* Beyond the limit: what is in use, and half of the limit (some for each heap, if that is more). */
static long dirty_more(long limit)
{
    long for_heaps = min_long(segment_heaps(), HEAPS_MOST) * (limit / HEAP_SHARE);
    return swing_used(&in_use) + max_long(limit / 2, for_heaps);
}

/* What use swings by, as far as whales have not taken it over. Runs may not fit what was freed:
 * hence a part of what is in use, as well. */
static long comes_back(long fallen)
{
    return min_long(swing_width(&in_use), fallen + swing_used(&in_use) / MISFIT_SHARE);
}

/* Runs of steady use, in sizes of all kinds, leave gaps in which the next does not fit. Where that
 * is what happens, the gaps must not be purged to make room for it: it is in the next moment that
 * one of them is large enough. */
static long misfit_units(void)
{
    for (unsigned ended = windows_ended(&misfits.since); ended > 0; ended--) {
        window_set(&misfits.before, window_get(&misfits.now));
        window_set(&misfits.now, 0);
    }
    return min_long(window_get(&misfits.now) + window_get(&misfits.before),
                    swing_used(&in_use) / MISFIT_SHARE);
}

/* At least the limit, and what will be wanted again (and a little more, that estimates may differ).
 * But nobody may be there to give it back once the program does no more: so where it does not swing
 * often, what stays is bounded by what is in use, or else by the limit. */
static long dirty_most(void)
{
    long limit = atomic_load_explicit(&purge_limit_units, memory_order_relaxed);
    long fallen = total_fallen() / (long)UNIT_SIZE;
    long wanted = comes_back(fallen) + limit / SWING_MARGIN;
    if (!swing_is_often(&in_use))
        wanted = min_long(wanted, limit + dirty_more(limit));
    long fell = min_long(swing_fall(&in_use), fallen); /* just now, the same */
    wanted = max_long(wanted, limit + max_long(misfit_units(), fell));
    return limit == 0 ? 0 : max_long(limit, max_long(wanted, swing_used(&in_use) / 8));
}

/* A bounded part at a time: the next who returns units goes on. Where the system refuses (locked
 * memory), it is not asked again for the same units each time. */
static void purge_excess(long returned)
{
    long more = min_long(returned * PURGED_MORE, returned + (long)UNITS_PER_SEGMENT);
    long at_a_time = max_long(more, PURGED_MOST);
    long refused = atomic_load_explicit(&refused_units, memory_order_relaxed);
    long dirty =
        segment_dirty_units() - refused; /* may be too few, until the next purge counts them anew */
    if (dirty <= atomic_load_explicit(&purge_limit_units, memory_order_relaxed))
        return;
    long most = dirty_most(), keep = most - most / 4;
    if (dirty > most)
        segment_purge(refused + max_long(keep, dirty - at_a_time));
}

void segment_purge_some(long taken)
{
    purge_excess(taken);
}

/* One that goes may have been the last that would give back what was kept for it. */
void segment_count_heaps(long more)
{
    atomic_fetch_add_explicit(&heaps, more, memory_order_relaxed);
    if (more < 0)
        segment_purge_some(0);
}

void segment_return(struct segment *s, unsigned first, unsigned count, bool comes_again)
{
    segment_return_set(s, mask_of(first, count), comes_again);
}

void segment_return_set(struct segment *s, uint64_t units, bool comes_again)
{
    long count = __builtin_popcountll(units);
    total_note();
    swing_return(&in_use, count, comes_again);
    put_back(s, units);
    hint_dirty(s);
    purge_excess(count);
}

/* ---- after a fork ---- */

/* In the child of a fork there is one thread: what the others had in their hands is nobody's. */
static bool is_published(struct segment *s)
{
    return s != NULL && s->region.base != NULL && registry_region(s->region.base) == &s->region;
}

static void each_segment(void (*visit)(struct segment *, void *), void *context)
{
    for (uint32_t i = 0; i < group_count() * SEGMENTS_PER_GROUP; i++) {
        struct group *group = group_at(i / SEGMENTS_PER_GROUP);
        struct segment *s = group == NULL
                                ? NULL
                                : atomic_load_explicit(&group->segment[i % SEGMENTS_PER_GROUP],
                                                       memory_order_acquire);
        if (is_published(s))
            visit(s, context);
    }
}

/* Units from this one on that are part of one run or slab, whatever the words of all but the first
 * say; 0: it is not the first of any. */
static unsigned units_in_use(struct segment *s, unsigned unit)
{
    uintptr_t word = registry_word(segment_unit(s, unit)), kind = unit_word_kind(word);
    struct slab *slab = &s->slab[unit];
    if (kind == UNIT_RUN || kind == UNIT_KEPT)
        return unit_word_units(word);
    return unit_word_is_slab(word) && slab_whole(slab) == slab ? slab_units(slab) : 0;
}

/* Neither free nor anything else: they were being taken, returned or purged. All of a segment that
 * was being made or retired are. */
static uint64_t units_in_flight(struct segment *s)
{
    uint64_t free = atomic_load_explicit(&s->free, memory_order_acquire), in_flight = 0;
    for (unsigned unit = 0, used; unit < UNITS_PER_SEGMENT; unit += used != 0 ? used : 1) {
        used = (free >> unit & 1) == 0 ? units_in_use(s, unit) : 1;
        if (used == 0)
            in_flight |= (uint64_t)1 << unit;
    }
    return in_flight;
}

struct unit_counts {
    long dirty, used, empty;
};

static void free_units(struct segment *s, uint64_t mask)
{
    for (uint64_t left = mask; left != 0; left &= left - 1) {
        unsigned unit = lowest(left);
        atomic_store_explicit(&s->slab[unit].owner, SLAB_FREE, memory_order_relaxed);
        registry_set_word(segment_unit(s, unit), UNIT_FREE);
    }
    atomic_fetch_or_explicit(&s->dirty, mask, memory_order_relaxed);
    atomic_fetch_or_explicit(&s->free, mask, memory_order_seq_cst);
}

/* The counts anew, too: a thread that vanished may have had one of its two steps before it. Writes
 * only where it must, since the child copies each page that is written to. */
static void take_back_units(struct segment *s, void *context)
{
    struct unit_counts *counts = context;
    uint64_t in_flight = units_in_flight(s);
    if (in_flight != 0)
        free_units(s, in_flight);
    uint64_t free = atomic_load_explicit(&s->free, memory_order_relaxed);
    hint_runs(s, free);
    if (free != 0)
        hint_room(s);
    if (dirty_free(s) != 0)
        hint_dirty(s);
    counts->dirty += __builtin_popcountll(atomic_load_explicit(&s->dirty, memory_order_relaxed));
    counts->used += __builtin_popcountll(~free);
    counts->empty += free == ALL_UNITS;
}

void segment_take_back(void)
{
    struct unit_counts counts = {0};
    each_segment(take_back_units, &counts);
    atomic_store_explicit(&all_dirty, counts.dirty, memory_order_relaxed);
    swing_set_used(&in_use, counts.used);
    atomic_store_explicit(&empty_segments, counts.empty, memory_order_relaxed);
    atomic_store_explicit(&refused_units, 0, memory_order_relaxed); /* locks are not inherited */
}

static void visit_slabs(struct segment *s, void *context)
{
    void (**visit)(struct slab *) = context;
    uint64_t taken = ~atomic_load_explicit(&s->free, memory_order_acquire);
    for (; taken != 0; taken &= taken - 1) {
        unsigned unit = lowest(taken);
        if (unit_word_is_slab(registry_word(segment_unit(s, unit))))
            (*visit)(&s->slab[unit]);
    }
}

void segment_each_slab(void (*visit)(struct slab *))
{
    each_segment(visit_slabs, &visit);
}
