/* A faster Huffman decoder in the place of libjpeg's. */
#ifndef MLLMRISK_ENTROPY_H
#define MLLMRISK_ENTROPY_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jpeglib.h>

#define AC_BITS 10
#define DC_BITS 9

/* What the next bits mean. `length` of them belong to the code or, where `whole` is set, to the code and its value;
 * 0: the code is longer than the table. */
struct meaning {
  int16_t value;
  uint8_t symbol;
  uint8_t length : 7;
  uint8_t whole : 1;
};

/* Codes longer than a table: the largest of each length, left in 16 bits, and where their symbols lie. */
struct long_codes {
  const uint8_t *symbols;
  int32_t first[18];
  int32_t end[18];
  int32_t offset[18];
};

struct entropy {
  const uint8_t *next;
  const uint8_t *end;
  uint64_t bits;  /* the next bit is the highest */
  int32_t left;   /* how many of them count */
  int32_t padded; /* zeros that were put after the last bit of the data */
  int32_t dc[MAX_COMPS_IN_SCAN];
  const struct meaning *dc_table[MAX_COMPS_IN_SCAN];
  const struct meaning *ac_table[MAX_COMPS_IN_SCAN];
  const struct long_codes *dc_long[MAX_COMPS_IN_SCAN];
  const struct long_codes *ac_long[MAX_COMPS_IN_SCAN];
  struct meaning dc_tables[NUM_HUFF_TBLS][1 << DC_BITS];
  struct meaning ac_tables[NUM_HUFF_TBLS][1 << AC_BITS];
  struct long_codes dc_codes[NUM_HUFF_TBLS];
  struct long_codes ac_codes[NUM_HUFF_TBLS];
  /* Called where something is odd: it must not return. */
  void (*give_up)(j_decompress_ptr info);
};

/* Whether `entropy` was put in the place of libjpeg's decoder, for a scan that has been started but not read from. It is
 * reached through `info->client_data`. Only whole files of one sequential scan without restarts are for it. */
int mllmrisk_entropy_install(j_decompress_ptr info, struct entropy *entropy);

#endif
