/*
 * front.c: the first values of front.h.
 *
 * SYNCHRONIZATION: see front.h.
 */
#include "registry.h"
#include "size_class.h"

#define X_PLACE(class, below, size)                                                                \
    [(below) == 0 ? 0 : (below) + 1 ...(size)] = SIZE_BIN_PLACE(class),

#define ROOT_8(i)                                                                                  \
    REGISTRY_NOTHING(i), REGISTRY_NOTHING((i) + 1), REGISTRY_NOTHING((i) + 2),                     \
        REGISTRY_NOTHING((i) + 3), REGISTRY_NOTHING((i) + 4), REGISTRY_NOTHING((i) + 5),           \
        REGISTRY_NOTHING((i) + 6), REGISTRY_NOTHING((i) + 7)
#define ROOT_32(i)   ROOT_8(i), ROOT_8((i) + 8), ROOT_8((i) + 16), ROOT_8((i) + 24)
#define ROOT_128(i)  ROOT_32(i), ROOT_32((i) + 32), ROOT_32((i) + 64), ROOT_32((i) + 96)
#define ROOT_512(i)  ROOT_128(i), ROOT_128((i) + 128), ROOT_128((i) + 256), ROOT_128((i) + 384)
#define ROOT_2048(i) ROOT_512(i), ROOT_512((i) + 512), ROOT_512((i) + 1024), ROOT_512((i) + 1536)

static_assert(REGISTRY_LEAVES == 4096, "each root entry has its own first value");

#define WORD_AT(offset) (offset)...(offset) + sizeof(uintptr_t) - 1
#define NOTHING                                                                                    \
    {                                                                                              \
        [WORD_AT(FRONT_STRANGE)] = (char)FRONT_STRANGE_BITS,                                       \
        [WORD_AT(FRONT_FAR)] = (char)FRONT_FAR_BITS                                                \
    }

_Alignas(HAK_CACHE_LINE) struct front front = {
    .nothing = {NOTHING, NOTHING, NOTHING},
    .bin_place = {SIZE_TINY_CLASSES(X_PLACE)},
    .root = {ROOT_2048(0), ROOT_2048(2048)},
};
