/*
 * names.h, interposing build: the C library's names, as further names of the functions of ours. The
 * prefixed build finds src/prefixed/names.h in its place.
 */
#ifndef HAK_NAMES_H
#define HAK_NAMES_H

#define HAK_ALIAS(name, target)                                                                    \
    extern __typeof(target) name __attribute__((alias(#target), visibility("default")));
/* The same under a name that is no C declaration's: `symbol` is what the linker sees. */
#define HAK_SYMBOL(local, symbol, target)                                                          \
    extern __typeof(target) local __asm__(symbol)                                                  \
        __attribute__((alias(#target), visibility("default")));

#endif
