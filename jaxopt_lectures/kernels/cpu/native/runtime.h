// What a kernel is given, and where its tiles lie.

#pragma once

#include <cstdint>

// One leaf: rows of `length` elements, each in tiles of `tile`, the last of them shorter.
struct Leaf {
  const void* const* in;     // gradient, parameter, slots
  void* const* out;          // parameter, slots
  const uint32_t* uniforms;  // bits of the numbers of the prologue
  const uint32_t* words;     // of the random bits
  int64_t rows, length, tile;
  int64_t before;  // tiles of the leaves before it, where all write into one array
};

static inline int64_t PerRow(const Leaf& leaf) { return (leaf.length + leaf.tile - 1) / leaf.tile; }
static inline int64_t Start(const Leaf& leaf, int64_t tile) {
  return tile / PerRow(leaf) * leaf.length + tile % PerRow(leaf) * leaf.tile;
}
static inline int64_t Length(const Leaf& leaf, int64_t tile) {
  const int64_t left = leaf.length - tile % PerRow(leaf) * leaf.tile;
  return left < leaf.tile ? left : leaf.tile;
}

using Kernel = void (*)(const Leaf&, int64_t first, int64_t last);

struct Entry {
  const char* name;
  Kernel kernel;
};
