/* Reads integers from a FlexBuffer map, the format of Larq Compute Engine's operator options. */
#ifndef LARQ_SERESNET_FLEXBUFFER_H_
#define LARQ_SERESNET_FLEXBUFFER_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Puts the integer under `key` into `*value`. False where the bytes are not a well-formed map, the
 * key is missing or its value is not an integer of 32 bits. Never reads outside `size` bytes. */
bool edge_flex_int32(const uint8_t *bytes, size_t size, const char *key, int32_t *value);

#endif /* LARQ_SERESNET_FLEXBUFFER_H_ */
