/*
 * slab.h: the model of src/global/slab.[ch], src/global/shared.c, src/remote/chain.h and
 * src/remote/owned.[ch]: slabs of two blocks, two size classes, one segment of two units.
 *
 * Left out: the bounds on what a heap owns (owned_keep_bounds gives up one by one, as owned_disown_all does,
 * which the scenarios call where they like), owned_put_or_claim (a claim, a drain and a put, as in owned_claim),
 * cutting (all blocks are cut at the start), and what walkers read.
 */
#ifndef MODELS_SLAB_H
#define MODELS_SLAB_H

#include "lf_stack.h"

#define SIZE_CLASS_COUNT 2u
#define SLABS            2u
#ifndef SLAB_BLOCKS
#define SLAB_BLOCKS 2u
#endif
#define SLAB_LINKS 2u
#define HEAPS      3u

/* ---- src/global/slab.h ---- */

enum slab_state : unsigned { SLAB_FREE = 0, SLAB_UNOWNED = 1, SLAB_SHARED = 2, SLAB_STATES };

enum unit_word : unsigned { UNIT_FOREIGN = 0, UNIT_FREE, UNIT_UNOWNED = 4 };

struct block {
    plain<block *> next;
    plain<unsigned> chain;
    plain<int> user;   /* what the program keeps in it */
    struct slab *slab; /* constant: what the address says */
};

struct slab {
    lf_stack<block> remote;
    atomic<unsigned> owner;
    lf_node link[SLAB_LINKS];
    atomic<unsigned> linked[SLAB_LINKS]; /* 0, or 1 + the class */
    atomic<unsigned> class_no;
    atomic<unsigned> word; /* the unit's, in the registry */
    unsigned unit;         /* constant */

    plain<block *> free;
    plain<block *> free_last;
    plain<unsigned> free_count;
    plain<unsigned> used;
    plain<int> entry;

    block blocks[SLAB_BLOCKS];
};

struct chain {
    block *first;
    block *last;
    unsigned count;
};

inline chain chain_of(block *b)
{
    return {b, b, 1};
}

/* Changes only while its reader's CAS on `owner` must fail, or is read again after it. */
inline unsigned slab_class(slab *s)
{
    with_last_step quiet;
    return atomic_load_explicit(&s->class_no, memory_order_relaxed);
}

inline bool slab_has_room_owner(slab *s)
{
    return s->free != nullptr;
}

/* slab.c: slab_put_owner */
inline void slab_put_owner(slab *s, chain chain)
{
    chain.last->next = s->free;
    if (s->free == nullptr)
        s->free_last = chain.last;
    s->free = chain.first;
    s->free_count = s->free_count + chain.count;
    s->used = s->used - chain.count;
}

/* slab.c: slab_take_owner */
inline chain slab_take_owner(slab *s)
{
    chain chain = {s->free, s->free_last, s->free_count};
    s->free = nullptr;
    s->free_count = 0;
    s->used = s->used + chain.count;
    return chain;
}

/* slab.c: slab_take_few_owner, of one */
inline block *slab_take_one_owner(slab *s)
{
    block *b = s->free;
    s->free = b->next;
    s->free_count = s->free_count - 1;
    s->used = s->used + 1;
    b->next = nullptr;
    return b;
}

/* slab.c: slab_init_owner, and cut_owner of all blocks */
inline void slab_init_owner(slab *s, unsigned class_no)
{
    s->free = &s->blocks[0];
    s->free_last = &s->blocks[SLAB_BLOCKS - 1];
    for (unsigned i = 0; i < SLAB_BLOCKS; i++)
        s->blocks[i].next = i + 1 < SLAB_BLOCKS ? &s->blocks[i + 1] : nullptr;
    s->free_count = SLAB_BLOCKS;
    s->used = 0;
    atomic_store_explicit(&s->class_no, class_no, memory_order_relaxed);
}

/* ---- src/remote/chain.h ---- */

inline void chain_label(chain chain)
{
    unsigned last = (unsigned)(chain.last - chain.first->slab->blocks);
    chain.first->chain = last << 16 | chain.count;
}

inline chain chain_read(block *first)
{
    unsigned label = first->chain;
    return {first, &first->slab->blocks[label >> 16], label & 0xffff};
}

/* ---- src/remote/owned.h ---- */

struct slab_list {
    slab *at[SLABS];
    unsigned count;
};

struct owned {
    unsigned bins;
    slab_list partial[SIZE_CLASS_COUNT];
    slab_list full[SIZE_CLASS_COUNT];
    unsigned count;
    bool owns_none; /* whatever the class: `deposits` */
};

inline void list_insert(slab_list *list, slab *s)
{
    s->entry = 1;
    list->at[list->count++] = s;
}

inline void list_remove(slab_list *list, slab *s)
{
    unsigned i = 0;
    while (i < list->count && list->at[i] != s)
        i++;
    MUST(i < list->count);
    s->entry = 0;
    for (list->count--; i < list->count; i++)
        list->at[i] = list->at[i + 1];
}

inline slab *list_first(slab_list *list)
{
    return list->count != 0 ? list->at[0] : nullptr;
}

/* What all threads share: the slabs, the shared stacks, the free units; and what the checks need. */
struct world {
    slab slabs[SLABS];
    struct {
        lf_stack<lf_node> slabs[SLAB_LINKS];
    } stacks[SIZE_CLASS_COUNT];
    atomic<unsigned> free_units;
    owned heaps[HEAPS];
    std::array<block *, 8> held; /* blocks in the program's hands at the end, by thread and place */

    world();
    void check();
};

inline world *the_world; /* of this iteration */

inline owned *heap(unsigned t)
{
    return &the_world->heaps[t];
}

/* ---- src/global/shared.c ---- */

/* shared.c: push_by */
inline bool push_by(slab *s, unsigned class_no, unsigned k)
{
    unsigned linked =
        atomic_load_explicit(&s->linked[k], order(PUSH_BY_LOOK, memory_order_seq_cst));
    unsigned as = class_no + 1;
    if (linked != 0)
        return linked == as;
    if (!atomic_compare_exchange_strong_explicit(&s->linked[k], &linked, as,
                                                 order(PUSH_BY_LINKED, memory_order_seq_cst),
                                                 order(PUSH_BY_LINKED, memory_order_seq_cst)))
        return linked == as;
    lf_stack_push(&the_world->stacks[class_no].slabs[k], &s->link[k]);
    return true;
}

/* shared.c: shared_push */
inline void shared_push(slab *s)
{
    unsigned class_no = slab_class(s);
    for (unsigned k = 0; k < SLAB_LINKS; k++)
        if (push_by(s, class_no, k))
            return;
}

inline slab *slab_of_link(lf_node *node, unsigned k)
{
    for (slab &s : the_world->slabs)
        if (&s.link[k] == node)
            return &s;
    MUST(!"a node that is no slab's");
    return nullptr;
}

/* What a popper does before the claim; the mutant does it after. */
inline void clear_linked(slab *s, unsigned k)
{
    atomic_store_explicit(&s->linked[k], 0u, order(POP_BY_LINKED, memory_order_seq_cst));
}

/* shared.c: pop_by */
inline slab *pop_by(unsigned class_no, unsigned k)
{
    lf_stack<lf_node> *slabs = &the_world->stacks[class_no].slabs[k];
    if (lf_stack_is_empty(slabs))
        return nullptr;
    lf_node *node = lf_stack_pop_mpmc(slabs);
    if (node == nullptr)
        return nullptr;
    slab *s = slab_of_link(node, k);
    if (does(POP_BY_CLEARS_FIRST))
        clear_linked(s, k);
    return s;
}

/* shared.c: shared_pop */
inline slab *shared_pop(unsigned class_no)
{
    slab *s = pop_by(class_no, 0);
    return s != nullptr ? s : pop_by(class_no, 1);
}

/* ---- src/global/segment.c, in short (segment.cpp has the whole) ---- */

inline void segment_return(slab *s)
{
    atomic_fetch_or_explicit(&the_world->free_units, 1u << s->unit,
                             order(RETURN_UNIT, memory_order_seq_cst));
}

inline slab *segment_take()
{
    unsigned free =
        atomic_load_explicit(&the_world->free_units, order(TAKE_UNIT, memory_order_acquire));
    while (free != 0) {
        unsigned bit = free & -free;
        if (atomic_compare_exchange_weak_explicit(&the_world->free_units, &free, free & ~bit,
                                                  order(TAKE_UNIT, memory_order_acq_rel),
                                                  order(TAKE_UNIT, memory_order_acquire)))
            return &the_world->slabs[bit == 1 ? 0 : 1];
    }
    return nullptr;
}

/* ---- src/remote/owned.c ---- */

inline unsigned owned_token(const owned *o, unsigned class_no)
{
    return o->bins + class_no;
}

inline bool is_token_of(const owned *o, unsigned word)
{
    return word - o->bins < SIZE_CLASS_COUNT;
}

inline bool owned_has(const owned *o, slab *s)
{
    return is_token_of(o, atomic_load_explicit(&s->owner, memory_order_relaxed));
}

/* A copy that nothing is decided by but "mine": it need not be a step of its own. */
inline void registry_set_word(slab *s, unsigned word)
{
    with_last_step quiet;
    atomic_store_explicit(&s->word, word, memory_order_release);
}

inline void list_partial(owned *o, slab *s)
{
    list_insert(&o->partial[slab_class(s)], s);
    o->count++;
}

inline void list_full(owned *o, slab *s)
{
    list_insert(&o->full[slab_class(s)], s);
    o->count++;
}

inline void unlist_partial(owned *o, slab *s)
{
    list_remove(&o->partial[slab_class(s)], s);
    o->count--;
}

inline void unlist_full(owned *o, slab *s)
{
    list_remove(&o->full[slab_class(s)], s);
    o->count--;
}

inline void set_owner_word(owned *o, slab *s)
{
    registry_set_word(s, owned_token(o, slab_class(s)));
}

/* owned.c: release_to_free */
inline void release_to_free(slab *s)
{
    registry_set_word(s, UNIT_FREE);
    atomic_store_explicit(&s->owner, SLAB_FREE, memory_order_release);
    segment_return(s);
}

/* owned.c: drain */
inline void drain(slab *s)
{
    if (lf_stack_is_empty(&s->remote))
        return;
    block *next = lf_stack_pop_all_upmc(&s->remote);
    while (next != nullptr) {
        chain chain = chain_read(next);
        next = chain.last->next;
        slab_put_owner(s, chain);
    }
}

/* owned.c: settle */
inline void settle(owned *o, slab *s)
{
    if (s->used == 0)
        release_to_free(s);
    else if (slab_has_room_owner(s))
        list_partial(o, s);
    else
        list_full(o, s);
}

/* owned.c: claim_owner */
inline bool claim_owner(owned *o, slab *s)
{
    unsigned seen = atomic_load_explicit(&s->owner, order(CLAIM_LOAD, memory_order_seq_cst));
    unsigned token = owned_token(o, slab_class(s));
    if (seen != SLAB_UNOWNED && seen != SLAB_SHARED)
        return false;
    if (!atomic_compare_exchange_strong_explicit(
            &s->owner, &seen, token, order(CLAIM_CAS, memory_order_acq_rel), memory_order_relaxed))
        return false;
    if (does(CLAIM_CORRECTS_TOKEN) && token != owned_token(o, slab_class(s)))
        atomic_store_explicit(&s->owner, owned_token(o, slab_class(s)), memory_order_relaxed);
    return true;
}

/* owned.c: set_nobodys */
inline void set_nobodys(slab *s)
{
    bool room = slab_has_room_owner(s);
    if (room && !does(GIVE_UP_THEN_PUSHES))
        shared_push(s);
    atomic_exchange_explicit(&s->owner, room ? SLAB_SHARED : SLAB_UNOWNED,
                             order(GIVE_UP_OWNER, memory_order_seq_cst));
    if (room && does(GIVE_UP_THEN_PUSHES))
        shared_push(s);
}

/* owned.c: let_go */
inline void let_go(owned *o, slab *s)
{
    do {
        drain(s);
        if (s->used == 0) {
            release_to_free(s);
            return;
        }
        set_nobodys(s);
        lf_full_barrier_after_rmw(GIVE_UP_BARRIER);
    } while (does(GIVE_UP_SECOND_LOOK) && !lf_stack_is_empty(&s->remote) && claim_owner(o, s));
}

/* owned.c: give_up */
inline void give_up(owned *o, slab *s)
{
    registry_set_word(s, UNIT_UNOWNED + slab_class(s));
    let_go(o, s);
}

/* owned.c: keep_claimed */
inline void keep_claimed(owned *o, slab *s)
{
    set_owner_word(o, s);
    if (does(CLAIM_DRAINS))
        drain(s);
    settle(o, s);
}

/* owned.c: owned_claim */
inline bool owned_claim(owned *o, slab *s)
{
    if (!claim_owner(o, s))
        return false;
    if (o->owns_none)
        let_go(o, s);
    else
        keep_claimed(o, s);
    return true;
}

/* owned.c: disown_class */
inline void disown_class(owned *o, unsigned class_no)
{
    slab *s;
    while ((s = list_first(&o->partial[class_no])) != nullptr) {
        unlist_partial(o, s);
        give_up(o, s);
    }
    while ((s = list_first(&o->full[class_no])) != nullptr) {
        unlist_full(o, s);
        give_up(o, s);
    }
}

/* owned.c: owned_disown_all */
inline void owned_disown_all(owned *o)
{
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        disown_class(o, i);
}

/* owned.c: owned_set_none, of all classes */
inline void owned_set_none(owned *o, bool none)
{
    o->owns_none = none;
    if (none)
        owned_disown_all(o);
}

/* owned.c: owned_take */
inline chain owned_take(owned *o, slab *s)
{
    unlist_partial(o, s);
    chain chain = slab_take_owner(s);
    if (!slab_has_room_owner(s))
        drain(s);
    settle(o, s);
    return chain;
}

/* owned.c: owned_put */
inline void owned_put(owned *o, slab *s, chain chain)
{
    if (slab_has_room_owner(s))
        unlist_partial(o, s);
    else
        unlist_full(o, s);
    slab_put_owner(s, chain);
    settle(o, s);
}

/* owned.c: deposit */
inline bool deposit(owned *o, slab *s, chain chain)
{
    if (!claim_owner(o, s))
        return false;
    slab_put_owner(s, chain);
    let_go(o, s);
    return true;
}

/* owned.c: owned_push_remote, push_remote */
inline void owned_push_remote(owned *o, slab *s, chain chain)
{
    if (owned_has(o, s) || (!o->owns_none && owned_claim(o, s))) {
        owned_put(o, s, chain);
        return;
    }
    if (o->owns_none && deposit(o, s, chain))
        return;
    if (does(CHAIN_LABELS))
        chain_label(chain);
    lf_stack_push_chain(&s->remote, chain.first, chain.last);
    lf_full_barrier_after_rmw(PUSH_REMOTE_BARRIER);
    if (does(PUSH_REMOTE_SECOND_LOOK))
        owned_claim(o, s);
}

/* owned.c: remote_push_ownerless */
inline void remote_push_ownerless(slab *s, chain chain)
{
    unsigned unowned = SLAB_UNOWNED;
    chain_label(chain);
    lf_stack_push_chain(&s->remote, chain.first, chain.last);
    lf_full_barrier_after_rmw(PUSH_OWNERLESS_BARRIER);
    if (does(PUSH_OWNERLESS_SHARES) &&
        atomic_compare_exchange_strong_explicit(&s->owner, &unowned, SLAB_SHARED,
                                                order(PUSH_OWNERLESS_CAS, memory_order_seq_cst),
                                                memory_order_relaxed))
        shared_push(s);
}

/* owned.c: find_freed_into, of one slab */
inline slab *find_freed_into(owned *o, unsigned class_no)
{
    slab *s = list_first(&o->full[class_no]);
    if (s == nullptr)
        return nullptr;
    unlist_full(o, s);
    drain(s);
    settle(o, s);
    return list_first(&o->partial[class_no]);
}

/* owned.c: owned_find_own */
inline slab *owned_find_own(owned *o, unsigned class_no)
{
    slab *s = list_first(&o->partial[class_no]);
    return s != nullptr ? s : find_freed_into(o, class_no);
}

/* owned.c: claim_to_take */
inline void claim_to_take(owned *o, slab *s, unsigned class_no)
{
    if (!claim_owner(o, s))
        return;
    if (!o->owns_none)
        keep_claimed(o, s);
    else if (slab_class(s) == class_no && slab_has_room_owner(s))
        list_partial(o, s);
    else
        let_go(o, s);
}

/* owned.c: find_shared */
inline slab *find_shared(owned *o, unsigned class_no)
{
    slab *s;
    while ((s = shared_pop(class_no)) != nullptr) {
        claim_to_take(o, s, class_no);
        if (!does(POP_BY_CLEARS_FIRST))
            clear_linked(s, 0);
        if (list_first(&o->partial[class_no]) != nullptr)
            return list_first(&o->partial[class_no]);
    }
    return nullptr;
}

/* owned.c: find_free */
inline slab *find_free(owned *o, unsigned class_no)
{
    slab *s = segment_take();
    if (s == nullptr)
        return nullptr;
    slab_init_owner(s, class_no);
    atomic_store_explicit(&s->owner, owned_token(o, class_no), memory_order_release);
    set_owner_word(o, s);
    list_partial(o, s);
    return s;
}

/* owned.c: owned_find */
inline slab *owned_find(owned *o, unsigned class_no)
{
    slab *s = owned_find_own(o, class_no);
    if (s == nullptr)
        s = find_shared(o, class_no);
    return s != nullptr ? s : find_free(o, class_no);
}

/* ---- the program's side ---- */

/* slow.c: refill, then one block for the program and the rest back. nullptr: out of memory. */
inline block *model_malloc(owned *o, unsigned class_no)
{
    owned_set_none(o, false); /* bins_ran_out */
    slab *s = owned_find(o, class_no);
    if (s == nullptr)
        return nullptr;
    chain chain = owned_take(o, s);
    block *b = chain.first;
    MUST(chain.count >= 1);
    if (chain.count > 1)
        owned_push_remote(o, s, {b->next, chain.last, chain.count - 1});
    b->user = (int)o->bins;
    return b;
}

/* The same of a class that is not in demand: owned_take_few, of one block. */
inline block *model_malloc_seldom(owned *o, unsigned class_no)
{
    owned_set_none(o, true);
    slab *s = owned_find(o, class_no);
    if (s == nullptr)
        return nullptr;
    unlist_partial(o, s);
    block *b = slab_take_one_owner(s);
    give_up(o, s);
    b->user = (int)o->bins;
    return b;
}

/* ---- the start and the end ---- */

inline world::world()
{
    the_world = this;
    held.fill(nullptr);
    free_units.store((1u << SLABS) - 1, rl::mo_relaxed, $);
    for (unsigned i = 0; i < HEAPS; i++)
        heaps[i] = owned{SLAB_STATES + 1 + i * SIZE_CLASS_COUNT, {}, {}, 0, false};
    for (unsigned i = 0; i < SLABS; i++) {
        slab *s = &slabs[i];
        s->unit = i;
        s->entry = 0;
        for (unsigned k = 0; k < SLAB_LINKS; k++)
            s->linked[k].store(0, rl::mo_relaxed, $);
        for (block &b : s->blocks) {
            b.slab = s;
            b.chain = 0;
            b.user = 0;
        }
        slab_init_owner(s, 0);
        s->owner.store(SLAB_FREE, rl::mo_relaxed, $);
        s->word.store(UNIT_FREE, rl::mo_relaxed, $);
    }
}

/* Of a free slab: o becomes its owner, and `out` of its blocks are with the program. */
inline void set_up(slab *s, owned *o, unsigned out)
{
    s->owner.store(owned_token(o, 0), rl::mo_relaxed, $);
    s->word.store(owned_token(o, 0), rl::mo_relaxed, $);
    s->free_count = SLAB_BLOCKS - out;
    s->used = out;
    the_world->free_units.store(the_world->free_units.debug_value() & ~(1u << s->unit),
                                rl::mo_relaxed, $);
    s->free = out < SLAB_BLOCKS ? &s->blocks[out] : nullptr;
    for (unsigned i = 0; i < out; i++)
        s->blocks[i].user = 1;
    if (out < SLAB_BLOCKS)
        list_partial(o, s);
    else
        list_full(o, s);
}

struct seen_blocks {
    unsigned times[SLABS][SLAB_BLOCKS] = {};

    void add(block *b)
    {
        times[b->slab->unit][b - b->slab->blocks]++;
    }
    /* How many. */
    unsigned add_list(block *b)
    {
        unsigned count = 0;
        for (; b != nullptr && count <= SLAB_BLOCKS; b = b->next, count++)
            add(b);
        return count;
    }
    /* As drain would take them: a wrong label is seen as a wrong count. */
    void add_chains(block *b)
    {
        unsigned left = SLAB_BLOCKS + 1;
        while (b != nullptr && left-- > 0) {
            chain chain = chain_read(b);
            MUST(chain.count != 0);
            for (unsigned i = 0; i < chain.count; i++, b = b->next) {
                MUST(b != nullptr);
                add(b);
            }
        }
    }
};

inline bool is_in_a_shared_stack(world *w, slab *s)
{
    for (auto &stack : w->stacks)
        for (unsigned k = 0; k < SLAB_LINKS; k++) {
            int left = SLABS + 1;
            for (lf_node *n = stack.slabs[k].both.debug_value().head; n != nullptr && left-- > 0;
                 n = n->next)
                if (n == &s->link[k])
                    return true;
        }
    return false;
}

/* True if a list of the heap has it, the right one, once. */
inline bool is_listed(owned *o, slab *s)
{
    unsigned times = 0;
    for (unsigned c = 0; c < SIZE_CLASS_COUNT; c++)
        for (slab_list *list : {&o->partial[c], &o->full[c]})
            for (unsigned i = 0; i < list->count; i++)
                times += list->at[i] == s && c == slab_class(s);
    return times == 1;
}

inline void check_owner(world *w, slab *s, unsigned owner)
{
    bool is_free = (w->free_units.debug_value() >> s->unit & 1) != 0;
    bool has_remote = s->remote.both.debug_value().head != nullptr;
    MUST(is_free == (owner == SLAB_FREE));
    if (owner == SLAB_FREE || owner == SLAB_UNOWNED)
        MUST(!has_remote); /* nobody would look */
    if (owner == SLAB_FREE)
        MUST(s->used == 0);
    if (owner == SLAB_SHARED)
        MUST(is_in_a_shared_stack(w, s));
    for (owned &o : w->heaps)
        MUST(is_token_of(&o, owner) == is_listed(&o, s));
    if (owner >= SLAB_STATES)
        MUST(s->word.debug_value() == owner && owner % SIZE_CLASS_COUNT == slab_class(s));
}

/* At rest: each slab is where its owner says, and each block is in one place. */
inline void world::check()
{
    seen_blocks seen;
    for (block *b : held)
        if (b != nullptr)
            seen.add(b);
    for (slab &s : slabs) {
        check_owner(this, &s, s.owner.debug_value());
        unsigned free_count = seen.add_list(s.free);
        MUST(s.free_count == free_count && s.used == SLAB_BLOCKS - free_count);
        seen.add_chains(s.remote.both.debug_value().head);
        for (unsigned i = 0; i < SLAB_BLOCKS; i++)
            MUST(seen.times[s.unit][i] == 1);
    }
}

template <typename derived, rl::thread_id_t threads>
using slab_suite = suite<derived, world, threads>;

#endif
