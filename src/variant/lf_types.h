/*
 * lf_types.h: the types of the stacks, which the lf_stack.h of each variant works on.
 *
 * A stack has 16-byte alignment here, which the double-word CAS needs and ck_stack_t lacks.
 *
 * SYNCHRONIZATION: that of the lf_stack.h.
 */
#ifndef HAK_LF_TYPES_H
#define HAK_LF_TYPES_H

#include "../global/base.h"
#include "lf_sanitize.h" /* before ck: under TSan it changes what ck's functions are */

#include <ck_stack.h>

typedef ck_stack_entry_t lf_node;

typedef struct {
    _Alignas(16) ck_stack_t stack;
} lf_stack;

static_assert(_Alignof(lf_stack) == 16 && sizeof(lf_stack) == 16, "cmpxchg16b");

#define LF_CONTAINER(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

#endif
