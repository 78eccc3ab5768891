/*
 * outbuf.cpp: frees gathered by slab, pushed as a labelled chain, taken over by the owner
 * (src/remote/outbuf.c, chain.h, drain of owned.c).
 *
 * Invariants: those of slab.h: a chain that is taken over has the blocks that were freed, each once, and
 * what the program wrote into them before the free happens before the next malloc of them. The buffer has
 * one slot, so that slabs displace each other.
 */
#define SLAB_BLOCKS 3u
#include "slab.h"

#define OUT_SLOT_MOST 2u

/* Owner only, all of it. */
struct out_slot {
    block *first;
    slab *unit;
    block *last;
    unsigned room;
};

/* outbuf.c: slot_flush */
static void slot_flush(out_slot *slot, owned *o)
{
    slab *s = slot->first->slab;
    chain chain = {slot->first, slot->last, does(OUTBUF_COUNTS) ? OUT_SLOT_MOST - slot->room : 1};
    slot->first = nullptr;
    if (does(OUTBUF_CLOSES))
        slot->room = 0;
    owned_push_remote(o, s, chain);
}

/* outbuf.h: outbuf_add */
static bool outbuf_add(out_slot *slot, block *b)
{
    if (slot->unit != b->slab || slot->room == 0)
        return false;
    b->next = slot->first;
    slot->first = b;
    slot->room--;
    return true;
}

/* outbuf.c: outbuf_open */
static void outbuf_open(out_slot *slot, owned *o, slab *s, block *b)
{
    if (slot->first != nullptr && does(OUTBUF_FLUSHES_OLD))
        slot_flush(slot, o);
    if (does(OUTBUF_ENDS_LIST))
        b->next = nullptr;
    *slot = {b, s, b, OUT_SLOT_MOST - 1};
}

/* outbuf.c: outbuf_flush */
static void outbuf_flush(out_slot *slot, owned *o)
{
    if (slot->first != nullptr)
        slot_flush(slot, o);
}

/* malloc.c and slow.c: free of a block that another heap owns */
static void free_elsewhere(out_slot *slot, owned *o, block *b)
{
    b->user = 0;
    slab *s = b->slab;
    if (outbuf_add(slot, b))
        return;
    if (owned_has(o, s) || owned_claim(o, s))
        owned_put(o, s, chain_of(b));
    else
        outbuf_open(slot, o, s, b);
}

struct outbuf_base {
    out_slot slots[HEAPS] = {};

    void gather(unsigned t, block *a, block *b)
    {
        free_elsewhere(&slots[t], heap(t), a);
        free_elsewhere(&slots[t], heap(t), b);
        outbuf_flush(&slots[t], heap(t));
    }
    void allocate(unsigned place)
    {
        slab *s = owned_find_own(heap(0), 0);
        if (s == nullptr)
            return;
        chain chain = owned_take(heap(0), s);
        for (block *b = chain.first; b != nullptr; b = b->next) {
            b->user = 1;
            the_world->held[place++] = b;
        }
    }
};

/* Two blocks of a slab in one chain, while the owner looks for room, and exits. */
struct one_chain : slab_suite<one_chain, 2>, outbuf_base {
    void start()
    {
        set_up(&slabs[0], heap(0), 3);
        held[7] = &slabs[0].blocks[2];
    }
    void thread(unsigned t)
    {
        if (t == 0) {
            allocate(0);
            owned_disown_all(heap(0));
        } else {
            gather(1, &slabs[0].blocks[0], &slabs[0].blocks[1]);
        }
    }
};

/* Chains of two threads in one remote stack. */
struct two_chains : slab_suite<two_chains, 3>, outbuf_base {
    void start()
    {
        set_up(&slabs[0], heap(0), 3);
    }
    void thread(unsigned t)
    {
        if (t == 0) {
            allocate(0);
        } else if (t == 1) {
            gather(1, &slabs[0].blocks[0], &slabs[0].blocks[1]);
        } else {
            free_elsewhere(&slots[2], heap(2), &slabs[0].blocks[2]);
            outbuf_flush(&slots[2], heap(2));
        }
    }
};

/* A second slab's block displaces the first one's, which come again: the slot is opened three times. */
struct displaced : slab_suite<displaced, 2>, outbuf_base {
    void start()
    {
        set_up(&slabs[0], heap(0), 3);
        set_up(&slabs[1], heap(0), 3);
        held[5] = &slabs[0].blocks[2];
        held[6] = &slabs[1].blocks[1];
        held[7] = &slabs[1].blocks[2];
    }
    void thread(unsigned t)
    {
        if (t == 0) {
            allocate(0);
            return;
        }
        free_elsewhere(&slots[1], heap(1), &slabs[0].blocks[0]);
        gather(1, &slabs[1].blocks[0], &slabs[0].blocks[1]);
    }
};

/* The slot goes on after a flush: it must be closed. */
struct reopened : slab_suite<reopened, 2>, outbuf_base {
    void start()
    {
        set_up(&slabs[0], heap(0), 3);
        held[7] = &slabs[0].blocks[2];
    }
    void thread(unsigned t)
    {
        if (t == 0) {
            allocate(0);
            return;
        }
        for (int i = 0; i < 2; i++) {
            free_elsewhere(&slots[1], heap(1), &slabs[0].blocks[i]);
            outbuf_flush(&slots[1], heap(1));
        }
    }
};

int main(int argc, char **argv)
{
    model m = {"outbuf",
               {{"one_chain", rl::simulate<one_chain>, full(), full()},
                {"displaced", rl::simulate<displaced>, full(), full()},
                {"reopened", rl::simulate<reopened>, full(), full()},
                {"two_chains", rl::simulate<two_chains>, bound(4), bound(6)}},
               {{"push: no label", CHAIN_LABELS, omitted, "one_chain"},
                {"push: no release", PUSH_CHAIN_FENCE, omitted, "one_chain"},
                {"drain: no acquire", POP_ALL_FENCE, omitted, "one_chain"},
                {"flush: the slot stays open", OUTBUF_CLOSES, omitted, "reopened"},
                {"flush: a wrong count", OUTBUF_COUNTS, omitted, "one_chain"},
                {"open: what the slot held is forgotten", OUTBUF_FLUSHES_OLD, omitted, "displaced"},
                {"open: the list has no end", OUTBUF_ENDS_LIST, omitted, nullptr,
                 "the push sets the last block's next: the NULL is for who walks the buffer"},
                {"push: no second look", PUSH_REMOTE_SECOND_LOOK, omitted, "one_chain"}}};
    return model_main(m, argc, argv);
}
