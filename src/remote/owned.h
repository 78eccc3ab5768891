/*
 * owned.h: the slabs that a heap owns, and how ownership changes hands: claim, disown, share,
 * drain.
 *
 * A heap keeps, for each class, the slabs that have blocks left ("partial") and those that have
 * none ("full"). Both are bounded, in number over all classes and in bytes of free blocks. Beyond
 * that the oldest are given up, so that a thread that goes idle strands little: what others free
 * into a slab that it owns waits for it, or for who relieves it (fast/relief.h), and what is left
 * in it is nobody else's to take before. But a free into a slab of one's own takes no locked
 * instruction, where a claim and its end take two, for each block if a large structure is dropped
 * in an order of its own. So a heap may own many partial slabs as long as few blocks come back into
 * them from others: it is "undisturbed". Then it may also own as many full ones as it gave up for
 * nothing: its own frees came back into them. Of a class that the heap only frees, or allocates now
 * and then, it owns none: it takes what it wants from a slab, or puts its blocks into it
 * ("deposit"), and leaves it to whoever wants it, at once. So it does with what is nobody's while it
 * has its fill. Nor does it own slabs of one block, which have none left whenever that is out.
 *
 * SYNCHRONIZATION. Claiming is a CAS of the slab's `owner` from UNOWNED or SHARED (acquire), giving
 * up an exchange (release). Both sides of the race between giving up and a remote push look twice:
 *
 *     who gives up:  owner = UNOWNED or SHARED;  barrier;  remote stack not empty?  claim it back
 *     who pushes:    push on the remote stack;   barrier;  no owner?                claim it
 *
 * so that at least one of them sees the other, and what was pushed is never left in a slab that
 * nobody will look at. Descriptors are type-stable, so the second look is safe even if the slab has
 * become something else; and a claim of what has no owner is right, whoever makes it.
 *
 * All functions here are called by who runs the heap of `o`: its thread, in a slow path, or who has
 * seized it meanwhile (fast/relief.h). "Owner only" is said of that. No function waits.
 */
#ifndef HAK_OWNED_H
#define HAK_OWNED_H

#include "magazine.h"

TAILQ_HEAD(slab_list, slab);

#define OWNED_TAKEN_LEAST 2u  /* a heap that comes again takes as large a part of what it returns */
#define OWNED_FULL_MOST   16u /* units of slabs that have no block left */
#define OWNED_LEAST       16u /* units of slabs that a heap may own, in any case */
#define OWNED_SHARE       8   /* else such a part of all units in use, by the number of heaps */
#define OWNED_MOST        2048u  /* the same, for who is undisturbed */
#define OWNED_PARTS       2u     /* and so many times all units in use, by the number of heaps */
#define OWNED_IDLE_LEAST  MIB(1) /* bytes of free blocks in them that it may keep, in any case */
#define OWNED_IDLE_SHARE  64     /* such a part of all that is in use, as above */
#define OWNED_SPARE_SHARE 16     /* free units that it keeps: a 16th, as above */

struct owned {
    uintptr_t owner; /* constant: who its tokens say (global/unit_word.h) */
    struct slab_list partial[SIZE_CLASS_COUNT]; /* owner only */
    struct slab_list full[SIZE_CLASS_COUNT];    /* owner only */
    uint32_t full_count, partial_count;         /* owner only: units of slabs, over all classes */
    size_t idle_bytes; /* owner only: of free blocks in the partial slabs */
    uint32_t
        count_most;    /* owner only: units of slabs that it may own, as of the last look around */
    size_t idle_most;  /* owner only: idle bytes beyond which slabs are given up */
    size_t claim_most; /* owner only: the same, beyond which none is claimed for a few blocks */
    size_t part; /* owner only: bytes in use, by the number of heaps, as of the last look around */
    size_t taken, returned;   /* owner only: units, of late: older ones count by halves */
    uint32_t own_back;        /* owner only: blocks of late that it freed itself, of any slab */
    uint32_t others_back;     /* owner only: the same, that others freed into what it owns */
    bool undisturbed;         /* owner only: these are few */
    uint32_t full_learned;    /* owner only: units of full slabs that it may own while it is so */
    uint32_t waits;           /* owner only: chains pushed on others' slabs, since the last look */
    unsigned awaited_class;   /* owner only: of the last of these */
    uintptr_t awaited;        /* owner only: whose slab that was */
    uint32_t fresh;           /* owner only: new units taken, a count */
    struct magazine magazine; /* owner only */
    uint64_t deposits;        /* owner only: a bit for each class of which it owns no slab */
};

static_assert(SIZE_CLASS_COUNT <= 64, "a bit a class");

/* owner: of no other. At first it owns none of any class. The magazine stays. */
void owned_init(struct owned *o, uintptr_t owner);

HAK_INLINE uintptr_t owned_token(const struct owned *o, unsigned class_no)
{
    return unit_word(o->owner, class_no);
}

HAK_INLINE bool is_token_of(const struct owned *o, uintptr_t word)
{
    return (word & UNIT_OWNERS) == o->owner;
}

HAK_INLINE bool owned_has(const struct owned *o, struct slab *s)
{
    return is_token_of(o, atomic_load_explicit(&s->owner, memory_order_relaxed));
}

/* Units of slabs, over all classes. */
HAK_INLINE uint32_t owned_count(const struct owned *o)
{
    return o->full_count + o->partial_count;
}

/* The same, and free units. */
HAK_INLINE uint32_t owned_units(const struct owned *o)
{
    return owned_count(o) + o->magazine.count;
}

/* As much as it may have. */
HAK_INLINE bool owned_is_full(const struct owned *o)
{
    return o->idle_bytes > o->idle_most || owned_count(o) > o->count_most;
}

/* A slab of this class with room: a partial one, or a full one that others have freed into, or a
 * SHARED one, or a new one. It is in the partial list. NULL: out of memory. */
struct slab *owned_find(struct owned *o, unsigned class_no);
/* The same without the last two: they cost shared cache lines. */
struct slab *owned_find_own(struct owned *o, unsigned class_no);
/* Blocks of a slab that owned_find gave. */
struct chain owned_take(struct owned *o, struct slab *s);
/* A few blocks (slab.h), and the slab goes on to whoever wants some next. */
struct chain owned_take_few(struct owned *o, struct slab *s, unsigned doubled);
/* Takes back blocks of a slab that o owns. The slab may be gone afterwards. */
void owned_put(struct owned *o, struct slab *s, struct chain chain);

/* Takes back blocks of a slab that o owns, or may claim for them, and that are in the cache, so that
 * they go out again in the order of their addresses. False: it may not, and they are out still. */
bool owned_put_or_claim(struct owned *o, struct slab *s, struct chain chain);

/* Whether one more block of s goes back with no change to any list: it is o's own, has had room
 * before, and has blocks out after; and no other has freed into it. */
HAK_INLINE bool owned_is_for_one(const struct owned *o, struct slab *s)
{
    return owned_has(o, s) && slab_has_free_owner(s) && slab_used(s) > 1 &&
           lf_stack_is_empty(&s->remote) && !owned_is_full(o);
}

/* That block, of `bytes`. */
HAK_INLINE void owned_put_one(struct owned *o, struct slab *s, struct block *b, size_t bytes)
{
    slab_mark_owner(s, chain_of_one(b));
    o->own_back++;
    o->idle_bytes += bytes;
}

/* Its bounds anew, by how many heaps there are now, and how much is in use. */
void owned_look_around(struct owned *o);
/* The same, for a new thread: what the last one took and returned says nothing of it. */
void owned_begin(struct owned *o);
/* Takes over what others have freed into the oldest partial slab of a class, and into its oldest full
 * one, or a few if they have. By turns it looks at all. */
void owned_look_at_oldest(struct owned *o, unsigned class_no);
/* Gives up a few slabs of a class, if it is beyond them, or is to own none. They are looked at anew
 * first, if it is undisturbed: then units that it keeps may go back as well. */
void owned_keep_bounds(struct owned *o, unsigned class_no);

/* Makes o the owner if the slab has none. It then takes over what is in the remote stack, and the
 * slab may be gone already if the caller has no block of it. If o owns none of its class, it takes
 * over what is there, and the slab is nobody's again. False: it has an owner, or is free. */
bool owned_claim(struct owned *o, struct slab *s);
/* Frees a chain of blocks at once, wherever their slab belongs. */
void owned_push_remote(struct owned *o, struct slab *s, struct chain chain);
/* The same for a caller that has no heap at all, since there was no memory for one. */
void remote_push_ownerless(struct slab *s, struct chain chain);
/* Units that the heap's thread took, and those that its own frees returned. */
void owned_takes(struct owned *o, size_t units);
/* The same; whether it comes again. */
bool owned_returns(struct owned *o, size_t units);
/* Whether it takes about as many as it returns, and so will likely want what it frees
 * (global/swing.h). */
HAK_INLINE bool owned_comes_again(const struct owned *o)
{
    return o->taken * OWNED_TAKEN_LEAST >= o->returned;
}

/* It claims no slab of this class for itself any more; what it owns stays. */
HAK_INLINE void owned_claim_none(struct owned *o, unsigned class_no)
{
    o->deposits |= (uint64_t)1 << class_no;
}

/* Whether the heap is to own no slabs of this class from now on: it gives up some at once, and the
 * rest by and by. */
void owned_set_none(struct owned *o, unsigned class_no, bool none);
/* Gives up so many slabs at most, those of this class first, and the free units that it keeps. 0:
 * there was nothing. */
unsigned owned_give_up(struct owned *o, unsigned class_no, unsigned most);
/* Gives up every slab. Nothing is known of who disturbs whom then. */
void owned_disown_all(struct owned *o);

#endif
