/* The calls from Rust into libjpeg-turbo. libjpeg leaves through longjmp and reports missing data as mere warnings: both
 * end here, so that Rust sees a status, which kinds of warning were given, and the library's own words.
 *
 * The decoder's settings are libjpeg's defaults (accurate integer IDCT, fancy upsampling, block smoothing), as in
 * Pillow: the pixels are the same bit for bit. */
#include <limits.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "entropy.h"

enum status { DECODED = 0, FAILED = 1, OTHER_SIZE = 2, TOO_MANY_SCANS = 3, OUT_OF_MEMORY = 4, AGAIN = 5 };
enum warning { SOURCE_ENDED = 1, SCAN_ENDED = 2, DATA_CORRUPT = 4 };

struct jpeg_report {
  int32_t status;
  uint32_t warnings;
  char message[JMSG_LENGTH_MAX]; /* of the fatal error, or of the first warning that touches pixels */
};

struct failure {
  struct jpeg_error_mgr base; /* first: libjpeg knows only this part */
  jmp_buf escape;
  struct jpeg_report *report;
};

struct progress {
  struct jpeg_progress_mgr base;
  int max_scans;
  struct entropy *entropy; /* to be installed before the first coefficient is read; or none */
};

static void leave(j_common_ptr info, enum status status) {
  struct failure *failure = (struct failure *)info->err;
  failure->report->status = status;
  longjmp(failure->escape, 1);
}

static void on_error(j_common_ptr info) {
  struct failure *failure = (struct failure *)info->err;
  int code = info->err->msg_code;
  info->err->format_message(info, failure->report->message);
  leave(info, code == JERR_OUT_OF_MEMORY || code == JERR_NO_BACKING_STORE ? OUT_OF_MEMORY : FAILED);
}

static void on_message(j_common_ptr info, int level) {
  struct failure *failure = (struct failure *)info->err;
  uint32_t kind;
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA: /* bytes between segments: no pixel depends on them */
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR:
    case JWRN_BOGUS_ICC:
    case JWRN_TOO_MUCH_DATA:
      return;
    case JWRN_JPEG_EOF: kind = SOURCE_ENDED; break;
    case JWRN_HIT_MARKER: kind = SCAN_ENDED; break;
    default: kind = DATA_CORRUPT; break;
  }
  if (failure->report->warnings == 0) info->err->format_message(info, failure->report->message);
  failure->report->warnings |= kind;
}

static void print_nothing(j_common_ptr info) { (void)info; }

static void count_scans(j_common_ptr info) {
  struct progress *progress = (struct progress *)info->progress;
  if (info->is_decompressor && ((j_decompress_ptr)info)->input_scan_number > progress->max_scans)
    leave(info, TOO_MANY_SCANS);
}

/* `jpeg_read_coefficients` reports progress between the start of the scan and its first byte. */
static void install_and_count(j_common_ptr info) {
  struct progress *progress = (struct progress *)info->progress;
  if (progress->entropy != NULL) mllmrisk_entropy_install((j_decompress_ptr)info, progress->entropy);
  progress->entropy = NULL;
  count_scans(info);
}

static void start_again(j_decompress_ptr info) { leave((j_common_ptr)info, AGAIN); }

/* Whether every coefficient of a progressive image came with its last bit. */
static int is_complete(j_decompress_ptr info) {
  int c, k;
  if (info->coef_bits == NULL) return 0;
  for (c = 0; c < info->num_components; c++)
    for (k = 0; k < DCTSIZE2; k++)
      if (info->coef_bits[c][k] != 0) return 0;
  return 1;
}

struct session {
  struct jpeg_decompress_struct info;
  struct failure failure;
  struct progress progress;
  struct entropy entropy;
};

/* Makes errors of what follows come back through `failure.escape`, which the caller sets next. */
static void prepare(struct session *session, int max_scans, struct jpeg_report *report) {
  memset(session, 0, offsetof(struct session, entropy));
  memset(&session->entropy, 0, offsetof(struct entropy, dc_tables));
  memset(session->entropy.dc_codes, 0, sizeof session->entropy.dc_codes);
  memset(session->entropy.ac_codes, 0, sizeof session->entropy.ac_codes);
  session->entropy.give_up = start_again;
  report->status = FAILED;
  report->warnings = 0;
  report->message[0] = '\0';
  session->info.err = jpeg_std_error(&session->failure.base);
  session->failure.base.error_exit = on_error;
  session->failure.base.emit_message = on_message;
  session->failure.base.output_message = print_nothing;
  session->failure.report = report;
  session->progress.base.progress_monitor = count_scans;
  session->progress.max_scans = max_scans;
}

/* Reads the header; `OTHER_SIZE` says that it is another one than the caller has read. */
static void read_header(struct session *session, const uint8_t *data, size_t size, uint32_t width, uint32_t height,
                        size_t max_memory) {
  j_decompress_ptr info = &session->info;
  jpeg_create_decompress(info);
  info->progress = &session->progress.base;
  info->mem->max_memory_to_use = max_memory > LONG_MAX ? LONG_MAX : (long)max_memory;
  jpeg_mem_src(info, data, (unsigned long)size);
  jpeg_read_header(info, TRUE);
  if (info->image_width != width || info->image_height != height) leave((j_common_ptr)info, OTHER_SIZE);
}

static void succeed(struct session *session) {
  struct jpeg_report *report = session->failure.report;
  j_decompress_ptr info = &session->info;
  /* The end marker alone may be missing: then all coefficients are there. */
  if (report->warnings == SOURCE_ENDED && (!jpeg_has_multiple_scans(info) || is_complete(info))) report->warnings = 0;
  report->status = DECODED;
  jpeg_destroy_decompress(info);
}

static void decode(const uint8_t *data, size_t size, uint8_t *out, uint32_t width, uint32_t height, uint32_t channels,
                   size_t max_memory, int32_t max_scans, int fast, struct jpeg_report *report) {
  struct session session;
  j_decompress_ptr info = &session.info;
  const size_t stride = (size_t)width * channels;

  prepare(&session, max_scans, report);
  if (setjmp(session.failure.escape)) {
    jpeg_destroy_decompress(info);
    return;
  }
  read_header(&session, data, size, width, height, max_memory);
  if ((info->num_components == 4) != (channels == 4)) leave((j_common_ptr)info, OTHER_SIZE);
  info->out_color_space = channels == 4 ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(info);
  if (fast) mllmrisk_entropy_install(info, &session.entropy);
  if (info->output_width != width || info->output_height != height || info->output_components != (int)channels)
    leave((j_common_ptr)info, OTHER_SIZE);
  while (info->output_scanline < height) {
    JSAMPROW rows[16];
    JDIMENSION count = height - info->output_scanline, i;
    if (count > 16) count = 16;
    for (i = 0; i < count; i++) rows[i] = out + (info->output_scanline + i) * stride;
    jpeg_read_scanlines(info, rows, count);
  }
  succeed(&session);
}

/* Decodes `data` into `out`: `height` rows of `width * channels` bytes, RGB for 3 channels, the stored (for Adobe files
 * inverted) CMYK for 4. The caller has read the frame header; `OTHER_SIZE` says that libjpeg read another one. */
void mllmrisk_jpeg_decode(const uint8_t *data, size_t size, uint8_t *out, uint32_t width, uint32_t height,
                          uint32_t channels, size_t max_memory, int32_t max_scans, struct jpeg_report *report) {
  decode(data, size, out, width, height, channels, max_memory, max_scans, 1, report);
  if (report->status == AGAIN) decode(data, size, out, width, height, channels, max_memory, max_scans, 0, report);
}

struct jpeg_component {
  int16_t *values; /* blocks_y * blocks_x * 64, of the caller */
  uint32_t blocks_x;
  uint32_t blocks_y;
  uint16_t quantisation[DCTSIZE2];
};

static void copy_coefficients(const uint8_t *data, size_t size, uint32_t width, uint32_t height,
                              struct jpeg_component *components, uint32_t count, size_t max_memory, int32_t max_scans,
                              int fast, struct jpeg_report *report) {
  struct session session;
  j_decompress_ptr info = &session.info;
  jvirt_barray_ptr *arrays;
  uint32_t c, k;
  JDIMENSION y;

  prepare(&session, max_scans, report);
  if (setjmp(session.failure.escape)) {
    jpeg_destroy_decompress(info);
    return;
  }
  read_header(&session, data, size, width, height, max_memory);
  if ((uint32_t)info->num_components != count) leave((j_common_ptr)info, OTHER_SIZE);
  if (fast) {
    session.progress.entropy = &session.entropy;
    session.progress.base.progress_monitor = install_and_count;
  }
  arrays = jpeg_read_coefficients(info);
  for (c = 0; c < count; c++) {
    const jpeg_component_info *from = &info->comp_info[c];
    struct jpeg_component *to = &components[c];
    const size_t row = (size_t)to->blocks_x * DCTSIZE2;
    if (from->width_in_blocks != to->blocks_x || from->height_in_blocks != to->blocks_y || from->quant_table == NULL)
      leave((j_common_ptr)info, OTHER_SIZE);
    for (k = 0; k < DCTSIZE2; k++) to->quantisation[k] = from->quant_table->quantval[k];
    for (y = 0; y < to->blocks_y; y++) {
      JBLOCKARRAY blocks = info->mem->access_virt_barray((j_common_ptr)info, arrays[c], y, 1, FALSE);
      memcpy(to->values + y * row, blocks[0], row * sizeof(JCOEF));
    }
  }
  succeed(&session);
}

/* Copies the quantised coefficients, in natural order, and the tables that they were quantised with. The caller has
 * read the frame header; `OTHER_SIZE` says that libjpeg counts other blocks. */
void mllmrisk_jpeg_coefficients(const uint8_t *data, size_t size, uint32_t width, uint32_t height,
                                struct jpeg_component *components, uint32_t count, size_t max_memory,
                                int32_t max_scans, struct jpeg_report *report) {
  copy_coefficients(data, size, width, height, components, count, max_memory, max_scans, 1, report);
  if (report->status == AGAIN)
    copy_coefficients(data, size, width, height, components, count, max_memory, max_scans, 0, report);
}
