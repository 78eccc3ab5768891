/*
 * heap.h: what a thread allocates from: a bin for each size class, the slabs behind them, and the
 * buffer of blocks on their way to other heaps.
 *
 * A thread reaches its heap by one initial-exec TLS pointer, heap_current. Three heaps are sentinels:
 * constant, with empty bins, and no slab's owner, so that malloc misses and free finds nothing its own,
 * by the branches that are there anyway:
 *
 *     HEAP_START   the thread has not allocated yet
 *     HEAP_INSIDE  the thread is inside an entry point. Each stores this on entry and the heap back on
 *                  exit, so a signal handler that interrupts it, and allocates, meets this one
 *     HEAP_GONE    the thread's destructors have run
 *
 * The slow path behind a sentinel works with another heap: a new one for HEAP_START, a borrowed one for
 * the other two. That is what makes malloc and free async-signal-safe.
 *
 * SYNCHRONIZATION. A heap is touched by the thread that holds it, and by nobody else, but for the
 * fields marked atomic. Heaps are type-stable. They change hands through two stacks (release by push,
 * acquire by pop): `parked` heaps come with their blocks and slabs, `spare` ones are empty.
 */
#ifndef HAK_HEAP_H
#define HAK_HEAP_H

#include "../remote/outbuf.h"
#include "variant.h"

struct bin {
    struct block *head; /* last freed, first reused */
    int32_t room;       /* how many more fit before the bin is flushed */
    int32_t limit;      /* room of an empty bin */
};

static_assert(sizeof(struct bin) == SIZE_BIN_BYTES, "size_bin_offset is pre-scaled by it");

struct heap {
    struct bin bin[SIZE_CLASS_COUNT]; /* owner only; first, as tokens are addresses of bins */
    uintptr_t unowned;  /* constant: UNIT_UNOWNED; a sentinel's is far from any unit's word */
    struct outbuf out;  /* owner only */
    struct owned owned; /* owner only */

    lf_node link;             /* by who has it: in `parked` or `spare` */
    struct heap *all_next;    /* constant after publication: the list of all heaps */
    size_t held_bytes;        /* by who has it: what it was parked with */
    _Atomic(uint32_t) holder; /* atomic: 0 in a stack, else HELD of its holder's process */
};

/* `holder`: the fork generation of the process that holds the heap, and whether it is in a slow path. */
#define HEAP_BUSY             1u
#define HEAP_HELD(generation) (((generation) + 1u) << 1)

static_assert(offsetof(struct heap, bin) == 0, "a token minus the heap is an offset of a bin");

/* Of heaps: so a token tells its class, whosesoever it is. */
#define HEAP_ALIGNMENT KIB(1)

HAK_INLINE unsigned token_class(uintptr_t token)
{
    return (unsigned)(token % HEAP_ALIGNMENT / SIZE_BIN_BYTES);
}

static_assert(sizeof((struct heap *)0)->bin <= HEAP_ALIGNMENT, "all bins are in one aligned place");

enum heap_sentinel { HEAP_INSIDE, HEAP_START, HEAP_GONE, HEAP_SENTINELS };

static_assert(HEAP_SENTINELS == FRONT_NOTHINGS && sizeof(struct heap) <= FRONT_NOTHING &&
                  offsetof(struct heap, unowned) == FRONT_NOT_ZERO,
              "sentinels are the nothings of global/front.h");

extern VARIANT_HEAP_STORAGE struct heap *heap_current VARIANT_HEAP_MODEL;

HAK_INLINE struct heap *heap_sentinel(enum heap_sentinel which)
{
    return (struct heap *)(void *)(front_base()->nothing[which]);
}

HAK_INLINE bool heap_is_sentinel(const struct heap *h)
{
    return (uintptr_t)h - (uintptr_t)front.nothing < sizeof front.nothing;
}

/* From here to heap_leave, a signal handler finds HEAP_INSIDE. The fences are for the compiler: a
 * handler runs in this very thread. */
HAK_INLINE struct heap *heap_enter(void)
{
    variant_enter();
    struct heap *h = heap_current;
    heap_current = heap_sentinel(HEAP_INSIDE);
    atomic_signal_fence(memory_order_seq_cst);
    return h;
}

HAK_INLINE void heap_leave(struct heap *h)
{
    atomic_signal_fence(memory_order_seq_cst);
    heap_current = h;
    variant_leave();
}

HAK_INLINE struct bin *heap_bin_at(struct heap *h, size_t offset)
{
    return (struct bin *)((char *)h + offset);
}

/* Where a block goes whose unit has this word: the offset of its bin, if the slab is h's own or nobody's;
 * else more than sizeof h->bin. A program of many slabs meets both in any order, so it must not be a
 * branch: of the two differences, the one that is an offset is the lesser. A sentinel's are both far. */
HAK_INLINE size_t heap_bin_offset(const struct heap *h, uintptr_t word)
{
    return min_size(word - (uintptr_t)h, word - h->unowned);
}

HAK_INLINE void bin_push(struct bin *bin, struct block *b)
{
    b->next = bin->head;
    atomic_signal_fence(memory_order_seq_cst); /* the list is whole at every instruction */
    bin->head = b;
    bin->room--;
}

/* b is the head. */
HAK_INLINE void bin_pop(struct bin *bin, struct block *b)
{
    bin->head = b->next;
    bin->room++;
}

/* The head of the bin, and the heap is left; NULL, and it is not, if the bin is empty. */
HAK_INLINE void *heap_take(struct heap *h, struct bin *bin)
{
    struct block *b = bin->head;
    if (HAK_UNLIKELY(b == NULL))
        return NULL;
    bin_pop(bin, b);
    heap_leave(h);
    return b;
}

/* For the slow paths: the heap to work with, given the one that heap_enter returned; NULL if it was a
 * sentinel and there is no memory for a heap. heap_close ends it, and leaves. */
struct heap *heap_open(struct heap *entered);
void heap_close(struct heap *entered, struct heap *work);

/* Gives back `count` blocks, the last freed first. */
void heap_flush_bin(struct heap *h, struct bin *bin, int32_t count);
/* How much a bin holds at most. One that runs over again and again, and never runs out, is of a thread that only
 * frees: each block that it keeps may be the last of its slab, so it keeps ever fewer, until it runs out. */
void bin_shrink(struct bin *bin);
void bin_grow_back(struct heap *h, struct bin *bin);
/* Everything the heap holds goes back to its slabs, and the slabs to whoever wants them. */
void heap_dissolve(struct heap *h);
/* Dissolves the parked heaps; false if there were none. */
bool heap_dissolve_parked(void);

/* Whether its thread was interrupted in a slow path for good: then it is not to be touched again. */
bool heap_is_broken(struct heap *h);
/* At thread exit: parks or dissolves the heap. */
void heap_retire(struct heap *h);
/* In the child of a fork: heaps of threads that are not there any more may be taken over. */
void heap_after_fork_child(void);

#endif
