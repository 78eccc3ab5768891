/*
 * whale.c: see whale.h.
 *
 * SYNCHRONIZATION. A slot of the cache holds a descriptor and the length of its whale, in a word, or
 * 0; who takes it out by CAS (acquire) or puts it in by CAS (release) has it alone in between. It
 * is as long as it was when it was looked at, or the CAS fails; what else was read of it before it
 * was taken may be stale, so it is checked again after. The registry entry of a
 * whale goes before its mapping does: from then on another thread's whale may be given the same
 * addresses. Descriptors go through a grace period before their reuse, as walkers read them.
 */
#include "whale.h"
#include "huge.h"
#include "lf_stack.h"
#include "meta.h"
#include "os.h"
#include "rcu.h"
#include "registry.h"
#include "swing.h"
#include "total.h"

#define CACHE_SLOTS     128u
#define CACHE_AGE_MS    1000u
#define TAKE_TRIES      4
#define SPARSE_MOST     16     /* times as many bytes as hold memory may be mapped */
#define KEPT_SHARE      2      /* of what is in use, a part as large may be in the cache */
#define CACHE_LIMIT     MIB(8) /* if nobody says otherwise */
#define SWING_MOST      5      /* times the limit: as much more, where use swings by it, or falls */
#define SLACK_TIMES     2      /* as much as is asked for one from the cache may be */
#define SLACK_SHARE     2      /* of what is asked for, a part as large is not lent */
#define SLACK_COST      8      /* bytes too many cost as much as one too few */
#define ASK_OFTEN       8u /* one free in so many that may not fit: the system is asked what it holds */
#define ASK_SELDOM      16u /* the same, where it says what it has said before */
#define LENT_SHARE      4   /* of what is in use, a part as large may be lent, and the limit */
#define LENT_TIMES      3   /* as much as a whale uses is lent to it at most */
#define PARTS           64u /* of a whale: what holds memory is counted in such */
#define WASTE_SHARE     16u /* of a whale, a part as large may be mapped to end with a huge page */
#define WHALE_ALIGNMENT SEGMENT_SIZE /* the registry has a pointer for each */
#define MANY_BYTES                                                                                 \
    (KIB(32) * MIB(1)) /* of whales: there may be half as many as Linux allows mappings */

struct whale {
    struct region region; /* constant while published; `size` is the holder's */
    struct retired retired;
    lf_node spare;
    _Atomic(uint64_t) freed_at; /* atomic, relaxed: milliseconds; written by who has it */
    _Atomic(bool)
        stays;       /* atomic, relaxed; by who has it: in the cache, since it can't be unmapped */
    size_t resident; /* by who has it: bytes that hold memory, by estimate, as it was freed */
    size_t used;     /* by its holder: bytes of it that the block may use */
    size_t lent;     /* by its holder: bytes beyond these that it was given to grow in */
    enum huge_state huge; /* by its holder */
};

/* A slot of the cache, in a word: the descriptor, a multiple of a cache line, and how long its whale
 * is, that a search need not read descriptors. */
#define SLOT_UNIT_BITS 22 /* more units than these can say are said to be so many */
#define SLOT_UNITS     (((uintptr_t)1 << SLOT_UNIT_BITS) - 1)
#define SLOT_SHIFT     (64 - PROCESSOR_ADDRESS_BITS)

static_assert(SLOT_UNIT_BITS - SLOT_SHIFT <= __builtin_ctz(HAK_CACHE_LINE), "both fit");

/* As it was looked at. */
struct slot {
    unsigned no;
    uintptr_t word; /* 0: nothing was there */
};

static _Alignas(HAK_CACHE_LINE) _Atomic(uintptr_t) cache[CACHE_SLOTS]; /* atomic; 0: empty */
/* Seldom written to. */
static _Alignas(HAK_CACHE_LINE) _Atomic(unsigned)
    slots_used; /* atomic, relaxed: so many ever were; it only grows */
static _Atomic(size_t) cache_limit_bytes = CACHE_LIMIT; /* atomic, relaxed */
static _Atomic(unsigned) touched = PARTS; /* atomic, relaxed: parts of a whale that hold memory */
static _Atomic(unsigned) ask_every = ASK_OFTEN; /* atomic, relaxed */
/* Often. */
static _Alignas(HAK_CACHE_LINE) _Atomic(size_t)
    cached_bytes;                       /* atomic, relaxed: of what is in the cache */
static _Atomic(size_t) cached_resident; /* the same: what of it holds memory */
static _Atomic(size_t) staying;         /* atomic, relaxed: a count; not in these two */
static _Atomic(unsigned) estimates;     /* atomic, relaxed: a count */
static _Atomic(size_t) lent_bytes;      /* atomic, relaxed: of all whales in use */
static struct swing in_use = {
    .fall_most = SWING_MOST * CACHE_LIMIT}; /* bytes, of whales that are not in the cache */
static lf_stack spare;                      /* descriptors of no whale */
static struct huge_kind huge;

static struct whale *whale_of(const void *p)
{
    return (struct whale *)(void *)registry_region_of_block(p);
}

static size_t page_up(size_t bytes)
{
    static _Atomic(size_t) page; /* relaxed: every thread writes the same */
    size_t size = atomic_load_explicit(&page, memory_order_relaxed);
    if (size == 0) {
        size = os_page_size();
        atomic_store_explicit(&page, size, memory_order_relaxed);
    }
    return align_up(bytes, size);
}

/* ---- descriptors ---- */

static struct whale *descriptor_take(void)
{
    lf_node *node = lf_stack_pop_mpmc(&spare);
    return node != NULL ? LF_CONTAINER(node, struct whale, spare)
                        : meta_alloc(sizeof(struct whale));
}

static void descriptor_reclaim(struct retired *retired)
{
    lf_stack_push(&spare, &LF_CONTAINER(retired, struct whale, retired)->spare);
}

static bool publish(struct whale *w, char *base, size_t size)
{
    region_init(&w->region, REGION_WHALE, base, size);
    w->lent = 0;
    atomic_store_explicit(&w->stays, false, memory_order_relaxed);
    if (!registry_publish(&w->region))
        return false;
    registry_set_word(base, UNIT_WHALE);
    return true;
}

static void unpublish(struct whale *w)
{
    registry_set_word(w->region.base, UNIT_FOREIGN);
    registry_unpublish(&w->region);
}

/* ---- the cache ---- */

static bool stays(const struct whale *w)
{
    return atomic_load_explicit(&w->stays, memory_order_relaxed);
}

static void count_cached(const struct whale *w, size_t sign)
{
    if (stays(w)) {
        atomic_fetch_add_explicit(&staying, sign, memory_order_relaxed);
        return;
    }
    atomic_fetch_add_explicit(&cached_bytes, sign * region_size(&w->region), memory_order_relaxed);
    atomic_fetch_add_explicit(&cached_resident, sign * w->resident, memory_order_relaxed);
}

static uintptr_t slot_word(const struct whale *w)
{
    size_t units = region_size(&w->region) >> UNIT_SHIFT;
    return (uintptr_t)w << SLOT_SHIFT | min_size(units, SLOT_UNITS);
}

static struct whale *slot_whale(uintptr_t word)
{
    return (struct whale *)(word >> SLOT_UNIT_BITS << (SLOT_UNIT_BITS - SLOT_SHIFT));
}

static size_t slot_bytes(uintptr_t word)
{
    return (word & SLOT_UNITS) << UNIT_SHIFT;
}

/* Slots from there on are empty. The lowest that is empty is filled. */
static unsigned slots_end(void)
{
    return atomic_load_explicit(&slots_used, memory_order_relaxed);
}

static void note_slot_used(unsigned i)
{
    unsigned end = slots_end();
    while (i >= end && !atomic_compare_exchange_weak_explicit(
                           &slots_used, &end, i + 1, memory_order_relaxed, memory_order_relaxed))
        ;
}

static struct slot slot_look(unsigned i)
{
    return (struct slot){i, atomic_load_explicit(&cache[i], memory_order_acquire)};
}

/* NULL: there was none, or it is gone. */
static struct whale *slot_take(struct slot slot)
{
    struct whale *w = slot_whale(slot.word);
    if (w == NULL ||
        !atomic_compare_exchange_strong_explicit(&cache[slot.no], &slot.word, 0,
                                                 memory_order_acquire, memory_order_relaxed))
        return NULL;
    count_cached(w, (size_t)-1);
    return w;
}

static bool slot_fill(unsigned i, struct whale *w)
{
    uintptr_t empty = 0;
    if (atomic_load_explicit(&cache[i], memory_order_relaxed) != 0)
        return false;
    count_cached(w, 1);
    note_slot_used(i);
    if (atomic_compare_exchange_strong_explicit(&cache[i], &empty, slot_word(w),
                                                memory_order_release, memory_order_relaxed))
        return true;
    count_cached(w, (size_t)-1);
    return false;
}

static uint64_t freed_at(struct whale *w)
{
    return atomic_load_explicit(&w->freed_at, memory_order_relaxed);
}

static bool drop_if(struct slot slot, uint64_t older_than);

static bool cache_is_empty(void)
{
    return whale_cached_bytes() == 0 && atomic_load_explicit(&staying, memory_order_relaxed) == 0;
}

/* The one that was freed first, of those that can be unmapped. */
static struct slot oldest_slot(uint64_t *since)
{
    struct slot oldest = {0};
    *since = UINT64_MAX;
    for (unsigned i = 0, end = slots_end(); i < end; i++) {
        struct slot slot = slot_look(i);
        struct whale *w = slot_whale(slot.word);
        if (w != NULL && !stays(w) && freed_at(w) < *since) {
            *since = freed_at(w);
            oldest = slot;
        }
    }
    return oldest;
}

/* Without what is lent. */
static size_t really_used(void)
{
    long used = swing_used(&in_use) - (long)atomic_load_explicit(&lent_bytes, memory_order_relaxed);
    return (size_t)max_long(used, 0);
}

/* How much memory may be kept: a least, a part of what is in use, so that one that is wanted may
 * fit, and as much as use swings by, or has just fallen by (as far as units have not taken it
 * over), within bounds where it does not swing often. */
static size_t cache_most(void)
{
    size_t limit = atomic_load_explicit(&cache_limit_bytes, memory_order_relaxed);
    size_t used = really_used();
    long swung = swing_width(&in_use), wanted = max_long(swung, swing_fall(&in_use));
    size_t width = (size_t)min_long(wanted, total_fallen());
    if (!swing_is_often(&in_use))
        width = min_size(width, limit * SWING_MOST);
    return limit == 0 ? 0 : limit + used / KEPT_SHARE + width;
}

static bool is_beyond(size_t most)
{
    return atomic_load_explicit(&cached_resident, memory_order_relaxed) > most ||
           whale_cached_bytes() > most * SPARSE_MOST;
}

static bool fill_any(struct whale *w)
{
    for (unsigned i = 0; i < CACHE_SLOTS; i++)
        if (slot_fill(i, w))
            return true;
    return false;
}

/* The system can't unmap it: for it to be the middle of a mapping there would be one too many. So
 * its memory goes back, and its addresses stay, for whoever wants as many, or until they can be
 * unmapped. False: there is no place for it, and they are lost. */
static bool keep_addresses(struct whale *w)
{
    size_t size = region_size(&w->region);
    w->resident = os_purge(w->region.base, size) ? 0 : size;
    atomic_store_explicit(&w->stays, true, memory_order_relaxed);
    atomic_store_explicit(&w->freed_at, os_milliseconds(), memory_order_relaxed);
    if (!registry_publish(&w->region))
        return false;
    registry_set_word(w->region.base, UNIT_FREE);
    if (fill_any(w))
        return true;
    unpublish(w);
    return false;
}

/* Of a whale that nobody uses, in the cache or on its way to it: it is published still. False: it
 * stays. */
static bool whale_unmap(struct whale *w)
{
    unpublish(w);
    huge_look(&huge, w->region.base, region_size(&w->region));
    huge_forget(&huge, w->region.base, region_size(&w->region));
    if (!os_unmap(w->region.base, region_size(&w->region)) && keep_addresses(w))
        return false;
    huge_gone(w->huge);
    rcu_retire(&w->retired, descriptor_reclaim);
    return true;
}

static void put_back(struct whale *w)
{
    if (!fill_any(w))
        whale_unmap(w);
}

/* In parts, rounded up. A microsecond a MiB. */
static unsigned ask_touched(struct whale *w)
{
    size_t size = region_size(&w->region);
    return (unsigned)((os_resident(w->region.base, size, size) + size / PARTS - 1) /
                      (size / PARTS));
}

/* More counts at once, less by halves. If it is far more, what is cached was taken for too
 * little. */
static void note_touched(struct whale *w)
{
    unsigned parts = atomic_load_explicit(&touched, memory_order_relaxed);
    unsigned asked = ask_touched(w), between = (parts + asked + 1) / 2;
    bool same = asked <= parts && parts - asked <= 1 + parts / 8;
    atomic_store_explicit(&touched, asked > between ? asked : between, memory_order_relaxed);
    atomic_store_explicit(&ask_every, same ? ASK_SELDOM : ASK_OFTEN, memory_order_relaxed);
    if (asked > 2 * parts)
        whale_drop_cache();
}

static bool is_time_to_ask(void)
{
    unsigned every = atomic_load_explicit(&ask_every, memory_order_relaxed);
    return atomic_fetch_add_explicit(&estimates, 1, memory_order_relaxed) % every == 0;
}

/* How many bytes hold memory. Programs touch as much of one block as of the next: where not all
 * would fit if all were full, one in `ask_every` tells it of the others, and half as much again is
 * allowed for. One that is larger than all that may be kept is asked itself. */
static size_t resident_bytes(struct whale *w, size_t most)
{
    size_t size = region_size(&w->region);
    if (size > most)
        return size / SPARSE_MOST > most ? size : os_resident(w->region.base, size, size);
    if (whale_cached_bytes() + size > most && is_time_to_ask())
        note_touched(w);
    unsigned parts = atomic_load_explicit(&touched, memory_order_relaxed);
    return min_size(size / PARTS * (parts + parts / 2), size);
}

/* Those that were freed first go first. Others may fill it meanwhile: as many tries as there are
 * slots. */
static void cache_shrink(size_t most)
{
    uint64_t since;
    for (unsigned tries = CACHE_SLOTS; tries > 0 && is_beyond(most); tries--) {
        struct slot oldest = oldest_slot(&since);
        if (oldest.word == 0)
            return;
        drop_if(oldest, since);
    }
}

static bool cache_put(struct whale *w)
{
    size_t most = cache_most();
    w->resident = resident_bytes(w, most);
    bool wanted = w->resident <= most;
    cache_shrink(wanted ? most - w->resident : most);
    return wanted && fill_any(w);
}

/* What it costs to take one of `size` where `bytes` are wanted: pages that come, or that are too
 * many. SIZE_MAX: more than it is worth. */
static size_t misfit(size_t size, size_t bytes)
{
    if (size < bytes)
        return size < bytes / 2 ? SIZE_MAX : bytes - size;
    return size / SLACK_TIMES > bytes ? SIZE_MAX : (size - bytes) / SLACK_COST;
}

static struct slot best_slot(size_t bytes)
{
    struct slot best = {0};
    size_t least = SIZE_MAX;
    for (unsigned i = 0, end = slots_end(); i < end && least > 0; i++) {
        struct slot slot = slot_look(i);
        size_t cost = slot.word != 0 ? misfit(slot_bytes(slot.word), bytes) : SIZE_MAX;
        if (cost < least) {
            least = cost;
            best = slot;
        }
    }
    return best;
}

/* One that is moved keeps the alignment that every whale has, and no other. */
static bool has_alignment(const struct whale *w, size_t bytes, size_t alignment)
{
    return alignment <= WHALE_ALIGNMENT ||
           (region_size(&w->region) >= bytes && is_aligned(w->region.base, alignment));
}

/* Where another thread takes the same one, the next best is tried. One that is not aligned to as much
 * goes back, and is likely the best again. */
static struct whale *cache_take(size_t bytes, size_t alignment)
{
    if (cache_is_empty())
        return NULL;
    for (unsigned tries = TAKE_TRIES; tries > 0; tries--) {
        struct slot best = best_slot(bytes);
        if (best.word == 0)
            return NULL;
        struct whale *w = slot_take(best);
        if (w == NULL)
            continue;
        if (has_alignment(w, bytes, alignment))
            return w;
        put_back(w);
    }
    return NULL;
}

/* ---- what grows has room to ---- */

/* How much of what was cached may be lent to whales that grow. It is not for others, and nobody
 * else can give it back: so it is bounded by itself, over all, and for each by what that uses. */
static size_t lend_most(void)
{
    size_t limit = atomic_load_explicit(&cache_limit_bytes, memory_order_relaxed);
    return limit == 0 ? 0 : limit + really_used() / LENT_SHARE;
}

static bool lend(struct whale *w, size_t bytes)
{
    size_t room = region_size(&w->region) - bytes, most = lend_most();
    if (atomic_fetch_add_explicit(&lent_bytes, room, memory_order_relaxed) + room <= most) {
        w->lent = room;
        return true;
    }
    atomic_fetch_sub_explicit(&lent_bytes, room, memory_order_relaxed);
    return false;
}

/* As much of it stays lent as is not used. */
static void settle_lent(struct whale *w, size_t unused)
{
    if (w->lent <= unused)
        return;
    atomic_fetch_sub_explicit(&lent_bytes, w->lent - unused, memory_order_relaxed);
    w->lent = unused;
}

static bool has_room(size_t size, size_t bytes)
{
    return size >= bytes && size - bytes <= LENT_TIMES * bytes;
}

/* The longest one, of those that are as long as `least`. */
static struct slot roomy_slot(size_t bytes, size_t least)
{
    struct slot best = {0};
    for (unsigned i = 0, end = slots_end(); i < end; i++) {
        struct slot slot = slot_look(i);
        size_t size = slot_bytes(slot.word);
        if (slot.word != 0 && size >= least && has_room(size, bytes) &&
            size > slot_bytes(best.word))
            best = slot;
    }
    return best;
}

/* Of the holder of `w`. What it is told is kept, so that a whale without pages is asked once. */
static bool has_pages(struct whale *w, size_t pages)
{
    if (pages == 0)
        return true;
    if (region_size(&w->region) < pages || w->resident < pages)
        return false;
    w->resident = os_resident(w->region.base, region_size(&w->region), 0);
    return w->resident >= pages;
}

/* Of one that was taken from the cache. */
static void *put_to_use(struct whale *w, size_t used)
{
    registry_set_word(w->region.base, UNIT_WHALE);
    swing_take(&in_use, (long)region_size(&w->region));
    atomic_store_explicit(&w->stays, false, memory_order_relaxed);
    w->used = used;
    return w->region.base;
}

/* With room to grow, and as many pages there. */
static void *take_roomy(size_t bytes, size_t pages)
{
    size_t least = max_size(bytes, pages);
    struct whale *w = whale_cached_bytes() < least ? NULL : slot_take(roomy_slot(bytes, least));
    if (w == NULL)
        return NULL;
    if (!has_room(region_size(&w->region), bytes) || !has_pages(w, pages) || !lend(w, bytes)) {
        put_back(w);
        return NULL;
    }
    return put_to_use(w, bytes);
}

void *whale_alloc_to_grow(size_t bytes)
{
    return take_roomy(page_up(bytes), 0);
}

/* Twice as many pages there cost more than the copy. */
void *whale_roomier(void *p, size_t bytes)
{
    struct whale *w = whale_of(p);
    size_t size = page_up(bytes);
    return size > region_size(&w->region) ? take_roomy(size, 2 * w->used) : NULL;
}

/* False: it is another one, or is not that old any more, or stays. */
static bool drop_if(struct slot slot, uint64_t older_than)
{
    if (slot.word == 0 || freed_at(slot_whale(slot.word)) > older_than)
        return false;
    struct whale *w = slot_take(slot);
    if (w == NULL)
        return false;
    if (freed_at(w) > older_than) {
        put_back(w);
        return false;
    }
    return whale_unmap(w);
}

static bool cache_drop(uint64_t older_than)
{
    bool any = false;
    if (cache_is_empty())
        return false;
    for (unsigned i = 0, end = slots_end(); i < end; i++)
        any |= drop_if(slot_look(i), older_than);
    return any;
}

void whale_decay(void)
{
    if (cache_is_empty())
        return;
    uint64_t now = os_milliseconds();
    if (now > CACHE_AGE_MS)
        cache_drop(now - CACHE_AGE_MS);
}

void whale_purge_some(void)
{
    if (whale_cached_bytes() > atomic_load_explicit(&cache_limit_bytes, memory_order_relaxed))
        cache_shrink(cache_most());
}

bool whale_drop_cache(void)
{
    return cache_drop(UINT64_MAX);
}

long whale_used_bytes(void)
{
    return swing_used(&in_use);
}

size_t whale_cached_bytes(void)
{
    return atomic_load_explicit(&cached_bytes, memory_order_relaxed);
}

void whale_set_cache_limit(size_t bytes)
{
    atomic_store_explicit(&cache_limit_bytes, bytes, memory_order_relaxed);
    swing_set_fall_most(&in_use, swing_fall_bound((long)bytes, CACHE_LIMIT, SWING_MOST));
}

/* ---- the interface ---- */

/* Memory that is to read as zero is often read more than written to: it never asks for huge pages. */
static bool map_and_publish(struct whale *w, size_t size, size_t alignment, bool zeroes)
{
    char *base = os_map_aligned(size, alignment);
    if (base == NULL)
        return false;
    w->huge = zeroes ? HUGE_NOT_ASKED : huge_ask(&huge, base, size);
    if (publish(w, base, size))
        return true;
    huge_forget(&huge, base, size);
    os_unmap(base, size);
    huge_gone(w->huge);
    return false;
}

static void *map_new(size_t used, size_t size, size_t alignment, bool zeroes)
{
    struct whale *w = descriptor_take();
    if (w == NULL)
        return NULL;
    if (map_and_publish(w, size, alignment, zeroes)) {
        swing_take(&in_use, (long)size);
        w->used = used;
        return w->region.base;
    }
    lf_stack_push(&spare, &w->spare);
    return NULL;
}

static void count_resized(struct whale *w, size_t size)
{
    size_t had = region_size(&w->region);
    total_note();
    if (size > had)
        swing_take(&in_use, (long)(size - had));
    else
        swing_return(&in_use, (long)(had - size), false);
}

/* Into a place of its own, aligned, under another descriptor, since walkers may be at the old one.
 * The new place is published once the pages are there: until then the kernel may have given it to
 * others. */
static void *whale_move(struct whale *w, size_t size)
{
    struct whale *moved = descriptor_take();
    if (moved == NULL)
        return NULL;
    char *from = w->region.base;
    char *to = os_map_aligned(size, WHALE_ALIGNMENT);
    if (to != NULL && registry_prepare(to)) {
        unpublish(w);
        if (os_move(from, region_size(&w->region), to, size)) {
            publish(moved, to, size);
            moved->used = w->used;
            moved->huge = w->huge;
            count_resized(w, size);
            rcu_retire(&w->retired, descriptor_reclaim);
            return to;
        }
        publish(w, from, region_size(&w->region));
    } else if (to != NULL) {
        os_unmap(to, size);
    }
    lf_stack_push(&spare, &moved->spare);
    return NULL;
}

static void *resize_or_move(struct whale *w, size_t size)
{
    size_t had = region_size(&w->region);
    huge_forget(&huge, w->region.base, had);
    if (!os_resize_in_place(w->region.base, had, size))
        return size > had ? whale_move(w, size) : NULL;
    count_resized(w, size);
    region_set_size(&w->region, size);
    return w->region.base;
}

/* For the same block, or for a new one. */
static void *resize_mapping(struct whale *w, size_t size, bool is_new)
{
    size_t had = region_size(&w->region);
    bool cuts_page = size < had && size % HUGE_PAGE != 0;
    if (cuts_page && w->huge != HUGE_NOT_ASKED)
        os_split_huge_pages(w->region.base + size, os_page_size());
    char *p = resize_or_move(w, size);
    if (p == NULL || size < had)
        return p;
    w = whale_of(p);
    if (!is_new || !huge_is_wanted_still(&huge, w->huge, size))
        w->huge = huge_grow(w->huge, p, had, size);
    return p;
}

/* As it is, or made longer: that is cheaper than pages that come anew. Or shorter, where it would
 * have too much room. */
static void *reuse(size_t used, size_t size, size_t alignment)
{
    struct whale *w = cache_take(size, alignment);
    if (w == NULL)
        return NULL;
    size_t have = region_size(&w->region);
    void *base = put_to_use(w, used);
    if (have >= used && (have - used <= used / SLACK_SHARE || lend(w, used)))
        return base;
    void *resized = resize_mapping(w, size, true);
    if (resized == NULL)
        whale_free(base, true);
    return resized;
}

/* Whole units, that the cache tells lengths apart, and realloc need not ask for each page. Small
 * pages at the end cost more than a huge one, so that is mapped whole if it is not much longer. Where
 * there may be very many, each fills its place, and the system makes one mapping of neighbours. */
static size_t size_to_map(size_t size)
{
    bool are_many = swing_used(&in_use) > (long)MANY_BYTES;
    size_t huge_pages = align_up(size, HUGE_PAGE);
    if (are_many)
        return align_up(size, WHALE_ALIGNMENT);
    return huge_pages - size <= size / WASTE_SHARE ? huge_pages : align_up(size, UNIT_SIZE);
}

void *whale_alloc(size_t bytes, size_t alignment, bool *zeroed)
{
    size_t exact = page_up(bytes), size = size_to_map(exact);
    alignment = max_size(alignment, WHALE_ALIGNMENT);
    void *p = reuse(exact, size, alignment);
    bool zeroes = *zeroed;
    *zeroed = p == NULL;
    if (p == NULL)
        p = map_new(exact, size, alignment, zeroes);
    return p != NULL || size == exact ? p : map_new(exact, exact, alignment, zeroes);
}

/* Nobody uses it any more, and its word says so. */
static void keep_or_unmap(struct whale *w)
{
    atomic_store_explicit(&w->freed_at, os_milliseconds(), memory_order_relaxed);
    if (!cache_put(w))
        whale_unmap(w);
}

void whale_free(void *p, bool comes_again)
{
    struct whale *w = whale_of(p);
    whale_decay();
    total_note();
    settle_lent(w, 0);
    swing_return(&in_use, (long)region_size(&w->region), comes_again);
    registry_set_word(p, UNIT_FREE); /* a second free of it is seen */
    huge_look_seldom(&huge, p, region_size(&w->region));
    keep_or_unmap(w);
}

size_t whale_bytes(const void *p)
{
    return whale_of(p)->used;
}

static void *remap(struct whale *w, size_t size, size_t used)
{
    size_t lent = w->lent;
    settle_lent(w, 0);
    char *p = resize_mapping(w, size, false);
    if (p != NULL) {
        whale_of(p)->used = used;
        return p;
    }
    w->lent = lent;
    atomic_fetch_add_explicit(&lent_bytes, lent, memory_order_relaxed);
    return NULL;
}

/* It is shorter, and a unit or more is left over: else its room is for it to grow again. */
static bool is_to_shrink(const struct whale *w, size_t size)
{
    return size < w->used && size_to_map(size) < region_size(&w->region);
}

void *whale_resize(void *p, size_t bytes)
{
    struct whale *w = whale_of(p);
    size_t size = page_up(bytes), had = region_size(&w->region);
    if (size > had || is_to_shrink(w, size)) {
        size_t wanted = size_to_map(size);
        void *resized = remap(w, wanted, size);
        return resized != NULL || wanted == size ? resized : remap(w, size, size);
    }
    w->used = max_size(w->used, size);
    settle_lent(w, had - w->used);
    return p;
}

/* ---- after a fork ---- */

static bool is_cached(const struct whale *w)
{
    bool found = false;
    for (unsigned i = 0, end = slots_end(); i < end; i++)
        found |= slot_whale(slot_look(i).word) == w;
    return found;
}

/* A thread that vanished may have had one of its two steps before it. */
static void count_cache_again(void)
{
    atomic_store_explicit(&cached_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&cached_resident, 0, memory_order_relaxed);
    atomic_store_explicit(&staying, 0, memory_order_relaxed);
    for (unsigned i = 0, end = slots_end(); i < end; i++) {
        struct whale *w = slot_whale(slot_look(i).word);
        if (w != NULL)
            count_cached(w, 1);
    }
}

/* In use, and counted anew; or nobody's, and not in the cache: on its way into it, or out. */
static void take_back(struct whale *w)
{
    uintptr_t word = registry_word(w->region.base);
    if (word == UNIT_WHALE) {
        atomic_fetch_add_explicit(&lent_bytes, w->lent, memory_order_relaxed);
        swing_set_used(&in_use, swing_used(&in_use) + (long)region_size(&w->region));
    } else if (word == UNIT_FREE && !is_cached(w)) {
        w->lent = 0;
        keep_or_unmap(w);
    }
}

static void take_back_region(struct region *region, void *context)
{
    (void)context;
    if (region->kind == REGION_WHALE)
        take_back((struct whale *)(void *)region);
}

void whale_take_back(void)
{
    count_cache_again();
    atomic_store_explicit(&lent_bytes, 0, memory_order_relaxed);
    swing_set_used(&in_use, 0);
    registry_walk_alone(take_back_region, NULL);
}
