/* The format, as far as a map of integers needs it (offsets point backwards, all little-endian):
 *
 *   ... keys vector, values vector ... | root value | root's type | root's width in bytes
 *
 * A map is a position M with elements of `width` bytes:
 *   M - 3*width: distance back to the keys vector     M - width: number of elements
 *   M - 2*width: width of the keys vector's elements  M + i*width: value i
 *   M + count*width + i: type of value i, in the upper six bits
 * The keys vector holds distances back to zero-terminated strings.
 */
#include "flexbuffer.h"

#include <string.h>

enum { kTypeInt = 1, kTypeUInt = 2, kTypeMap = 9 };

typedef struct {
  const uint8_t *bytes;
  size_t size;
} Buffer;

static bool read_uint(Buffer buffer, size_t position, unsigned width, uint64_t *value) {
  if (width != 1 && width != 2 && width != 4 && width != 8) return false;
  if (position > buffer.size || buffer.size - position < width) return false;
  *value = 0;
  memcpy(value, buffer.bytes + position, width);
  return true;
}

/* The position that lies the offset stored at `position` before it. */
static bool follow(Buffer buffer, size_t position, unsigned width, size_t *target) {
  uint64_t offset;
  if (!read_uint(buffer, position, width, &offset) || offset > position) return false;
  *target = position - (size_t)offset;
  return true;
}

static bool key_equals(Buffer buffer, size_t position, const char *key) {
  size_t length = strlen(key) + 1; /* with the terminating zero */
  return position <= buffer.size && buffer.size - position >= length &&
         memcmp(buffer.bytes + position, key, length) == 0;
}

bool edge_flex_int32(const uint8_t *bytes, size_t size, const char *key, int32_t *value) {
  if (!bytes || size < 3) return false;
  Buffer buffer = {bytes, size};
  unsigned root_width = bytes[size - 1];
  unsigned root_type = bytes[size - 2];
  size_t map;
  if (root_type >> 2 != kTypeMap || root_width > size - 2) return false;
  if (!follow(buffer, size - 2 - root_width, root_width, &map)) return false;

  unsigned width = 1u << (root_type & 3);
  uint64_t count, keys_width;
  size_t keys;
  if (map < 3 * width || !read_uint(buffer, map - width, width, &count) ||
      !read_uint(buffer, map - 2 * width, width, &keys_width) || keys_width > 8 ||
      !follow(buffer, map - 3 * width, width, &keys))
    return false;
  if (count > size / width) return false;

  for (size_t i = 0; i < count; i++) {
    size_t name, type = map + (size_t)count * width + i;
    if (!follow(buffer, keys + i * (size_t)keys_width, (unsigned)keys_width, &name)) return false;
    if (!key_equals(buffer, name, key)) continue;

    uint64_t raw;
    if (type >= size || !read_uint(buffer, map + i * width, width, &raw)) return false;
    if (bytes[type] >> 2 == kTypeInt) {
      unsigned unused = 64 - 8 * width;
      int64_t number = (int64_t)(raw << unused) >> unused; /* extends the sign */
      if (number < INT32_MIN || number > INT32_MAX) return false;
      *value = (int32_t)number;
      return true;
    }
    if (bytes[type] >> 2 != kTypeUInt || raw > INT32_MAX) return false;
    *value = (int32_t)raw;
    return true;
  }
  return false;
}
