/*
 * mend.c: what threads had in their hands that vanished in a fork.
 *
 * SYNCHRONIZATION: by the only thread that there is, in the child's handler; signal handlers may
 * come in between, and allocate. Bins, slots of the out-buffer and free lists of slabs are whole at
 * every instruction of the slow paths, since blocks are unlinked from one before they are linked to
 * another, and linked before they become a head; marked after they are unlinked, and linked after
 * they are not marked any more. Counts and lists of slabs may be torn, and are made anew.
 */
#include "mend.h"
#include "bins.h"
#include "../global/segment.h"
#include "../global/shared.h"
#include "../global/whale.h"

#define LOST_BUCKETS 64u

/* Heaps of threads that vanished in a slow path, and those that one had seized, by number. */
static struct heap *lost[LOST_BUCKETS]; /* by the only thread that there is */

static struct heap **lost_bucket(uintptr_t token)
{
    return &lost[(token >> UNIT_OFFSET_BITS) % LOST_BUCKETS];
}

static struct heap *next_lost(struct heap *h)
{
    return h->link.next != NULL ? LF_CONTAINER(h->link.next, struct heap, link) : NULL;
}

static bool is_lost(struct heap *h)
{
    uint32_t holder = heap_holder(h);
    bool was_busy = holder != 0 && holder != heap_held_now() && heap_is_busy(h);
    return was_busy || (holder & HEAP_STATES) != 0;
}

/* Its lists of slabs may be torn. Its bins are whole, and so is each slot of the out-buffer, but
 * how many there are in a bin, and which slots are open, need not be right. */
static void forget_slabs(struct heap *h)
{
    owned_init(&h->owned, h->owned.owner);
    magazine_mend(&h->owned.magazine);
    outbuf_mend(&h->out);
    runs_mend(&h->runs);
}

static bool collect_lost(void)
{
    bool any = false;
    for (struct heap *h = heap_first(); h != NULL; h = h->all_next) {
        if (!is_lost(h))
            continue;
        struct heap **bucket = lost_bucket(h->owned.owner);
        h->link.next = *bucket != NULL ? &(*bucket)->link : NULL;
        *bucket = h;
        forget_slabs(h);
        any = true;
    }
    return any;
}

/* Who vanished may have changed the list, or marks, and not the counts. A list that goes round was
 * written to by the program: it is dropped. */
static void count_slab_owner(struct slab *s)
{
    uint32_t count = 0, carved = slab_carved(s);
    struct block *b = s->free;
    s->marked = slab_count_marks_owner(s);
    for (; b != NULL && count <= carved; b = b->next, count++)
        s->free_last = b;
    if (b != NULL)
        s->free = NULL;
    s->free_count = b == NULL ? count : 0;
    slab_set_used_owner(s, carved - slab_free_count_owner(s));
}

static bool is_of_lost(uintptr_t owner)
{
    struct heap *h = unit_word_is_slab(owner) ? *lost_bucket(owner) : NULL;
    while (h != NULL && !is_token_of(&h->owned, owner))
        h = next_lost(h);
    return h != NULL;
}

/* Nobody's again. What was freed into it stays where it is, for who claims it: the child would copy
 * each page that is written to. */
static void mend_slab(struct slab *s)
{
    if (!is_of_lost(atomic_load_explicit(&s->owner, memory_order_relaxed)))
        return;
    count_slab_owner(s);
    bool room = slab_has_room_owner(s) || !lf_stack_is_empty(&s->remote);
    slab_set_words(s, unit_word(0, slab_class(s)));
    atomic_store_explicit(&s->owner, room ? SLAB_SHARED : SLAB_UNOWNED, memory_order_release);
    if (room)
        shared_push(s);
}

/* From here on they can be adopted, but for the child's own. */
static void release_lost(const struct heap *own)
{
    for (unsigned i = 0; i < LOST_BUCKETS; i++) {
        for (struct heap *h = lost[i], *next; h != NULL; h = next) {
            next = next_lost(h); /* a handler may adopt it */
            if (h == own)
                bins_recount(h);
            heap_set_holder(h, heap_holder(h) & ~HEAP_STATES);
            heap_end(h);
        }
        lost[i] = NULL;
    }
}

/* All that threads had in their hands, they had in slow paths. */
void mend_lost(const struct heap *own)
{
    if (!collect_lost())
        return;
    segment_take_back();
    whale_take_back();
    segment_each_slab(mend_slab);
    release_lost(own);
}
