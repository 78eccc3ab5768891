/*
 * slab_ownership.cpp: a slab goes from owner to owner (src/remote/owned.c, src/global/shared.c).
 *
 * Invariants: one owner at a time (its fields are free of races, and it is in one list); at rest each block
 * is in one place; no slab has blocks in its remote stack and nobody who will look; a SHARED slab is in a
 * shared stack.
 */
#include "slab.h"

static void free_one(unsigned t, block *b)
{
    b->user = 0;
    owned_push_remote(heap(t), b->slab, chain_of(b));
}

/* The owner gives a full slab up, as at thread exit, while another thread frees a block of it. */
struct exit_and_free : slab_suite<exit_and_free, 2> {
    void start()
    {
        set_up(&slabs[0], heap(0), 2);
        held[0] = &slabs[0].blocks[1];
    }
    void thread(unsigned t)
    {
        if (t == 0)
            owned_disown_all(heap(0));
        else
            free_one(1, &slabs[0].blocks[0]);
    }
};

/* The same by a thread that has no heap. */
struct exit_and_ownerless : slab_suite<exit_and_ownerless, 2> {
    void start()
    {
        set_up(&slabs[0], heap(0), 2);
        held[0] = &slabs[0].blocks[1];
    }
    void thread(unsigned t)
    {
        if (t == 0)
            owned_disown_all(heap(0));
        else
            remote_push_ownerless(&slabs[0], chain_of(&slabs[0].blocks[0]));
    }
};

/* Both blocks of a slab that is given up come back, from two threads: whoever is last frees it. */
struct exit_and_two : slab_suite<exit_and_two, 3> {
    void start()
    {
        set_up(&slabs[0], heap(0), 2);
    }
    void thread(unsigned t)
    {
        if (t == 0)
            owned_disown_all(heap(0));
        else
            free_one(t, &slabs[0].blocks[t - 1]);
    }
};

/* Who frees into a slab that nobody owns claims it, and exits. */
struct free_and_exit : slab_suite<free_and_exit, 2> {
    void start()
    {
        set_up(&slabs[0], heap(2), 2);
        owned_disown_all(heap(2));
    }
    void thread(unsigned t)
    {
        free_one(t, &slabs[0].blocks[t]);
        owned_disown_all(heap(t));
    }
};

/* A slab is shared; one thread looks for a slab, another frees into it. */
struct share_and_find : slab_suite<share_and_find, 3> {
    void start()
    {
        set_up(&slabs[0], heap(0), 1);
    }
    void thread(unsigned t)
    {
        if (t == 0)
            owned_disown_all(heap(0));
        else if (t == 1)
            held[1] = model_malloc(heap(1), 0);
        else
            free_one(2, &slabs[0].blocks[0]);
    }
};

/* Two look for the one shared slab: one finds it. */
struct two_find : slab_suite<two_find, 2> {
    void start()
    {
        set_up(&slabs[0], heap(2), 1);
        held[2] = &slabs[0].blocks[0];
        owned_disown_all(heap(2));
    }
    void thread(unsigned t)
    {
        slab *s = find_shared(heap(t), 0);
        if (s == nullptr)
            return;
        chain chain = owned_take(heap(t), s);
        held[t] = chain.first;
        chain.first->user = (int)t;
        if (t == 0)
            owned_disown_all(heap(t));
    }
};

/* A shared slab is emptied while its descriptor is linked, taken for another class, and shared again. */
struct other_class : slab_suite<other_class, 2> {
    void start()
    {
        set_up(&slabs[0], heap(2), 1);
        owned_disown_all(heap(2));
        free_units.store(0, rl::mo_relaxed, $);
        slabs[1].owner.store(owned_token(heap(2), 0), rl::mo_relaxed, $);
        slabs[1].word.store(owned_token(heap(2), 0), rl::mo_relaxed, $);
        list_partial(heap(2), &slabs[1]);
    }
    void thread(unsigned t)
    {
        if (t == 0) {
            free_one(0, &slabs[0].blocks[0]);
            held[0] = model_malloc(heap(0), 1);
            owned_disown_all(heap(0));
        } else if (find_shared(heap(1), 0) != nullptr) {
            owned_disown_all(heap(1));
        }
    }
};

/* A unit is released by one thread and taken by another: the descriptor goes along. */
struct release_and_take : slab_suite<release_and_take, 2> {
    void start()
    {
        set_up(&slabs[0], heap(0), 1);
        free_units.store(0, rl::mo_relaxed, $);
        set_up(&slabs[1], heap(2), 2);
        held[6] = &slabs[1].blocks[0];
        held[7] = &slabs[1].blocks[1];
    }
    void thread(unsigned t)
    {
        if (t == 0)
            free_one(0, &slabs[0].blocks[0]);
        else
            held[1] = model_malloc(heap(1), 1);
    }
};

/* Frees to a slab whose owner allocates from it all the while, and exits. */
struct owner_allocates : slab_suite<owner_allocates, 3> {
    void start()
    {
        set_up(&slabs[0], heap(0), 2);
    }
    void thread(unsigned t)
    {
        if (t != 0) {
            free_one(t, &slabs[0].blocks[t - 1]);
            return;
        }
        held[0] = model_malloc(heap(0), 0);
        owned_disown_all(heap(0));
    }
};

/* A slab that was claimed while its descriptor was linked is shared again, while somebody pops it. */
struct share_while_linked : slab_suite<share_while_linked, 2> {
    void start()
    {
        set_up(&slabs[0], heap(2), 2);
        held[2] = &slabs[0].blocks[1];
        owned_disown_all(heap(2));
        remote_push_ownerless(&slabs[0], chain_of(&slabs[0].blocks[0]));
        MUST(owned_claim(heap(0), &slabs[0]));
    }
    void thread(unsigned t)
    {
        if (t == 0)
            owned_disown_all(heap(0));
        else if (find_shared(heap(1), 0) != nullptr)
            owned_disown_all(heap(1));
    }
};

/* The same by a thread without a heap, of a slab that is full and nobody's by then. */
struct ownerless_while_linked : slab_suite<ownerless_while_linked, 2> {
    void start()
    {
        set_up(&slabs[0], heap(2), 2);
        owned_disown_all(heap(2));
        remote_push_ownerless(&slabs[0], chain_of(&slabs[0].blocks[0]));
        MUST(owned_claim(heap(2), &slabs[0]));
        held[0] = owned_take(heap(2), &slabs[0]).first;
        owned_disown_all(heap(2));
    }
    void thread(unsigned t)
    {
        if (t == 0)
            remote_push_ownerless(&slabs[0], chain_of(&slabs[0].blocks[1]));
        else
            find_shared(heap(1), 0);
    }
};

/* Who only frees puts a block into a slab that nobody owns, and leaves it, while another frees the other block, and
 * owns it or leaves it. */
template <bool Both> struct deposits : slab_suite<deposits<Both>, 2> {
    void start()
    {
        set_up(&this->slabs[0], heap(2), 2);
        owned_disown_all(heap(2));
        heap(0)->owns_none = true;
        heap(1)->owns_none = Both;
    }
    void thread(unsigned t)
    {
        free_one(t, &this->slabs[0].blocks[t]);
        owned_disown_all(heap(t));
    }
};

/* The same while its owner gives it up. */
struct exit_and_deposit : slab_suite<exit_and_deposit, 2> {
    void start()
    {
        set_up(&slabs[0], heap(0), 2);
        held[0] = &slabs[0].blocks[1];
        heap(1)->owns_none = true;
    }
    void thread(unsigned t)
    {
        if (t == 0)
            owned_disown_all(heap(0));
        else
            free_one(1, &slabs[0].blocks[0]);
    }
};

/* The same into a slab that is shared, and that another looks for. */
struct deposit_and_find : slab_suite<deposit_and_find, 2> {
    void start()
    {
        set_up(&slabs[0], heap(2), 1);
        owned_disown_all(heap(2));
        heap(0)->owns_none = true;
    }
    void thread(unsigned t)
    {
        if (t == 0) {
            free_one(0, &slabs[0].blocks[0]);
        } else {
            held[1] = model_malloc(heap(1), 0);
            owned_disown_all(heap(1));
        }
    }
};

/* Who owns none of a class takes a block of a slab that is shared, while another takes the last, or frees one. */
template <bool Frees> struct seldom : slab_suite<seldom<Frees>, 2> {
    void start()
    {
        set_up(&this->slabs[0], heap(2), 1);
        owned_disown_all(heap(2));
        heap(1)->owns_none = true;
        if (!Frees)
            this->held[2] = &this->slabs[0].blocks[0];
    }
    void thread(unsigned t)
    {
        if (t == 1 && Frees)
            free_one(1, &this->slabs[0].blocks[0]);
        else
            this->held[t] = model_malloc_seldom(heap(t), 0);
    }
};

/* Anything: each thread frees a block of its own, allocates, exits, in any order. */
struct mixed : slab_suite<mixed, 3> {
    void start()
    {
        set_up(&slabs[0], heap(0), 2);
        set_up(&slabs[1], heap(1), 1);
        held = {&slabs[0].blocks[0],
                nullptr,
                &slabs[1].blocks[0],
                nullptr,
                &slabs[0].blocks[1],
                nullptr,
                nullptr,
                nullptr};
        for (unsigned t = 0; t < 3; t++)
            heap(t)->owns_none = rl::rand(2) != 0;
    }
    void free_held(unsigned t, block *&b, bool ownerless)
    {
        if (b == nullptr)
            return;
        block *freed = b;
        b = nullptr;
        if (ownerless)
            remote_push_ownerless(freed->slab, chain_of(freed));
        else
            free_one(t, freed);
    }
    void act(unsigned t)
    {
        block *&b = held[2 * t + rl::rand(2)];
        switch (rl::rand(6)) {
        case 0:
            owned_disown_all(heap(t));
            break;
        case 4:
            owned_set_none(heap(t), true);
            break;
        case 1:
            free_held(t, b, rl::rand(2) != 0);
            break;
        case 5:
            if (b == nullptr)
                b = model_malloc_seldom(heap(t), rl::rand(SIZE_CLASS_COUNT));
            break;
        default:
            if (b == nullptr)
                b = model_malloc(heap(t), rl::rand(SIZE_CLASS_COUNT));
            else
                free_held(t, b, false);
        }
    }
    void thread(unsigned t)
    {
        for (int i = 0; i < 4; i++)
            act(t);
    }
};

int main(int argc, char **argv)
{
    model m = {
        "slab_ownership",
        {{"exit_and_free", rl::simulate<exit_and_free>, full(), full()},
         {"exit_and_ownerless", rl::simulate<exit_and_ownerless>, bound(6), full()},
         {"free_and_exit", rl::simulate<free_and_exit>, bound(5), bound(7)},
         {"deposit_and_free", rl::simulate<deposits<false>>, bound(5), bound(7)},
         {"two_deposits", rl::simulate<deposits<true>>, bound(5), bound(7)},
         {"exit_and_deposit", rl::simulate<exit_and_deposit>, bound(6), full()},
         {"deposit_and_find", rl::simulate<deposit_and_find>, bound(5), bound(7)},
         {"seldom_and_seldom", rl::simulate<seldom<false>>, bound(4), bound(6)},
         {"seldom_and_free", rl::simulate<seldom<true>>, bound(5), bound(7)},
         {"two_find", rl::simulate<two_find>, full(), full()},
         {"share_while_linked", rl::simulate<share_while_linked>, bound(6), full()},
         {"ownerless_while_linked", rl::simulate<ownerless_while_linked>, full(), full()},
         {"other_class", rl::simulate<other_class>, bound(4), bound(6)},
         {"release_and_take", rl::simulate<release_and_take>, full(), full()},
         {"exit_and_two", rl::simulate<exit_and_two>, bound(3), bound(5)},
         {"share_and_find", rl::simulate<share_and_find>, bound(3), bound(5)},
         {"owner_allocates", rl::simulate<owner_allocates>, bound(3), bound(4)},
         {"mixed", rl::simulate<mixed>, at_random(200000), at_random(10000000)}},
        {{"claim: acq_rel -> relaxed", CLAIM_CAS, memory_order_relaxed, "mixed"},
         {"claim: acq_rel -> release", CLAIM_CAS, memory_order_release, "mixed"},
         {"claim: acq_rel -> acquire", CLAIM_CAS, memory_order_acquire, nullptr,
          "only walkers, which are not in the model, read what a claim releases"},
         {"claim: look at owner, seq_cst -> relaxed", CLAIM_LOAD, memory_order_relaxed,
          "share_while_linked"},
         {"claim: the token of the old class", CLAIM_CORRECTS_TOKEN, omitted, "other_class"},
         {"give_up: owner, seq_cst -> acq_rel", GIVE_UP_OWNER, memory_order_acq_rel,
          "share_while_linked"},
         {"give_up: owner, seq_cst -> acquire", GIVE_UP_OWNER, memory_order_acquire,
          "exit_and_free"},
         {"give_up: owner, seq_cst -> relaxed", GIVE_UP_OWNER, memory_order_relaxed,
          "exit_and_free"},
         {"give_up: no barrier", GIVE_UP_BARRIER, omitted, "exit_and_free"},
         {"give_up: no second look", GIVE_UP_SECOND_LOOK, omitted, "exit_and_free"},
         {"push_remote: no barrier", PUSH_REMOTE_BARRIER, omitted, "exit_and_free"},
         {"push_remote: no second look", PUSH_REMOTE_SECOND_LOOK, omitted, "exit_and_free"},
         {"push_remote: no release", PUSH_CHAIN_FENCE, omitted, "exit_and_free"},
         {"drain: no acquire", POP_ALL_FENCE, omitted, "exit_and_free"},
         {"push_ownerless: no barrier", PUSH_OWNERLESS_BARRIER, omitted, "mixed"},
         {"push_ownerless: does not share", PUSH_OWNERLESS_SHARES, omitted, "exit_and_ownerless"},
         {"push_ownerless: owner, seq_cst -> relaxed", PUSH_OWNERLESS_CAS, memory_order_relaxed,
          "ownerless_while_linked"},
         {"give_up: pushed before it is SHARED", GIVE_UP_THEN_PUSHES, omitted,
          "share_while_linked"},
         {"shared_push: the look at linked, seq_cst -> relaxed", PUSH_BY_LOOK, memory_order_relaxed,
          "share_while_linked"},
         {"shared_push: linked, seq_cst -> relaxed", PUSH_BY_LINKED, memory_order_relaxed, nullptr,
          "the look before orders what comes before it"},
         {"shared_pop: linked, seq_cst -> relaxed", POP_BY_LINKED, memory_order_relaxed,
          "share_while_linked"},
         {"shared_pop: linked is cleared after the claim", POP_BY_CLEARS_FIRST, omitted,
          "share_while_linked"},
         {"release_to_free: free, seq_cst -> relaxed", RETURN_UNIT, memory_order_relaxed,
          "release_and_take"},
         {"find_free: free, acquire -> relaxed", TAKE_UNIT, memory_order_relaxed,
          "release_and_take"}}};
    return model_main(m, argc, argv);
}
