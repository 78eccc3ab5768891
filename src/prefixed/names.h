/*
 * names.h, prefixed build: only hak_ names, so that nothing is interposed.
 */
#ifndef HAK_NAMES_H
#define HAK_NAMES_H

#define HAK_ALIAS(name, target)
#define HAK_SYMBOL(local, symbol, target)

#endif
