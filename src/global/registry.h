/*
 * registry.h: from an address to what owns it, in two loads.
 *
 * The address space is cut at 32 GiB into leaves (64 GiB where addresses have 48 bits). A leaf has
 * a word for each 64 KiB unit, which is all that free() reads, and a pointer for each 4 MiB, which
 * leads to the segment or whale there:
 *
 *     root[p >> 35] -> leaf ->   word[p >> 16 & 0x7ffff]   what the unit is, and whose
 *                              region[p >> 22 & 0x1fff]     its segment or whale
 *
 * Most frees skip the root: a thread knows the leaf that it last met (`struct registry_near`).
 *
 * A unit's word (global/unit_word.h) answers "mine?" and "which bin?". It is a copy of what the
 * slab's `owner` says, and `owner` decides (global/slab.h). The copy may be behind, with two
 * exceptions that everything rests on: it names a heap only while that heap owns the slab, as seen
 * by who has that heap's slabs at the time (its thread in a slow path, or who has seized it), which
 * wrote both; and to who has a block, it always tells the slab's class, since that can't change
 * while a block is out.
 *
 * SYNCHRONIZATION. Reads are wait-free and take nothing: who frees a block has a live block, and a
 * live block pins its unit's word, its region and its leaf. Leaves are never unmapped. Regions are
 * published by rcu_assign_pointer and read by rcu_dereference; whoever looks at regions *without* a
 * live block in them must be in a read section (registry_walk), and regions are reused and unmapped
 * only after a grace period (global/rcu.h).
 */
#ifndef HAK_REGISTRY_H
#define HAK_REGISTRY_H

#include "base.h"
#include "processor.h"
#include "rcu.h"
#include "unit_word.h"

#define LEAF_SHIFT   (PROCESSOR_ADDRESS_BITS - 12)
#define LEAF_UNITS   ((size_t)1 << (LEAF_SHIFT - UNIT_SHIFT))
#define LEAF_REGIONS ((size_t)1 << (LEAF_SHIFT - SEGMENT_SHIFT))

enum region_kind { REGION_SEGMENT = 1, REGION_WHALE };

/* The head of every segment and whale. */
struct region {
    enum region_kind kind; /* constant while published */
    char *base;            /* constant while published */
    _Atomic(size_t) size;  /* atomic, relaxed: mapped bytes; its holder may resize a whale */
};

HAK_INLINE size_t region_size(const struct region *region)
{
    return atomic_load_explicit(&region->size, memory_order_relaxed);
}

HAK_INLINE void region_set_size(struct region *region, size_t size)
{
    atomic_store_explicit(&region->size, size, memory_order_relaxed);
}

HAK_INLINE void region_init(struct region *region, enum region_kind kind, char *base, size_t size)
{
    region->kind = kind;
    region->base = base;
    region_set_size(region, size);
}

struct registry_leaf {
    _Atomic(uintptr_t) word[LEAF_UNITS]; /* atomic; see above */
    struct region *region[LEAF_REGIONS]; /* RCU */
};

#define REGISTRY_LEAVES ((size_t)1 << (PROCESSOR_ADDRESS_BITS - LEAF_SHIFT))

extern struct registry_leaf *_Atomic registry_root[REGISTRY_LEAVES]; /* atomic; set once */

/* Programs are given no other addresses; but what a program frees may be none. */
HAK_INLINE bool registry_covers(const void *p)
{
    return (uintptr_t)p >> LEAF_SHIFT < REGISTRY_LEAVES;
}

/* The leaf of the addresses around p, of which there are such; NULL: there is none. */
HAK_INLINE struct registry_leaf *registry_leaf_covering(const void *p)
{
    return atomic_load_explicit(&registry_root[(uintptr_t)p >> LEAF_SHIFT], memory_order_acquire);
}

/* The same, of anything. */
HAK_INLINE struct registry_leaf *registry_leaf_of(const void *p)
{
    return HAK_LIKELY(registry_covers(p)) ? registry_leaf_covering(p) : NULL;
}

HAK_INLINE _Atomic(uintptr_t) *registry_word_in(struct registry_leaf *leaf, const void *p)
{
    return &leaf->word[(uintptr_t)p >> UNIT_SHIFT & (LEAF_UNITS - 1)];
}

/* Where a leaf has the region at p. */
HAK_INLINE struct region **registry_slot_in(struct registry_leaf *leaf, const void *p)
{
    return &leaf->region[(uintptr_t)p >> SEGMENT_SHIFT & (LEAF_REGIONS - 1)];
}

/* What the unit of any address is: wait-free, no live block needed. */
HAK_INLINE uintptr_t registry_word(const void *p)
{
    struct registry_leaf *leaf = registry_leaf_of(p);
    if (HAK_UNLIKELY(leaf == NULL))
        return UNIT_FOREIGN;
    return atomic_load_explicit(registry_word_in(leaf, p), memory_order_relaxed);
}

/* A leaf that the caller knows to be near, and where it starts. An address in it leads to its word
 * by one load, not two. That is time: where free() stores next depends on the word, and until a
 * store's address is known the processor holds back loads that come after it. */
struct registry_near {
    uintptr_t base;             /* REGISTRY_FAR: none is near */
    struct registry_leaf *leaf; /* garbage if none is */
};

#define REGISTRY_FAR ((uintptr_t)1 << 63) /* beyond all addresses */

/* False: p is in another leaf. */
HAK_INLINE bool registry_near_word(const struct registry_near *near, const void *p, uintptr_t *word)
{
    size_t at = ((uintptr_t)p - near->base) >> UNIT_SHIFT;
    if (HAK_UNLIKELY(at >= LEAF_UNITS))
        return false;
    *word = atomic_load_explicit(&near->leaf->word[at], memory_order_relaxed);
    return true;
}

/* The leaf of p becomes the one that is near, if it has one. *near is right at every
 * instruction. */
void registry_go_near(struct registry_near *near, const void *p);

/* The unit must lie in a published region. */
HAK_INLINE void registry_set_word(const void *unit, uintptr_t word)
{
    atomic_store_explicit(registry_word_in(registry_leaf_covering(unit), unit), word,
                          memory_order_release);
}

/* The region at an address that the caller pins by a live block, or looks at in a read section;
 * NULL: none. */
struct region *registry_region(const void *p);

/* The same where there is one for certain. */
HAK_INLINE struct region *registry_region_of_block(const void *p)
{
    return hak_rcu_dereference(registry_slot_in(registry_leaf_covering(p), p));
}

/* The region at p, where there is one for certain; NULL: its leaf is not the one that is near. */
HAK_INLINE struct region *registry_near_region(const struct registry_near *near, const void *p)
{
    size_t at = (uintptr_t)p - near->base;
    if (HAK_UNLIKELY(at >> LEAF_SHIFT != 0))
        return NULL;
    return hak_rcu_dereference(&near->leaf->region[at >> SEGMENT_SHIFT]);
}

/* Makes sure that a region at p can be published. False: no memory for a leaf. */
bool registry_prepare(const void *p);
/* False: no memory for a leaf; nothing was published. */
bool registry_publish(struct region *region);
void registry_unpublish(const struct region *region);

/* Calls visit for each region, in the order of addresses, inside an RCU read section; for none,
 * where memory is out and this thread has never walked. visit must not keep the pointer.
 * Signal-safe only in that nothing waits for it. */
void registry_walk(void (*visit)(struct region *region, void *context), void *context);
/* The same for the only thread there is, after a fork: it registers no reader, which takes a
 * mutex. */
void registry_walk_alone(void (*visit)(struct region *region, void *context), void *context);

#endif
