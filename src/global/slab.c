/*
 * slab.c: cutting a slab into blocks, and its list of free ones.
 *
 * SYNCHRONIZATION: all of it by the owner.
 */
#include "slab.h"

#define CUT_BYTES  KIB(4) /* at once: to touch more makes a malloc wait for as many page faults */
#define CUT_BLOCKS 64     /* at least, where there are pages already */
#define FEW_BYTES  512
#define FEW_WALKED 32 /* blocks of a free list at most: each is a line that may be far */

void slab_init_owner(struct slab *s, char *base, unsigned class_no, bool has_pages)
{
    size_t bytes = size_class_bytes[class_no];
    s->base = base;
    s->free = NULL;
    s->free_count = 0;
    s->capacity = (uint32_t)(UNIT_SIZE / bytes);
    s->cut = (uint32_t)max_size(CUT_BYTES / bytes, has_pages ? CUT_BLOCKS : 1);
    slab_set_used_owner(s, 0);
    atomic_store_explicit(&s->carved, 0, memory_order_relaxed);
    atomic_store_explicit(&s->class_no, (uint8_t)class_no, memory_order_relaxed);
}

/* Four of any class fill cache lines. */
static uint32_t few_count(size_t bytes, unsigned doubled)
{
    size_t few = (size_t)FEW_BYTES << doubled, fours = few / bytes / 4 * 4;
    return bytes >= few / 2 ? 1 : (uint32_t)max_size(fours, 4);
}

/* `count` blocks, or what is left to cut. */
static struct chain cut_owner(struct slab *s, uint32_t count)
{
    size_t bytes = slab_block_bytes(s);
    uint32_t carved = slab_carved(s);
    count = (uint32_t)min_size(count, s->capacity - carved);
    char *first = s->base + carved * bytes;
    char *last = first + (count - 1) * bytes;
    for (char *b = first; b < last; b += bytes)
        ((struct block *)b)->next = (struct block *)(b + bytes);
    ((struct block *)last)->next = NULL;
    atomic_store_explicit(&s->carved, carved + count, memory_order_relaxed);
    return chain_make((struct block *)first, (struct block *)last, count);
}

struct chain slab_take_owner(struct slab *s)
{
    struct chain chain =
        s->free != NULL ? chain_make(s->free, s->free_last, s->free_count) : cut_owner(s, s->cut);
    s->free = NULL;
    atomic_signal_fence(memory_order_seq_cst); /* in the child of a fork: in one list at most */
    s->free_count = 0;
    slab_set_used_owner(s, slab_used(s) + chain.count);
    return chain;
}

/* The free list is not empty, and keeps the rest. */
static struct chain unlist_owner(struct slab *s, uint32_t most)
{
    struct block *first = s->free, *last = first;
    uint32_t count = 1;
    for (; count < most && last->next != NULL; count++)
        last = last->next;
    s->free = last->next;
    s->free_count = s->free != NULL ? s->free_count - count : 0; /* one too few after a fork */
    last->next = NULL;
    return chain_make(first, last, count);
}

struct chain slab_take_few_owner(struct slab *s, unsigned doubled)
{
    uint32_t few = few_count(slab_block_bytes(s), doubled);
    struct chain chain =
        s->free != NULL ? unlist_owner(s, (uint32_t)min_size(few, FEW_WALKED)) : cut_owner(s, few);
    slab_set_used_owner(s, slab_used(s) + chain.count);
    return chain;
}
