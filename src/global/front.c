/*
 * front.c: the first values of front.h.
 *
 * SYNCHRONIZATION: see front.h.
 */
#include "size_class.h"

#define X_PLACE(class, below, size)                                                                \
    [(below) == 0 ? 0 : (below) + 1 ...(size)] = SIZE_BIN_PLACE(class),

#define WORD_AT(offset) (offset)...(offset) + sizeof(uintptr_t) - 1
#define NOTHING                                                                                    \
    {                                                                                              \
        [WORD_AT(FRONT_STRANGE)] = (char)FRONT_STRANGE_BITS,                                       \
        [WORD_AT(FRONT_FAR)] = (char)FRONT_FAR_BITS                                                \
    }

_Alignas(HAK_CACHE_LINE) const struct front front = {
    .nothing = {NOTHING, NOTHING, NOTHING},
    .bin_place = {SIZE_TINY_CLASSES(X_PLACE)},
};
