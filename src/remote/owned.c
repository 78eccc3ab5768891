/*
 * owned.c: see owned.h for the protocol.
 */
#include "owned.h"
#include "chain.h"
#include "counters.h"
#include "../global/shared.h"

#include <limits.h>

#define SCAN_MOST     8u     /* full slabs of a class whose remote stacks one search looks at; */
#define SCAN_FEW      1u     /* the same, where others free little */
#define UNITS_OF_LATE 4096u  /* 256 MiB */
#define GIVEN_UP_MOST 4u     /* slabs at once, where the bounds have become narrower */
#define DISOWNED_MOST 64u    /* the same, of a class of which none is to be owned any more */
#define JUDGED        4096u  /* blocks that came back, until it is said who disturbs whom */
#define FULL_LOOKS    4u     /* full slabs into which others have freed, at once */
#define OTHERS_PART   4u     /* if others have freed such a part of them, they do */
#define LONG_PART     MIB(4) /* in use, by the number of heaps: with less, no slab is long */
#define LONG_ABOVE    KIB(2) /* bytes of a block, of which slabs may be long */
#define POPS_MOST     64u /* SHARED slabs that one search tries: others may have claimed them all */

void owned_init(struct owned *o, uintptr_t owner)
{
    o->owner = owner;
    o->full_count = o->partial_count = 0;
    o->idle_bytes = 0;
    o->count_most = OWNED_LEAST;
    o->idle_most = OWNED_IDLE_LEAST;
    o->claim_most = 0;
    o->part = 0;
    o->taken = o->returned = 0;
    o->own_back = o->others_back = 0;
    o->undisturbed = false;
    o->full_learned = OWNED_FULL_MOST;
    o->fresh = 0;
    o->awaited = 0;
    o->waits = 0;
    o->deposits = ~(uint64_t)0;
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++) {
        TAILQ_INIT(&o->partial[i]);
        TAILQ_INIT(&o->full[i]);
    }
}

static size_t idle_bytes_of(struct slab *s)
{
    return slab_free_count_owner(s) * slab_block_bytes(s);
}

/* ---- lists: a slab is in `partial` if it has room, else in `full` ---- */

static void list_partial(struct owned *o, struct slab *s)
{
    TAILQ_INSERT_HEAD(&o->partial[slab_class(s)], s, entry);
    o->idle_bytes += idle_bytes_of(s);
    o->partial_count += slab_units(s);
}

static void list_full(struct owned *o, struct slab *s)
{
    TAILQ_INSERT_TAIL(&o->full[slab_class(s)], s, entry);
    o->full_count += slab_units(s);
}

static void unlist_partial(struct owned *o, struct slab *s)
{
    TAILQ_REMOVE(&o->partial[slab_class(s)], s, entry);
    o->idle_bytes -= idle_bytes_of(s);
    o->partial_count -= slab_units(s);
}

static void unlist_full(struct owned *o, struct slab *s)
{
    TAILQ_REMOVE(&o->full[slab_class(s)], s, entry);
    o->full_count -= slab_units(s);
}

/* ---- units ---- */

static void age(struct owned *o)
{
    if (o->taken + o->returned < UNITS_OF_LATE)
        return;
    o->taken /= 2;
    o->returned /= 2;
}

void owned_takes(struct owned *o, size_t units)
{
    o->taken += units;
    age(o);
}

bool owned_returns(struct owned *o, size_t units)
{
    o->returned += units;
    age(o);
    return owned_comes_again(o);
}

/* ---- ownership ---- */

static void set_owner_word(struct owned *o, struct slab *s)
{
    slab_set_words(s, owned_token(o, slab_class(s)));
}

/* Of a slab with no block out, in no list. */
static void release_to_free(struct owned *o, struct slab *s, bool comes_again)
{
    unsigned units = slab_units(s);
    slab_set_words(s, UNIT_FREE);
    atomic_store_explicit(&s->owner, SLAB_FREE, memory_order_release);
    if (units > 1)
        magazine_return_row(&o->magazine, s->base, units, comes_again);
    else if (comes_again && o->magazine.most != 0)
        magazine_put(&o->magazine, s->base);
    else
        magazine_return(&o->magazine, s->base, comes_again);
}

/* Of a slab in no list, after frees of the heap's own. False: it has blocks out. */
static bool release_if_empty(struct owned *o, struct slab *s)
{
    if (slab_used(s) != 0)
        return false;
    release_to_free(o, s, owned_returns(o, slab_units(s)));
    return true;
}

/* Takes over what others have pushed; the slab is in no list. How many blocks that were. */
static uint32_t drain_uncounted(struct slab *s)
{
    uint32_t count = 0;
    if (lf_stack_is_empty(&s->remote))
        return 0;
    struct block *next = (struct block *)lf_stack_pop_all_upmc(&s->remote);
    while (next != NULL) {
        struct chain chain = chain_read(next);
        next = chain_last(chain)->next;
        count += chain.count;
        slab_put_owner(s, chain);
    }
    return count;
}

/* Of a slab that o has owned for some time. */
static void drain(struct owned *o, struct slab *s)
{
    o->others_back += drain_uncounted(s);
}

/* How what the heap itself has freed goes back. */
typedef void how_to_put(struct slab *s, struct chain chain);

static void put_listed(struct slab *s, struct chain chain)
{
    slab_put_owner(s, chain);
}

static void put_marked(struct slab *s, struct chain chain)
{
    slab_mark_owner(s, chain);
}

static void put(struct owned *o, struct slab *s, struct chain chain, how_to_put *how)
{
    o->own_back += chain.count;
    how(s, chain);
}

/* Of a slab in no list that o owns: into the right list, or free if no block is out. */
static void settle(struct owned *o, struct slab *s)
{
    if (slab_used(s) == 0)
        release_to_free(o, s, false);
    else if (slab_has_room_owner(s))
        list_partial(o, s);
    else
        list_full(o, s);
}

/* What others have pushed on such a slab. */
static void take_back(struct owned *o, struct slab *s)
{
    drain(o, s);
    settle(o, s);
}

/* The claim as such; the unit's word still says that it is nobody's. The class may have changed
 * until the CAS succeeds, but not after it. */
static bool claim_owner(struct owned *o, struct slab *s)
{
    uintptr_t seen = atomic_load_explicit(&s->owner, memory_order_seq_cst);
    uintptr_t token = owned_token(o, slab_class(s));
    if (seen != SLAB_UNOWNED && seen != SLAB_SHARED)
        return false;
    COUNT(cas);
    if (!atomic_compare_exchange_strong_explicit(&s->owner, &seen, token, memory_order_acq_rel,
                                                 memory_order_relaxed)) {
        COUNT(cas_failed);
        return false;
    }
    if (token != owned_token(o, slab_class(s)))
        atomic_store_explicit(&s->owner, owned_token(o, slab_class(s)), memory_order_relaxed);
    COUNT(claim);
    return true;
}

static void set_nobodys(struct slab *s)
{
    bool room = slab_has_room_owner(s);
    atomic_exchange_explicit(&s->owner, room ? SLAB_SHARED : SLAB_UNOWNED, memory_order_seq_cst);
    COUNT(cas);
    COUNT_N(share, room);
    COUNT_N(disown, !room);
    if (room)
        shared_push(s);
}

/* Of a slab in no list that o owns, and whose word says that it is nobody's. Again if, at the
 * second look, others have pushed meanwhile, and not claimed it yet. */
static void let_go(struct owned *o, struct slab *s)
{
    do {
        drain(o, s);
        if (slab_used(s) == 0) {
            release_to_free(o, s, false);
            return;
        }
        set_nobodys(s);
        lf_full_barrier_after_rmw();
    } while (!lf_stack_is_empty(&s->remote) && claim_owner(o, s));
}

/* Of a slab in no list that o owns. Each free reads the words near this one, so it is not written
 * to for nothing. */
static void give_up(struct owned *o, struct slab *s)
{
    uintptr_t nobodys = unit_word(0, slab_class(s));
    if (registry_word(s->base) != nobodys)
        slab_set_words(s, nobodys);
    let_go(o, s);
}

static bool has_many(const struct owned *o)
{
    return owned_count(o) > o->count_most;
}

static uint32_t full_most(const struct owned *o)
{
    return o->undisturbed ? o->full_learned : OWNED_FULL_MOST;
}

static bool has_many_full(const struct owned *o)
{
    return has_many(o) || o->full_count > full_most(o);
}

/* Who allocates much has as many full slabs as it may, most of the time. Where others disturb it,
 * it then keeps one partial slab of a class, and claims none for a few blocks: what others free
 * into them would wait. Who drops much has few full ones. */
static bool has_its_fill(const struct owned *o)
{
    return o->undisturbed ? has_many(o) : has_many_full(o);
}

/* The next to be given up, out of its list: a full slab while there are too many, else the oldest
 * partial one but the newest. NULL: none of the class, or the heap is within its bounds. */
static struct slab *unlist_beyond(struct owned *o, unsigned class_no)
{
    struct slab *s = TAILQ_FIRST(&o->full[class_no]);
    if (s != NULL && has_many_full(o)) {
        unlist_full(o, s);
        atomic_store_explicit(&s->full_of, o->owner, memory_order_relaxed);
        return s;
    }
    s = TAILQ_LAST(&o->partial[class_no], slab_list);
    if (s == TAILQ_FIRST(&o->partial[class_no]) ||
        (!has_its_fill(o) && o->idle_bytes <= o->idle_most))
        return NULL;
    unlist_partial(o, s);
    return s;
}

static bool owns_none(const struct owned *o, unsigned class_no)
{
    return (o->deposits >> class_no & 1) != 0;
}

/* Of a slab just claimed, for blocks that the heap itself has freed. If it gave it up, full, that was
 * for nothing: while it is undisturbed it may keep as much more the next time. */
static void learn(struct owned *o, struct slab *s)
{
    uintptr_t full_of = atomic_load_explicit(&s->full_of, memory_order_relaxed);
    if (full_of == 0)
        return;
    atomic_store_explicit(&s->full_of, 0, memory_order_relaxed);
    if (full_of == o->owner && o->undisturbed && o->full_learned < OWNED_MOST)
        o->full_learned += slab_units(s);
}

/* How many more might have gone. */
static unsigned disown_some(struct owned *o, unsigned class_no, unsigned most)
{
    struct slab *s;
    for (; most > 0 && (s = TAILQ_FIRST(&o->partial[class_no])) != NULL; most--) {
        unlist_partial(o, s);
        give_up(o, s);
    }
    for (; most > 0 && (s = TAILQ_FIRST(&o->full[class_no])) != NULL; most--) {
        unlist_full(o, s);
        give_up(o, s);
    }
    return most;
}

static void set_bounds(struct owned *o)
{
    size_t part = o->part = segment_used_bytes_a_heap();
    size_t slabs = o->undisturbed ? min_size(OWNED_PARTS * part / UNIT_SIZE, OWNED_MOST)
                                  : part / UNIT_SIZE / OWNED_SHARE;
    o->count_most = (uint32_t)max_size(slabs, OWNED_LEAST);
    o->claim_most = o->undisturbed ? SIZE_MAX : part / OWNED_IDLE_SHARE;
    o->idle_most = max_size(o->claim_most, OWNED_IDLE_LEAST);
    size_t units = segment_purge_limit() != 0 ? part / UNIT_SIZE / OWNED_SPARE_SHARE : 0;
    magazine_bound(&o->magazine, (uint32_t)min_size(units, MAGAZINE_MOST));
}

/* The caller's slab, if it has one, is in no list. */
void owned_keep_bounds(struct owned *o, unsigned class_no)
{
    struct slab *s;
    if (owns_none(o, class_no))
        disown_some(o, class_no, DISOWNED_MOST);
    if (o->undisturbed && has_many(o))
        set_bounds(o); /* use may have grown since the last look around */
    for (unsigned tries = GIVEN_UP_MOST; tries > 0 && (s = unlist_beyond(o, class_no)) != NULL;
         tries--)
        give_up(o, s);
}

/* True: others have freed into it. */
static bool look_at_oldest_full(struct owned *o, unsigned class_no)
{
    struct slab *s = TAILQ_FIRST(&o->full[class_no]);
    if (s == NULL)
        return false;
    bool any = !lf_stack_is_empty(&s->remote);
    unlist_full(o, s);
    take_back(o, s);
    return any;
}

/* What others have freed into it may be all that says that they do. */
void owned_look_at_oldest(struct owned *o, unsigned class_no)
{
    struct slab *s = TAILQ_LAST(&o->partial[class_no], slab_list);
    if (s != NULL && !lf_stack_is_empty(&s->remote)) {
        unlist_partial(o, s);
        take_back(o, s);
    }
    for (unsigned left = FULL_LOOKS; left > 0 && look_at_oldest_full(o, class_no); left--)
        continue;
}

/* When so many blocks have come back, or as soon as others have freed too many of them. */
static void judge(struct owned *o)
{
    bool undisturbed = o->others_back < JUDGED / OTHERS_PART;
    if (undisturbed && o->own_back < JUDGED)
        return;
    o->undisturbed = undisturbed;
    o->own_back = o->others_back = 0;
}

void owned_look_around(struct owned *o)
{
    judge(o);
    set_bounds(o);
}

void owned_begin(struct owned *o)
{
    o->taken = o->returned = 0;
    owned_look_around(o);
}

/* Of a slab that o has just claimed. */
static void take_over(struct owned *o, struct slab *s)
{
    set_owner_word(o, s);
    drain_uncounted(s);
}

/* The same, to be kept. */
static void keep_claimed(struct owned *o, struct slab *s)
{
    take_over(o, s);
    owned_keep_bounds(o, slab_class(s));
    settle(o, s); /* last: what is in no list is not given up */
}

bool owned_claim(struct owned *o, struct slab *s)
{
    if (!claim_owner(o, s))
        return false;
    if (owns_none(o, slab_class(s)))
        let_go(o, s);
    else
        keep_claimed(o, s);
    return true;
}

unsigned owned_give_up(struct owned *o, unsigned class_no, unsigned most)
{
    unsigned left = most;
    for (unsigned i = 0; i < SIZE_CLASS_COUNT && left > 0; i++)
        left = disown_some(o, (class_no + i) % SIZE_CLASS_COUNT, left);
    uint32_t spare = o->magazine.count, bound = o->magazine.most;
    magazine_bound(&o->magazine, 0);
    o->magazine.most = bound;
    return most - left + spare;
}

void owned_disown_all(struct owned *o)
{
    owned_give_up(o, 0, UINT_MAX);
    o->undisturbed = false; /* whoever comes next */
    o->full_learned = OWNED_FULL_MOST;
    o->own_back = o->others_back = 0;
}

/* To own a slab whose only block is out would gain nothing. */
static bool is_whole_unit(unsigned class_no)
{
    return size_class_bytes[class_no] == UNIT_SIZE;
}

void owned_set_none(struct owned *o, unsigned class_no, bool none)
{
    if (!none && !is_whole_unit(class_no)) {
        o->deposits &= ~((uint64_t)1 << class_no);
        return;
    }
    owned_claim_none(o, class_no);
    disown_some(o, class_no, DISOWNED_MOST); /* owned_keep_bounds goes on */
}

/* ---- blocks out, blocks back ---- */

/* Of a slab that has none back yet, and of which more can be cut: it stays in its place. */
static bool is_cut_on(const struct owned *o, struct slab *s)
{
    return !slab_has_free_owner(s) && slab_carved(s) + s->cut < s->capacity &&
           !owns_none(o, slab_class(s));
}

struct chain owned_take(struct owned *o, struct slab *s)
{
    if (is_cut_on(o, s))
        return slab_take_owner(s);
    unlist_partial(o, s);
    struct chain chain = slab_take_owner(s);
    if (owns_none(o, slab_class(s))) {
        give_up(o, s);
        return chain;
    }
    if (!slab_has_room_owner(s))
        drain(o, s);
    owned_keep_bounds(o, slab_class(s));
    settle(o, s);
    return chain;
}

struct chain owned_take_few(struct owned *o, struct slab *s, unsigned doubled)
{
    unlist_partial(o, s);
    struct chain chain = slab_take_few_owner(s, doubled);
    give_up(o, s);
    return chain;
}

/* The slab is in no list. */
static void put_and_settle(struct owned *o, struct slab *s, struct chain chain, how_to_put *how)
{
    put(o, s, chain, how);
    if (!release_if_empty(o, s))
        settle(o, s);
}

/* Of a slab that o owns. */
static void put_own(struct owned *o, struct slab *s, struct chain chain, how_to_put *how)
{
    if (slab_has_room_owner(s))
        unlist_partial(o, s);
    else
        unlist_full(o, s);
    drain(o, s);
    owned_keep_bounds(o, slab_class(s));
    put_and_settle(o, s, chain, how);
}

void owned_put(struct owned *o, struct slab *s, struct chain chain)
{
    put_own(o, s, chain, put_listed);
}

/* False: it has an owner. */
static bool deposit(struct owned *o, struct slab *s, struct chain chain)
{
    if (!claim_owner(o, s))
        return false;
    learn(o, s);
    drain_uncounted(s); /* that waited before */
    put(o, s, chain, put_listed);
    if (!release_if_empty(o, s))
        let_go(o, s);
    return true;
}

static bool may_claim(const struct owned *o, unsigned class_no)
{
    return !owns_none(o, class_no) && !has_its_fill(o) && o->idle_bytes <= o->claim_most;
}

static bool claim_and_put(struct owned *o, struct slab *s, struct chain chain)
{
    if (!may_claim(o, slab_class(s)) || !claim_owner(o, s))
        return false;
    learn(o, s);
    take_over(o, s);
    put_and_settle(o, s, chain, put_marked);
    return true;
}

bool owned_put_or_claim(struct owned *o, struct slab *s, struct chain chain)
{
    if (!owned_has(o, s))
        return claim_and_put(o, s, chain);
    put_own(o, s, chain, put_marked);
    return true;
}

/* Of many owners, each is the last now and then. */
static void note_wait(struct owned *o, struct slab *s)
{
    uintptr_t owner = atomic_load_explicit(&s->owner, memory_order_relaxed) & UNIT_OWNERS;
    if (owner == 0)
        return;
    o->awaited = owner;
    o->awaited_class = slab_class(s);
    o->waits++;
}

static void push_remote(struct owned *o, struct slab *s, struct chain chain)
{
    COUNT(remote_chain);
    COUNT_N(remote_block, chain.count);
    chain_label(chain);
    lf_stack_push_chain(&s->remote, (lf_node *)chain.first, (lf_node *)chain_last(chain));
    lf_full_barrier_after_rmw();
    if (!owned_claim(o, s))
        note_wait(o, s);
}

/* The caller's blocks pin the slab's class. Who has its fill would give up another slab for this
 * one. */
void owned_push_remote(struct owned *o, struct slab *s, struct chain chain)
{
    bool keeps = !owns_none(o, slab_class(s)) && !has_its_fill(o);
    if (owned_has(o, s) || (keeps && owned_claim(o, s)))
        owned_put(o, s, chain);
    else if (keeps || !deposit(o, s, chain))
        push_remote(o, s, chain);
}

void remote_push_ownerless(struct slab *s, struct chain chain)
{
    uintptr_t unowned = SLAB_UNOWNED;
    chain_label(chain);
    lf_stack_push_chain(&s->remote, (lf_node *)chain.first, (lf_node *)chain_last(chain));
    lf_full_barrier_after_rmw();
    if (atomic_compare_exchange_strong_explicit(&s->owner, &unowned, SLAB_SHARED,
                                                memory_order_seq_cst, memory_order_relaxed))
        shared_push(s);
}

/* ---- a slab with room ---- */

/* The oldest full slabs first: they have had the longest time to be freed into. Those without are
 * moved to the end, so that the next search looks at others. */
static struct slab *find_freed_into(struct owned *o, unsigned class_no)
{
    struct slab_list *full = &o->full[class_no];
    struct slab *last = TAILQ_LAST(full, slab_list);
    for (unsigned left = o->undisturbed ? SCAN_FEW : SCAN_MOST; left > 0; left--) {
        struct slab *s = TAILQ_FIRST(full);
        if (s == NULL)
            return NULL;
        unlist_full(o, s);
        take_back(o, s);
        if (!TAILQ_EMPTY(&o->partial[class_no]))
            return TAILQ_FIRST(&o->partial[class_no]);
        if (s == last)
            return NULL;
    }
    return NULL;
}

struct slab *owned_find_own(struct owned *o, unsigned class_no)
{
    struct slab *s = TAILQ_FIRST(&o->partial[class_no]);
    return s != NULL ? s : find_freed_into(o, class_no);
}

/* A slab that was SHARED, and is wanted for this class: even who owns none keeps it until it has
 * taken from it. It may have come to be full, or to stand for another class, meanwhile: then it is
 * ours too, to be put where it belongs. */
static void claim_to_take(struct owned *o, struct slab *s, unsigned class_no)
{
    if (!claim_owner(o, s))
        return;
    if (!owns_none(o, slab_class(s)))
        keep_claimed(o, s);
    else if (slab_class(s) == class_no && slab_has_room_owner(s))
        list_partial(o, s);
    else
        let_go(o, s);
}

static struct slab *find_shared(struct owned *o, unsigned class_no, unsigned pops)
{
    struct slab *s;
    for (; pops > 0 && (s = shared_pop(class_no)) != NULL; pops--) {
        claim_to_take(o, s, class_no);
        if (!TAILQ_EMPTY(&o->partial[class_no]))
            return TAILQ_FIRST(&o->partial[class_no]);
    }
    return NULL;
}

/* A unit has few of the larger blocks. */
static unsigned units_wanted(const struct owned *o, unsigned class_no)
{
    bool is_long =
        !owns_none(o, class_no) && o->part >= LONG_PART && size_class_bytes[class_no] > LONG_ABOVE;
    return is_long ? SLAB_UNITS_LONG : 1;
}

static struct slab *find_free(struct owned *o, unsigned class_no)
{
    unsigned units = units_wanted(o, class_no);
    struct units taken =
        units > 1 ? magazine_take_row(&o->magazine, units) : magazine_take(&o->magazine);
    if (taken.units == 0)
        return NULL;
    struct slab *s = &taken.segment->slab[taken.first];
    owned_takes(o, taken.units);
    o->fresh +=
        taken.zeroed ? taken.units : segment_first_use(taken.segment, taken.first, taken.units);
    slab_init_owner(s, segment_unit(taken.segment, taken.first), taken.units, class_no,
                    !taken.zeroed);
    atomic_store_explicit(&s->owner, owned_token(o, class_no), memory_order_release);
    set_owner_word(o, s);
    list_partial(o, s);
    for (unsigned i = 0; i < taken.units; i++)
        shared_unlink_stale(&s[i]);
    return s;
}

struct slab *owned_find(struct owned *o, unsigned class_no)
{
    struct slab *s = owned_find_own(o, class_no);
    if (s == NULL)
        s = find_shared(o, class_no, POPS_MOST);
    if (s == NULL)
        s = find_free(o, class_no);
    return s != NULL ? s : find_shared(o, class_no, UINT_MAX); /* whatever lies above it */
}
