/*
 * slab.c: cutting a slab into blocks, and those that are free: a list, and marks.
 *
 * SYNCHRONIZATION: all of it by the owner.
 */
#include "slab.h"
#include "os.h"

#define CUT_BYTES  KIB(4)  /* at once: to touch more makes a malloc wait for as many page faults */
#define CUT_BLOCKS 64      /* at least, where there are pages already */
#define AHEAD_PAGE KIB(4)  /* with larger pages these come at once anyway */
#define AHEAD_MOST KIB(16) /* more at once is hardly less work for each */
#define FEW_BYTES  512
#define FEW_WALKED 32 /* blocks of a free list at most: each is a line that may be far */

static_assert(SLAB_MARKS >= UNIT_SIZE / 32, "but of the smallest class, blocks can be marked");
static_assert(SLAB_UNITS_LONG * UNIT_SIZE == SIZE_SLAB_BYTES, "block numbers are exact so far");

/* Words that have a mark, if any are. */
static uint32_t mark_words(const struct slab *s)
{
    return s->capacity <= SLAB_MARKS ? (s->capacity + 63) / 64 : 0;
}

static void set_units(struct slab *s, unsigned units, unsigned class_no)
{
    for (unsigned i = 0; i < units; i++) {
        atomic_store_explicit(&s[i].before, (uint8_t)i, memory_order_relaxed);
        atomic_store_explicit(&s[i].class_no, (uint8_t)class_no, memory_order_relaxed);
    }
    atomic_store_explicit(&s->units, (uint8_t)units, memory_order_relaxed);
}

void slab_init_owner(struct slab *s, char *base, unsigned units, unsigned class_no, bool has_pages)
{
    size_t bytes = size_class_bytes[class_no];
    set_units(s, units, class_no);
    s->base = base;
    atomic_store_explicit(&s->full_of, 0, memory_order_relaxed);
    s->free = NULL;
    s->free_count = 0;
    s->capacity = (uint32_t)(units * UNIT_SIZE / bytes);
    s->cut = (uint16_t)max_size(CUT_BYTES / bytes, has_pages ? CUT_BLOCKS : 1);
    s->has_pages = has_pages;
    s->marked = 0;
    for (uint32_t i = 0; i < mark_words(s); i++)
        slab_marks_of(s)->word[i] = 0;
    slab_set_used_owner(s, 0);
    atomic_store_explicit(&s->carved, 0, memory_order_relaxed);
}

void slab_freed_twice(const struct block *b)
{
    os_die("free(%p): it is free already (a double free?); aborting", (const void *)b);
}

uint32_t slab_count_marks_owner(struct slab *s)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < mark_words(s); i++)
        count += (uint32_t)__builtin_popcountll(slab_marks_of(s)->word[i]);
    return count;
}

/* Four of any class fill cache lines. */
static uint32_t few_count(size_t bytes, unsigned doubled)
{
    size_t few = (size_t)FEW_BYTES << doubled, fours = few / bytes / 4 * 4;
    return bytes >= few / 2 ? 1 : (uint32_t)max_size(fours, 4);
}

/* Where blocks end at `end`, pages are there up to this. */
static size_t pages_end(size_t end)
{
    size_t most = AHEAD_PAGE;
    while (most < end && most < AHEAD_MOST)
        most *= 2;
    return align_up(end, most);
}

/* Each cut would touch a page or so for the first time. Of a slab that is cut on, the next few pages
 * come at once, as many as there are before them: four take as long as three page faults. */
static void populate_ahead(struct slab *s, size_t from, size_t to)
{
    size_t had = from != 0 ? pages_end(from) : 0, wanted = pages_end(to);
    if (wanted > had + AHEAD_PAGE)
        os_populate(s->base + had, wanted - had);
}

/* `count` blocks, or what is left to cut. */
static struct chain cut_owner(struct slab *s, uint32_t count)
{
    size_t bytes = slab_block_bytes(s);
    uint32_t carved = slab_carved(s);
    count = (uint32_t)min_size(count, s->capacity - carved);
    char *first = s->base + carved * bytes;
    if (!s->has_pages && bytes <= AHEAD_PAGE)
        populate_ahead(s, carved * bytes, (carved + count) * bytes);
    char *last = first + (count - 1) * bytes;
    for (char *b = first; b < last; b += bytes)
        ((struct block *)b)->next = (struct block *)(b + bytes);
    ((struct block *)last)->next = NULL;
    atomic_store_explicit(&s->carved, carved + count, memory_order_relaxed);
    return chain_make((struct block *)first, (struct block *)last, count);
}

/* Links those of a word, the first of which would be at `first`, behind *last. How many. */
static uint32_t link_marked(char *first, size_t bytes, uint64_t marks, struct block **last)
{
    uint32_t count = 0;
    for (; marks != 0; marks &= marks - 1, count++) {
        struct block *b = (struct block *)(void *)(first + (size_t)__builtin_ctzll(marks) * bytes);
        (*last)->next = b;
        *last = b;
    }
    return count;
}

/* The lowest `most` of a word; all, if there are no more. */
static uint64_t lowest_marks(uint64_t marks, uint32_t most)
{
    if ((uint32_t)__builtin_popcountll(marks) <= most)
        return marks;
    uint64_t rest = marks;
    for (; most > 0; most--)
        rest &= rest - 1;
    return marks & ~rest;
}

/* Some are marked. */
static struct chain unmark_owner(struct slab *s, uint32_t most)
{
    size_t bytes = slab_block_bytes(s);
    uint64_t *word = slab_marks_of(s)->word;
    struct block before, *last = &before;
    uint32_t count = 0;
    for (uint32_t i = 0; i < mark_words(s) && count < most; i++) {
        uint64_t marks = lowest_marks(word[i], most - count);
        word[i] &= ~marks;
        count += link_marked(s->base + i * 64 * bytes, bytes, marks, &last);
    }
    last->next = NULL;
    atomic_signal_fence(memory_order_seq_cst); /* in the child of a fork: in one list at most */
    s->marked -= count;
    return chain_make(before.next, last, count);
}

static struct chain unlist_all_owner(struct slab *s)
{
    struct chain chain = chain_make(s->free, s->free_last, s->free_count);
    s->free = NULL;
    atomic_signal_fence(memory_order_seq_cst); /* the same */
    s->free_count = 0;
    return chain;
}

static struct chain all_or_cut_owner(struct slab *s)
{
    if (s->free != NULL)
        return unlist_all_owner(s);
    return s->marked != 0 ? unmark_owner(s, s->marked) : cut_owner(s, s->cut);
}

struct chain slab_take_owner(struct slab *s)
{
    struct chain chain = all_or_cut_owner(s);
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

static struct chain few_or_cut_owner(struct slab *s, uint32_t few)
{
    if (s->free != NULL)
        return unlist_owner(s, (uint32_t)min_size(few, FEW_WALKED));
    return s->marked != 0 ? unmark_owner(s, few) : cut_owner(s, few);
}

struct chain slab_take_few_owner(struct slab *s, unsigned doubled)
{
    struct chain chain = few_or_cut_owner(s, few_count(slab_block_bytes(s), doubled));
    slab_set_used_owner(s, slab_used(s) + chain.count);
    return chain;
}
