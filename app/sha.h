/* sha.h - SHA-256 and SHA-1 of downloaded files.
 *
 * Our own, because nothing the program links is sure to have them: libcurl comes with OpenSSL,
 * GnuTLS or a system library, and hashes nothing for its callers. Speed hardly matters: this is
 * several times as fast as the networks the files come from. */
#ifndef APP_SHA_H
#define APP_SHA_H

#include <stddef.h>
#include <stdint.h>

typedef enum sha_kind { SHA_1, SHA_256 } sha_kind;

typedef struct sha {
    sha_kind kind;
    uint32_t h[8];
    uint64_t n; /* bytes so far */
    unsigned char block[64];
} sha;

enum { SHA_HEX = 65 }; /* characters of the longest result, with its end */

void sha_start(sha *s, sha_kind kind);
void sha_add(sha *s, const void *data, size_t n);
/* The result in small hexadecimal digits: 40 or 64 of them. */
void sha_end(sha *s, char hex[SHA_HEX]);

#endif
