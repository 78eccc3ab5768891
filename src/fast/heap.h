/*
 * heap.h: what a thread allocates from: a bin for each size class, the slabs behind them, and the
 * buffer of blocks on their way to other heaps.
 *
 * A thread reaches its heap by one initial-exec TLS pointer, heap_current. Three heaps are
 * sentinels: constant, with empty bins, and no slab's owner, so that malloc misses and free finds
 * nothing its own, by the branches that are there anyway:
 *
 *     HEAP_START   the thread has not allocated yet
 *     HEAP_INSIDE  the thread is inside an entry point. Each stores this on entry and the heap back on
 *                  exit, so a signal handler that interrupts it, and allocates, meets this one
 *     HEAP_GONE    the thread's destructors have run
 *
 * The slow path behind a sentinel works with another heap: a new one for HEAP_START, a borrowed one
 * for the other two. That is what makes malloc and free async-signal-safe.
 *
 * SYNCHRONIZATION. A heap is touched by the thread that holds it, and by nobody else, but for the
 * fields marked atomic. Heaps are type-stable. They change hands through two stacks (release by
 * push, acquire by pop): `parked` heaps come with the blocks in their bins, `spare` ones are empty.
 *
 * What only slow paths touch (`owned`, `runs`) another thread may take from a heap whose own thread
 * is in none:
 *
 *     who seizes:    holder: HELD -> SEIZED;  membarrier;  not busy (acquire);  gives up slabs;
 *                    SEIZED -> HELD (release)
 *     its thread:    busy = 1;  holder is HELD (acquire);  the slow path;  busy = 0 (release)
 *     but if it finds SEIZED, it does not wait: busy = 0, and it borrows another heap for that slow path;
 *     or, if it ends: SEIZED -> LEFT (release), and who has seized it finds that (acquire), and has all of it then
 *     on its way into a stack: HELD -> LEFT, so that nobody seizes it
 *
 * Each writes, then reads what the other writes, so a full barrier has to stand between on both
 * sides. Slow paths are many and seizures few: so membarrier(2) makes the one barrier stand for
 * both, and a slow path takes no locked instruction to begin with. Where the system refuses that,
 * nothing is seized.
 */
#ifndef HAK_HEAP_H
#define HAK_HEAP_H

#include "runs.h"
#include "../remote/outbuf.h"
#include "processor.h"
#include "variant.h"

struct bin {
    struct block *head; /* last freed, first reused */
    int32_t room;       /* how many more fit before the bin is flushed */
    int32_t limit;      /* room of an empty bin; 0: the heap only frees blocks of this class */
};

static_assert(sizeof(struct bin) == SIZE_BIN_BYTES, "places are scaled by it");

/* A heap in whose slabs much waits that others have freed. */
struct watched {
    struct heap *heap; /* NULL: none */
    uint16_t now;      /* its `now` when it was first looked at */
    uint16_t at;       /* the processor_clock then */
};

#define HEAP_WATCHED     8u
#define HEAP_CLOCKS_IDLE 1024u /* of processor_clock: about a tenth of a second */

/* What is in bins is out of others' reach while a thread sleeps. */
enum heap_pace {
    HEAP_YOUNG,   /* it was taken a moment ago */
    HEAP_SLEEPER, /* its thread came to no slow path for a tenth of a second, a moment ago */
    HEAP_AWAKE    /* neither */
};

struct heap {
    struct bin bin[SIZE_CLASS_COUNT]; /* owner only; first: offsets are from the heap */
    uintptr_t strange; /* constant: unit_strange_bits of its number; all bits in a sentinel */
    struct registry_near near;          /* owner only; a sentinel's is far from every address */
    struct outbuf out;                  /* owner only */
    struct owned owned;                 /* owner only */
    struct runs runs;                   /* owner only */
    uint8_t ran_over[SIZE_CLASS_COUNT]; /* owner only: how often, since it ran out */
    uint8_t demand[SIZE_CLASS_COUNT];   /* owner only: how often it ran out quickly */
    uint32_t passed[SIZE_CLASS_COUNT];  /* owner only: blocks that did not fit, of late */
    uint16_t ran_out[SIZE_CLASS_COUNT]; /* owner only: when, by `now` */
    size_t grown; /* owner only: bytes by which bins may hold more than at first */
    uint16_t fresh_out[SIZE_CLASS_COUNT]; /* owner only: when a bin ran out, by `owned.fresh` */
    uint32_t fresh_seen;                  /* owner only: up to where bins_shrink_stale has looked */
    uint32_t fresh_relieved;              /* owner only: the same of relief_look */
    uint32_t stale_class;                 /* owner only: the class that is next there */
    enum heap_pace pace;                  /* owner only */
    unsigned awake;   /* owner only: for how long, while `pace` does not say so */
    uint32_t refills; /* owner only: a count */
    uint32_t flushes; /* owner only: the same, of bins_flush_full */
    uint32_t larges;  /* owner only: runs and whales that came and went, since the last look */
    struct watched watched[HEAP_WATCHED]; /* owner only: who may be idle */
    uint32_t watched_next;                /* owner only: of these, in turn */
    uint32_t brief;        /* owner only: how many more runs may come and go by the short way */
    _Atomic(uint16_t) now; /* atomic, relaxed; owner writes: processor_clock at the last slow path
                              that asked it */

    _Atomic(uint32_t)
        keeps; /* atomic, relaxed; by who has it: slabs, free units, and units of runs */

    lf_node link;             /* by who has it: in `parked` or `spare` */
    struct heap *all_next;    /* constant after publication: the list of all heaps */
    size_t held_bytes;        /* by who has it: what it was parked with */
    _Atomic(uint32_t) holder; /* atomic: 0 in a stack, else HELD of its holder's process */
    _Atomic(bool) busy;       /* atomic; by who holds it: its thread is in a slow path */
};

/* `holder`: the fork generation of the process that holds the heap, and what others do to it. */
#define HEAP_SEIZED           1u /* another thread takes its slabs */
#define HEAP_LEFT             2u /* nobody goes on with it: it is on its way into a stack */
#define HEAP_STATES           3u
#define HEAP_HELD(generation) (((generation) + 1u) << 2)

static_assert(SIZE_CLASS_COUNT <= 64, "a bit a class");
static_assert(offsetof(struct heap, bin) == 0, "a word has the offset of a bin");

enum heap_sentinel { HEAP_INSIDE, HEAP_START, HEAP_GONE, HEAP_SENTINELS };

static_assert(HEAP_SENTINELS == FRONT_NOTHINGS && sizeof(struct heap) <= FRONT_NOTHING &&
                  offsetof(struct heap, strange) == FRONT_STRANGE &&
                  offsetof(struct heap, near.base) == FRONT_FAR,
              "sentinels are the nothings of global/front.h");

extern VARIANT_HEAP_STORAGE struct heap *heap_current VARIANT_HEAP_MODEL;

HAK_INLINE struct heap *heap_sentinel(enum heap_sentinel which)
{
    return (struct heap *)(uintptr_t)front_base()->nothing[which];
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

/* The bin at a place. The place is hidden from the compiler each time: it would else add the two
 * once, in an instruction of its own, where every access adds them for nothing. */
HAK_INLINE struct bin *heap_bin(struct heap *h, size_t *place)
{
    HAK_OPAQUE(*place);
    return (struct bin *)(void *)((char *)h + *place - SIZE_BIN_PLACE(0));
}

/* Whether a block whose unit has this word is for a bin of h: its slab is h's own or nobody's.
 * Nothing is for a sentinel's. */
HAK_INLINE bool heap_keeps(const struct heap *h, uintptr_t word)
{
    return unit_word_is_among(word, h->strange);
}

/* False: the bin has run over, and wants to be flushed. */
HAK_INLINE bool heap_push(struct heap *h, size_t place, struct block *b)
{
    b->next = heap_bin(h, &place)->head;
    atomic_signal_fence(memory_order_seq_cst); /* the list is whole at every instruction */
    heap_bin(h, &place)->head = b;
    return !processor_count_down(&heap_bin(h, &place)->room);
}

/* The head of the bin; NULL: it is empty. What another thread has freed is in no near cache, and
 * the next malloc must read it: it is fetched meanwhile. */
HAK_INLINE void *heap_pop(struct heap *h, size_t place)
{
    struct block *b = heap_bin(h, &place)->head;
    if (HAK_UNLIKELY(b == NULL))
        return NULL;
    struct block *next = b->next;
    __builtin_prefetch(next, 1);
    heap_bin(h, &place)->head = next;
    heap_bin(h, &place)->room++;
    return b;
}

HAK_INLINE uint32_t heap_holder(const struct heap *h)
{
    return atomic_load_explicit(&h->holder, memory_order_relaxed);
}

/* What `holder` says of the heaps that threads of this process hold. */
uint32_t heap_held_now(void);

/* Nobody else has it, or may change its state. */
HAK_INLINE void heap_set_holder(struct heap *h, uint32_t holder)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&h->holder, holder, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
}

HAK_INLINE bool heap_is_busy(const struct heap *h)
{
    return atomic_load_explicit(&h->busy, memory_order_relaxed);
}

/* When its thread last refilled a bin, or flushed one in demand, by processor_clock. */
HAK_INLINE uint16_t heap_now(const struct heap *h)
{
    return atomic_load_explicit(&h->now, memory_order_relaxed);
}

/* Whether so many clocks without such a slow path are a sleep. A clock that steps back, as a thread's
 * may when it changes processors, is none. */
HAK_INLINE bool heap_is_long(unsigned since)
{
    return since > HEAP_CLOCKS_IDLE && since < UINT16_MAX - HEAP_CLOCKS_IDLE;
}

/* For the slow paths: the heap to work with, given the one that heap_enter returned: that, or a
 * borrowed one if that is a sentinel, or seized; NULL: there is no memory for one. heap_close ends
 * it, and leaves. */
struct heap *heap_open(struct heap *entered);
void heap_close(struct heap *entered, struct heap *work);

/* Says that the heap's thread is in a slow path. What `holder` says then: whether another has seized
 * it, and it is to be taken back. What has to stand between the two is the membarrier of who
 * seizes. */
HAK_INLINE uint32_t heap_begin(struct heap *h)
{
    atomic_store_explicit(&h->busy, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    return atomic_load_explicit(&h->holder, memory_order_acquire);
}

HAK_INLINE void heap_end(struct heap *h)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&h->busy, false, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
}

/* For a slow path that is so short that nothing else is due in it: of the thread's own heap only,
 * and only so often between two others. heap_end ends it. */
HAK_INLINE bool heap_begin_brief(struct heap *h)
{
    if (h->brief == 0 || HAK_UNLIKELY(heap_is_busy(h)))
        return false;
    h->brief--;
    if (HAK_LIKELY((heap_begin(h) & HEAP_STATES) == 0))
        return true;
    heap_end(h);
    return false;
}

/* Before it ends, where it may keep more than before. */
HAK_INLINE void heap_note_kept(struct heap *h)
{
    uint32_t kept = owned_units(&h->owned) + h->runs.kept;
    atomic_store_explicit(&h->keeps, kept, memory_order_relaxed);
}

/* Whose slabs have this owner in their words; NULL: it is one of too many. */
struct heap *heap_of_owner(uintptr_t owner);

/* Everything the heap holds goes back to its slabs, and the slabs to whoever wants them. */
void heap_dissolve(struct heap *h);
/* Dissolves the parked heaps; false if there were none. */
bool heap_dissolve_parked(void);

/* Free blocks in the calling thread's bins and in parked heaps. */
size_t heap_cached_bytes(void);

/* At thread exit, with what heap_enter returned: parks or dissolves the thread's heap. */
void heap_retire(struct heap *entered);

/* The first of the list of all heaps that there ever were; NULL: none yet. */
struct heap *heap_first(void);
/* Whether the heap's thread is in no slow path, and has slept. */
bool heap_is_idle(struct heap *h, uint16_t now);
/* Whether there is something to be had of it. */
HAK_INLINE bool heap_keeps_any(struct heap *h)
{
    return atomic_load_explicit(&h->keeps, memory_order_relaxed) != 0;
}
/* Until heap_end_seizure, the caller has its slabs and runs, and its thread borrows a heap if it
 * wants some. False: it is in a slow path, or nobody's, or seized. */
bool heap_seize(struct heap *h);
void heap_end_seizure(struct heap *h);
/* In the child of a fork: heaps of threads that are not there any more may be taken over, and what
 * these were at in slow paths is taken back. Async-signal-safe. */
void heap_after_fork_child(void);

#endif
