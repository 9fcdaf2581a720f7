/* oracle_quant.h - the two searching quantisers written down once more, one number after the other:
 * what a reader of the block must see, to the last bit. x is finite and far from the limits of the
 * formats. */
#ifndef ORACLE_QUANT_H
#define ORACLE_QUANT_H

void oracle_q4_k(const float x[256], float back[256]);
void oracle_q6_k(const float x[256], float back[256]);

#endif
