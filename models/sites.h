/*
 * sites.h: where a mutant weakens an order or leaves out a step. Named after the function in src/.
 */
#ifndef MODELS_SITES_H
#define MODELS_SITES_H

enum site {
    NO_SITE,
    /* lf_stack.h, ck_stack.h */
    PUSH_FENCES,
    PUSH_CHAIN_FENCE,
    POP_GENERATION,
    POP_GENERATION_FIRST,
    POP_FENCE_NEXT,
    POP_FENCE_ACQUIRE,
    POP_ALL_FENCE,
    /* shared.c */
    PUSH_BY_LINKED,
    POP_BY_LINKED,
    POP_BY_CLEARS_FIRST,
    /* owned.c */
    RETURN_UNIT,
    TAKE_UNIT,
    CLAIM_LOAD,
    CLAIM_CAS,
    CLAIM_CORRECTS_TOKEN,
    CLAIM_DRAINS,
    GIVE_UP_OWNER,
    GIVE_UP_BARRIER,
    GIVE_UP_SECOND_LOOK,
    PUSH_REMOTE_BARRIER,
    PUSH_REMOTE_SECOND_LOOK,
    PUSH_OWNERLESS_BARRIER,
    PUSH_OWNERLESS_CAS,
    PUSH_OWNERLESS_SHARES,
};

#endif
