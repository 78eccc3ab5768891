/*
 * slab.h: a slab is a unit of 64 KiB, or a row of four, cut into blocks of one size class. This is
 * its descriptor, which lives apart from the blocks, in memory that is a slab descriptor for ever.
 * Each unit has one: that of a long slab's first unit stands for the slab, and the others are FREE,
 * and say how far from that they are.
 *
 * SYNCHRONIZATION. `owner` decides who may touch the rest:
 *
 *     FREE -> token of a heap -> UNOWNED (no block left) -> token of any heap -> SHARED (some left)
 *
 * A token is the word that the slab's unit has meanwhile (global/unit_word.h), unless its owner
 * only puts blocks into it, or takes a few, for which it is nobody's word still. It is taken by CAS
 * from UNOWNED or SHARED (acquire; remote/owned.h), and given up by the owner alone, by an exchange
 * (release). "Owner only" fields are handed over by that pair, and by nothing else. The name of a
 * function whose caller must be the owner ends in _owner.
 *
 * Blocks that are "out" are in use, in a bin, in an out-buffer or in the remote stack. A slab with
 * a block out is pinned: it can't become FREE.
 */
#ifndef HAK_SLAB_H
#define HAK_SLAB_H

#include "base.h"
#include "lf_stack.h"
#include "size_class.h"

#include <sys/queue.h>

enum slab_state {
    SLAB_FREE = 0,    /* the descriptor describes nothing: no heap has the unit */
    SLAB_UNOWNED = 1, /* all blocks are out, and no heap owns it */
    SLAB_SHARED = 2,  /* some blocks are left, and no heap owns it */
    SLAB_STATES
};

/* Free blocks of a slab are in a list, which takes a chain from others at once; or they are marked,
 * a bit each, so that they go out again in the order of their addresses, whatever the order they
 * came back in. A program that keeps what it made together, and drops it together, would else find
 * it scattered ever more. Of the smallest class there are too many: they are in the list. */
#define SLAB_MARK_WORDS 32u
#define SLAB_MARKS      (SLAB_MARK_WORDS * 64)

#define SLAB_UNITS_LONG 4u /* of a long slab; it lies at a multiple of as many */

/* A descriptor may be in as many shared stacks (global/shared.h). */
#define SLAB_LINKS 2

struct slab {
    /* Shared by all threads. */
    lf_stack remote; /* blocks freed by threads that don't own it: push_chain and pop_all */
    _Atomic(uintptr_t) owner; /* atomic: a slab_state or a token */
    lf_node link[SLAB_LINKS]; /* in shared stacks: by whoever set `linked` */
    _Atomic(uint8_t)
        linked[SLAB_LINKS];    /* atomic: 0, or 1 + the class in whose shared stack it is */
    _Atomic(uint8_t) class_no; /* atomic: written by the owner, read by claimers and walkers */
    uint16_t unit;             /* constant: which unit of its segment */
    _Atomic(uint8_t) before;   /* atomic, relaxed; who has the unit writes: how many of its slab lie
                                  before it */
    _Atomic(uint8_t) units;    /* atomic, relaxed; owner writes: of a first one: the slab's */

    _Atomic(uintptr_t)
        full_of; /* atomic, relaxed; owner writes: who gave it up since it had too many
                                   full ones; 0: nobody */

    /* Owner only; `used` and `carved` are read by walkers too. */
    _Alignas(HAK_CACHE_LINE) char *base; /* owner only; who has a block may read it */
    struct block *free;                  /* owner only: a list of blocks that are not out */
    struct block *free_last;  /* owner only: the last of them; garbage if there are none */
    uint32_t free_count;      /* owner only: in the list */
    uint32_t marked;          /* owner only: other blocks that are not out */
    _Atomic(uint32_t) used;   /* atomic, relaxed; owner writes: blocks that are out */
    _Atomic(uint32_t) carved; /* atomic, relaxed; owner writes: blocks ever made */
    uint32_t capacity;        /* owner only */
    uint16_t cut;             /* owner only: how many blocks are made at once */
    bool has_pages;           /* owner only: it had them before */
    TAILQ_ENTRY(slab) entry;  /* owner only: in the owner's list (remote/owned.h) */
};

static_assert(sizeof(struct slab) == 2 * HAK_CACHE_LINE, "two lines: shared, and the owner's");

/* Bit n: of block n. Owner only. */
struct slab_marks {
    uint64_t word[SLAB_MARK_WORDS];
};

/* Where segments have them (global/segment.h). */
HAK_INLINE struct slab_marks *slab_marks_of(struct slab *s)
{
    struct slab *first = s - s->unit;
    return (struct slab_marks *)(void *)(first + UNITS_PER_SEGMENT) + s->unit;
}

/* A list of a slab's blocks, on its way to a bin or back. Two registers hold it: a copy of
 * sixteen bytes in memory that were just stored by eights would wait until all stores before
 * them are done. */
struct chain {
    struct block *first;
    int32_t last; /* bytes from the first block to the last */
    uint32_t count;
};

static_assert(sizeof(struct chain) == 16, "it is passed in two registers");

HAK_INLINE struct chain chain_make(struct block *first, const struct block *last, uint32_t count)
{
    return (struct chain){first, (int32_t)((const char *)last - (const char *)first), count};
}

HAK_INLINE struct chain chain_of_one(struct block *b)
{
    return chain_make(b, b, 1);
}

HAK_INLINE struct block *chain_last(struct chain chain)
{
    return (struct block *)(void *)((char *)chain.first + chain.last);
}

/* The one that stands for the slab, given that of a unit that is pinned. */
HAK_INLINE struct slab *slab_whole(struct slab *s)
{
    return s - atomic_load_explicit(&s->before, memory_order_relaxed);
}

HAK_INLINE unsigned slab_units(struct slab *s)
{
    return atomic_load_explicit(&s->units, memory_order_relaxed);
}

HAK_INLINE uint32_t slab_used(struct slab *s)
{
    return atomic_load_explicit(&s->used, memory_order_relaxed);
}

HAK_INLINE void slab_set_used_owner(struct slab *s, uint32_t used)
{
    atomic_store_explicit(&s->used, used, memory_order_relaxed);
}

HAK_INLINE uint32_t slab_carved(struct slab *s)
{
    return atomic_load_explicit(&s->carved, memory_order_relaxed);
}

HAK_INLINE unsigned slab_class(struct slab *s)
{
    return atomic_load_explicit(&s->class_no, memory_order_relaxed);
}

HAK_INLINE size_t slab_block_bytes(struct slab *s)
{
    return size_class_bytes[slab_class(s)];
}

/* Blocks that were out, and are not. */
HAK_INLINE bool slab_has_free_owner(struct slab *s)
{
    return s->free != NULL || s->marked != 0;
}

HAK_INLINE uint32_t slab_free_count_owner(struct slab *s)
{
    return s->free_count + s->marked;
}

HAK_INLINE bool slab_has_room_owner(struct slab *s)
{
    return slab_has_free_owner(s) || slab_carved(s) < s->capacity;
}

/* Makes a slab of units that the caller has taken; the caller then publishes itself as its owner.
 * has_pages: they were in use before, so that to touch it costs no page faults. */
void slab_init_owner(struct slab *s, char *base, unsigned units, unsigned class_no, bool has_pages);
/* All blocks of the free list, in O(1), or all that are marked, or else some freshly cut ones: about
 * a page of them, or a few more if there are pages already. The slab must have room. */
struct chain slab_take_owner(struct slab *s);
/* A few of the free list, or of those that are marked, or else freshly cut ones: one, or as many as
 * fill cache lines and are about half a KiB together, or twice as much as often as `doubled` says.
 * The slab must have room. */
struct chain slab_take_few_owner(struct slab *s, unsigned doubled);
/* How many are marked, by the marks: in the child of a fork `marked` may be wrong. */
uint32_t slab_count_marks_owner(struct slab *s);
/* Takes back a chain of this slab's blocks that are out, in O(1). */
HAK_INLINE void slab_put_owner(struct slab *s, struct chain chain)
{
    struct block *last = chain_last(chain);
    last->next = s->free;
    if (s->free == NULL)
        s->free_last = last;
    atomic_signal_fence(memory_order_seq_cst); /* the list is whole */
    s->free = chain.first;
    s->free_count += chain.count;
    slab_set_used_owner(s, slab_used(s) - chain.count);
}

/* The number of the block at p, or around it. */
HAK_INLINE uint32_t slab_block_number(struct slab *s, const void *p)
{
    return size_blocks_before((uint32_t)((const char *)p - s->base), slab_class(s));
}

/* Says so, and aborts. */
_Noreturn void slab_freed_twice(const struct block *b);

/* The same as slab_put_owner, for a chain that is in the cache: it is walked, and they are
 * marked. */
HAK_INLINE void slab_mark_owner(struct slab *s, struct chain chain)
{
    if (s->capacity > SLAB_MARKS) {
        slab_put_owner(s, chain);
        return;
    }
    uint64_t *word = slab_marks_of(s)->word;
    struct block *b = chain.first;
    for (uint32_t left = chain.count; left > 0; left--, b = b->next) {
        uint32_t n = slab_block_number(s, b);
        uint64_t mark = (uint64_t)1 << n % 64;
        if (HAK_UNLIKELY((word[n / 64] & mark) != 0))
            slab_freed_twice(b);
        word[n / 64] |= mark;
    }
    s->marked += chain.count;
    slab_set_used_owner(s, slab_used(s) - chain.count);
}

/* Whether a block that was ever made starts there; for diagnosis. */
HAK_INLINE bool slab_is_block_start(struct slab *s, const void *p)
{
    uint32_t n = slab_block_number(s, p);
    return n < slab_carved(s) && (const char *)p == s->base + n * slab_block_bytes(s);
}

#endif
