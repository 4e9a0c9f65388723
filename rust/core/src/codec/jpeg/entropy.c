/* Sequential Huffman decoding, 64 bits at a time. Half of the time of a JPEG is spent here.
 *
 * libjpeg looks up a code, then fetches the bits of its value. Here one look at ten bits gives, for most coefficients,
 * the run of zeros, the value and the length of both. It knows only what whole files hold; whatever else comes
 * (a marker inside the scan, an unknown code, missing bits) makes it give up, and libjpeg's own decoder then starts
 * over: the verdict on damaged files is always libjpeg's. */
#include "entropy.h"

#include <string.h>

/* The head of libjpeg's private structure, the same in every version since 6b. */
struct jpeg_entropy_decoder {
  void (*start_pass)(j_decompress_ptr info);
  boolean (*decode_mcu)(j_decompress_ptr info, JBLOCKROW *blocks);
};

static const uint8_t NATURAL[DCTSIZE2] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

/* A value of `size` bits: the lower half of them stands for negative numbers. */
static inline int32_t extended(uint32_t raw, int size) {
  return raw < (1u << (size - 1)) ? (int32_t)raw - (int32_t)((1u << size) - 1) : (int32_t)raw;
}

static void build(struct meaning *table, int width, struct long_codes *codes, const JHUFF_TBL *from, int with_values) {
  uint32_t code = 0;
  int length, i, k = 0;
  memset(table, 0, sizeof *table << width);
  memset(codes, 0, sizeof *codes);
  codes->symbols = from->huffval;
  for (length = 1; length <= 16; length++, code <<= 1) {
    codes->first[length] = (int32_t)code;
    codes->offset[length] = k - (int32_t)code;
    for (i = 0; i < from->bits[length] && k < 256; i++, k++, code++) {
      const uint8_t symbol = from->huffval[k];
      const int size = symbol & 15, spare = width - length;
      uint32_t at, span;
      if (spare < 0) continue;
      at = code << spare;
      span = 1u << spare;
      if (at + span > 1u << width) continue; /* more codes than there can be: libjpeg has refused them */
      if (with_values && size > 0 && size <= spare) {
        const uint32_t same = 1u << (spare - size);
        uint32_t raw, n;
        for (raw = 0; raw < 1u << size; raw++)
          for (n = 0; n < same; n++)
            table[at++] = (struct meaning){(int16_t)extended(raw, size), symbol, (uint8_t)(length + size) & 127, 1};
      } else {
        while (span-- > 0) table[at++] = (struct meaning){0, symbol, (uint8_t)length & 127, 0};
      }
    }
    codes->end[length] = (int32_t)code;
  }
}

/* Fills up to more than 32 bits, with zeros after the last byte before a marker or the end. */
static inline void fill(struct entropy *entropy) {
  const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
  if (entropy->end - entropy->next >= 8) {
    const uint8_t *p = entropy->next;
    const uint64_t word = (uint64_t)p[0] << 56 | (uint64_t)p[1] << 48 | (uint64_t)p[2] << 40 | (uint64_t)p[3] << 32 |
                          (uint64_t)p[4] << 24 | (uint64_t)p[5] << 16 | (uint64_t)p[6] << 8 | (uint64_t)p[7];
    if ((word & highs & (~word - ones)) == 0) { /* no byte is 0xFF */
      const int bytes = (63 - entropy->left) >> 3;
      entropy->bits |= word >> entropy->left;
      entropy->next += bytes;
      entropy->left += bytes * 8;
      return;
    }
  }
  while (entropy->left <= 56) {
    uint64_t byte;
    if (entropy->next == entropy->end) break;
    byte = *entropy->next;
    if (byte == 0xFF) {
      if (entropy->end - entropy->next < 2 || entropy->next[1] != 0) break;
      entropy->next++;
    }
    entropy->next++;
    entropy->bits |= byte << (56 - entropy->left);
    entropy->left += 8;
  }
  if (entropy->left <= 32) {
    entropy->padded += 64 - entropy->left;
    entropy->left = 64;
  }
}

#define TAKE(count) (bits <<= (count), left -= (count))

/* The symbol of a code that is longer than its table, -1 if there is none; `*length` is the code's. */
static int long_symbol(const struct long_codes *codes, uint64_t bits, int from, int *length) {
  int size;
  for (size = from; size <= 16; size++) {
    const int32_t code = (int32_t)(bits >> (64 - size));
    if (code >= codes->first[size] && code < codes->end[size]) {
      *length = size;
      return codes->symbols[(code + codes->offset[size]) & 255];
    }
  }
  return -1;
}

static boolean decode_mcu(j_decompress_ptr info, JBLOCKROW *blocks) {
  struct entropy *entropy = info->client_data;
  int b;
  for (b = 0; b < info->blocks_in_MCU; b++) {
    const int c = info->MCU_membership[b];
    const struct meaning *dc = entropy->dc_table[c], *ac = entropy->ac_table[c];
    JCOEF *block = blocks[b][0];
    struct meaning found;
    uint64_t bits;
    int32_t left;
    int k, size, length;

    if (entropy->left < 32) fill(entropy);
    bits = entropy->bits;
    left = entropy->left;
    found = dc[bits >> (64 - DC_BITS)];
    size = found.symbol;
    length = found.length;
    if (length == 0) size = long_symbol(entropy->dc_long[c], bits, DC_BITS + 1, &length);
    if (size < 0 || size > 15) entropy->give_up(info);
    TAKE(length);
    if (size > 0) {
      entropy->dc[c] += extended((uint32_t)(bits >> (64 - size)), size);
      TAKE(size);
      if (entropy->dc[c] < INT16_MIN || entropy->dc[c] > INT16_MAX) entropy->give_up(info);
    }
    block[0] = (JCOEF)entropy->dc[c];

    for (k = 1; k < DCTSIZE2; k++) {
      if (left < 32) {
        entropy->bits = bits;
        entropy->left = left;
        fill(entropy);
        bits = entropy->bits;
        left = entropy->left;
      }
      found = ac[bits >> (64 - AC_BITS)];
      if (found.whole) {
        TAKE(found.length);
        k += found.symbol >> 4;
        if (k >= DCTSIZE2) entropy->give_up(info);
        block[NATURAL[k]] = found.value;
        continue;
      }
      size = found.symbol;
      length = found.length;
      if (length == 0) size = long_symbol(entropy->ac_long[c], bits, AC_BITS + 1, &length);
      if (size < 0) entropy->give_up(info);
      TAKE(length);
      k += size >> 4;
      if ((size & 15) == 0) {
        if (size >> 4 != 15) break;
        continue;
      }
      size &= 15;
      if (k >= DCTSIZE2) entropy->give_up(info);
      block[NATURAL[k]] = (JCOEF)extended((uint32_t)(bits >> (64 - size)), size);
      TAKE(size);
    }
    entropy->bits = bits;
    entropy->left = left;
  }
  /* Some of the zeros after the data were taken for data. */
  if (entropy->padded > entropy->left) entropy->give_up(info);
  return TRUE;
}

/* The versions whose decompressor was read for what it expects of an entropy decoder. */
#define KNOWN (LIBJPEG_TURBO_VERSION_NUMBER >= 3001000 && LIBJPEG_TURBO_VERSION_NUMBER < 3002000)

int mllmrisk_entropy_install(j_decompress_ptr info, struct entropy *entropy) {
  int c;
  if (!KNOWN || info->progressive_mode || info->arith_code || info->restart_interval != 0 || info->data_precision != 8 ||
      info->comps_in_scan != info->num_components || jpeg_has_multiple_scans(info) || info->unread_marker != 0 ||
      info->Ss != 0 || info->Se != DCTSIZE2 - 1 || info->Ah != 0 || info->Al != 0)
    return 0;
  for (c = 0; c < info->comps_in_scan; c++) {
    const int dc = info->cur_comp_info[c]->dc_tbl_no, ac = info->cur_comp_info[c]->ac_tbl_no;
    if (dc < 0 || dc >= NUM_HUFF_TBLS || ac < 0 || ac >= NUM_HUFF_TBLS || !info->dc_huff_tbl_ptrs[dc] ||
        !info->ac_huff_tbl_ptrs[ac])
      return 0;
    entropy->dc_table[c] = entropy->dc_tables[dc];
    entropy->ac_table[c] = entropy->ac_tables[ac];
    entropy->dc_long[c] = &entropy->dc_codes[dc];
    entropy->ac_long[c] = &entropy->ac_codes[ac];
    if (entropy->dc_codes[dc].symbols == NULL)
      build(entropy->dc_tables[dc], DC_BITS, &entropy->dc_codes[dc], info->dc_huff_tbl_ptrs[dc], 0);
    if (entropy->ac_codes[ac].symbols == NULL)
      build(entropy->ac_tables[ac], AC_BITS, &entropy->ac_codes[ac], info->ac_huff_tbl_ptrs[ac], 1);
    entropy->dc[c] = 0;
  }
  entropy->next = info->src->next_input_byte;
  entropy->end = entropy->next + info->src->bytes_in_buffer;
  entropy->bits = 0;
  entropy->left = 0;
  entropy->padded = 0;
  info->client_data = entropy;
  info->entropy->decode_mcu = decode_mcu;
  return 1;
}
