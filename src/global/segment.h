/*
 * segment.h: 4 MiB of address space in 64 units, and the descriptors of the slabs in them.
 *
 * Units are taken from the lowest segment that has some, so that the highest ones empty and go back
 * to the system; those whose pages hold memory already are taken first. Free units with memory in
 * them ("dirty") are bounded, over the whole process, by purge_limit_units, or by what use swings
 * by (swing.h) and a quarter of the limit, if that is more; where it does not swing often, up to
 * what is in use and half of the limit, or an eighth of it for each heap of 32 at most, beyond the
 * limit. Or by the limit and what runs have not fitted into, up to half of what is in use, or what
 * use has just fallen by, up to 16 times the limit. More are given back to the system, a part at
 * each return.
 *
 * A segment may be two huge pages (huge.h). One that is free as a whole is purged as such, and comes
 * again as such; one that is in use in part only if nothing else is left to purge, as small pages,
 * which it is from then on.
 *
 * SYNCHRONIZATION. `free` is claimed and returned by CAS: taking a bit is acquire, returning it is
 * release, and whoever took a bit has the unit alone, and its slab descriptor with it. Its bit in
 * `dirty` is cleared by who has it, and set by that one, or by who takes the first unit of a huge
 * page that it is a part of: it may be set though the unit is clean. Segment descriptors are
 * type-stable: a stale pointer to one finds either no free bit, or units that are really free
 * (`base` is read after the bits are taken). Groups only index them: their `room` bits are hints
 * that are set after a unit became free, and cleared, then looked at again, when none is left.
 * Nothing waits; a thread stopped between two steps keeps at most the units it has taken.
 */
#ifndef HAK_SEGMENT_H
#define HAK_SEGMENT_H

#include "huge.h"
#include "rcu.h"
#include "registry.h"
#include "slab.h"

#define SEGMENT_HALVES 2u
#define UNITS_PER_HALF (UNITS_PER_SEGMENT / SEGMENT_HALVES)

struct segment {
    struct region region;                            /* constant while published */
    struct retired retired;                          /* by who took all units to retire it */
    lf_node spare;                                   /* by the spare stack */
    uint32_t index;                                  /* constant: its place among the groups */
    _Alignas(HAK_CACHE_LINE) _Atomic(uint64_t) free; /* atomic: units nobody has */
    _Atomic(uint64_t) dirty;  /* atomic: units whose pages may hold memory: all those in use, and
                               * all of a huge page of which one was used */
    _Atomic(uint64_t) unused; /* atomic, relaxed: of these, an estimate: units that came with a
                               * huge page, and were not used yet */
    struct slab slab[UNITS_PER_SEGMENT];
    struct slab_marks marks[UNITS_PER_SEGMENT]; /* of each slab, by its owner */
    /* atomic, relaxed: by who maps it, or purges in it; of each half, which may be a huge page */
    _Atomic(enum huge_state) huge[SEGMENT_HALVES];
};

static_assert(offsetof(struct segment, marks) ==
                  offsetof(struct segment, slab) + UNITS_PER_SEGMENT * sizeof(struct slab),
              "slab_marks_of finds them behind the slabs");

/* Units that somebody took. `units` is 0 if there were none. */
struct units {
    struct segment *segment;
    unsigned first;
    unsigned units;
    bool zeroed; /* all pages read as zero */
};

/* 1 <= count <= UNITS_PER_SEGMENT; the first unit's address is a multiple of `alignment` (a power
 * of two, at most SEGMENT_SIZE). Maps a new segment if need be, but not for more than half of one
 * and less than three quarters. */
struct units segment_take(unsigned count, size_t alignment);
/* For a slab of `count` units (a power of two, 2 or more): a row with memory in it; or if there is
 * no memory in free units, any row; or else one unit. As segment_take has them, but rows lie at
 * multiples of their length, so that blocks of a class lie alike in pages, each time. */
struct units segment_take_for_slab(unsigned count);
/* Such a row with memory in it. The segment may be any that there has ever been. */
struct units segment_take_dirty_row(struct segment *s, unsigned count);
/* Up to `most` units with memory in them, the lowest first, as bits. The segment may be any that
 * there has ever been. */
uint64_t segment_take_dirty(struct segment *s, unsigned most);
/* Takes the units that follow, if all are free. */
bool segment_take_at(struct segment *s, unsigned first, unsigned count, bool *zeroed);
/* Who has these units is about to use them. How many came with a huge page and were not used
 * before, by estimate: they are new memory, as zeroed ones are. */
unsigned segment_first_use(struct segment *s, unsigned first, unsigned count);
/* comes_again: see swing_return. */
void segment_return(struct segment *s, unsigned first, unsigned count, bool comes_again);
/* The same, of some that need not lie in a row, as bits. */
void segment_return_set(struct segment *s, uint64_t units, bool comes_again);

HAK_INLINE char *segment_unit(struct segment *s, unsigned unit)
{
    return s->region.base + (size_t)unit * UNIT_SIZE;
}

HAK_INLINE unsigned segment_unit_of(const void *p)
{
    return (unsigned)((uintptr_t)p >> UNIT_SHIFT) % UNITS_PER_SEGMENT;
}

/* The caller has a block at p, which is in a segment. */
HAK_INLINE struct segment *segment_of(const void *p)
{
    return (struct segment *)(void *)registry_region_of_block(p);
}

HAK_INLINE struct slab *slab_of(const void *p)
{
    return slab_whole(&segment_of(p)->slab[segment_unit_of(p)]);
}

/* NULL: its leaf is not the one that is near. */
HAK_INLINE struct slab *slab_near(const struct registry_near *near, const void *p)
{
    struct segment *s = (struct segment *)(void *)registry_near_region(near, p);
    return HAK_LIKELY(s != NULL) ? slab_whole(&s->slab[segment_unit_of(p)]) : NULL;
}

/* Of each of its units. The first one's decides: the child of a fork may find the others behind. */
HAK_INLINE void slab_set_words(struct slab *s, uintptr_t word)
{
    char *unit = s->base, *end = unit + slab_units(s) * UNIT_SIZE;
    for (; unit < end; unit += UNIT_SIZE)
        registry_set_word(unit, word);
}

HAK_INLINE struct segment *segment_of_slab(struct slab *s)
{
    return LF_CONTAINER(s - s->unit, struct segment, slab);
}

/* Purges free units until at most `keep` dirty ones are left; false if there were none to purge. */
bool segment_purge(long keep);
/* Unmaps the empty segments, of which a few stay else: who wants a whale may lack their addresses.
 * False: there were none. */
bool segment_drop_empty(void);
long segment_dirty_units(void);
/* Of units in use. */
long segment_used_bytes(void);
/* A part of what is beyond the bound: what stays shrinks in time where use does not swing any more.
 * `taken`: so many units' worth was just taken, of units or of whales; a larger part. */
void segment_purge_some(long taken);
/* The least bound on dirty free units; 0: none stay. */
void segment_set_purge_limit(long units);
long segment_purge_limit(void);
/* Of units in use, by the number of heaps in use. After a fork these may be counted too few, or too
 * many. */
size_t segment_used_bytes_a_heap(void);
/* In use, 1 at least; counted as above. */
long segment_heaps(void);
/* So many more (or fewer) heaps are in use. */
void segment_count_heaps(long more);
/* In the child of a fork: so many are. */
void segment_set_heaps(long heaps);

/* For the only thread there is, after a fork, outside of all others: the units that vanished
 * threads were taking, returning or purging are free again. */
void segment_take_back(void);
/* For the same: the descriptor of each unit of a slab. */
void segment_each_slab(void (*visit)(struct slab *));

#endif
