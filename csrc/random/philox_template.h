/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011) on FI_LANES counters at once.
 *
 * Parameters: vocabulary of the including file of isa/:
 *   vq            a vector of 64-bit lanes; FI_HALVES of them hold FI_LANES counters, half 0 the even
 *                 ones and half 1 the odd ones (a scalar set has one half of one lane)
 *   vq_set1 vq_mul vq_high vq_xor vq_xor3 vq_counter, and vq_settle with FI_FEW_REGISTERS
 *
 * A 32-bit word is the low half of its 64-bit lane, and the high half holds anything: the widening product reads low
 * halves alone, its own low half is where it should be, and its high half is one shift away.
 */

#define FI_PHILOX_M0 UINT64_C(0xD2511F53)
#define FI_PHILOX_M1 UINT64_C(0xCD9E8D57)
#define FI_PHILOX_W0 UINT32_C(0x9E3779B9) /* 2^32 times the golden ratio's fraction */
#define FI_PHILOX_W1 UINT32_C(0xBB67AE85) /* 2^32 times (sqrt(3) - 1) */
#define FI_PHILOX_ROUNDS 10

/* Where the state of all chains takes all registers (AVX2), keys are stored as whole vectors, which instructions
 * read from memory, while a broadcast would be an instruction of its own; and vq_settle holds the compiler to the order
 * of the rounds: GCC 12 mixes them, and spills twice as much. AVX-512 loses 1 to 3 per cent by either. */
#if FI_FEW_REGISTERS
typedef vq FI_NAME(kept);
#define FI_KEEP(a) vq_set1(a)
#define FI_KEPT(k) (k)
#define FI_SETTLE(a) vq_settle(a)
#else
typedef uint64_t FI_NAME(kept);
#define FI_KEEP(a) (a)
#define FI_KEPT(k) vq_set1(k)
#define FI_SETTLE(a) ((void)0)
#endif

/* Within 2^32 consecutive blocks of one plane only counter word 0 changes, so half of the first
 * two rounds is the same for all blocks; `constant` holds what is left of it. Saves 5 of 60 operations. */
typedef struct {
    FI_NAME(kept) k0[FI_PHILOX_ROUNDS], k1[FI_PHILOX_ROUNDS];
    FI_NAME(kept) constant[4];
} FI_NAME(philox);

FI_INLINE void FI_NAME(philox_begin)(FI_NAME(philox) * p, fi_key key, unsigned plane, uint64_t block) {
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
    const uint64_t c1 = ((uint64_t)plane << 24) | (block >> 32);
    const uint64_t c2 = (uint32_t)key.stream, c3 = key.stream >> 32;
    const uint64_t product1 = FI_PHILOX_M1 * c2;
    const uint64_t a0 = (product1 >> 32) ^ c1 ^ k0; /* words 0 and 1 after round 1 */
    const uint64_t a1 = (uint32_t)product1;
    const uint64_t product0 = FI_PHILOX_M0 * a0; /* of round 2 */
    p->constant[0] = FI_KEEP(c3 ^ k1);
    p->constant[1] = FI_KEEP(a1 ^ (k0 + FI_PHILOX_W0));
    p->constant[2] = FI_KEEP((product0 >> 32) ^ (k1 + FI_PHILOX_W1));
    p->constant[3] = FI_KEEP((uint32_t)product0 ^ (k1 + 2 * FI_PHILOX_W1));
    for (int r = 0; r < FI_PHILOX_ROUNDS; r++) {
        p->k0[r] = FI_KEEP(k0);
        p->k1[r] = FI_KEEP(k1);
        k0 += FI_PHILOX_W0;
        k1 += FI_PHILOX_W1;
    }
}

/* FI_STREAMS groups of FI_LANES blocks are computed together, round by round: one chain of ten rounds
 * waits some 70 cycles for its own products, too long for out-of-order execution to reach the next chain. */
#define FI_CHAINS (FI_STREAMS * FI_HALVES)

/* OUT w[j][s * FI_HALVES + h]: word j of the FI_LANES blocks from block + s * FI_LANES on, half h. No carry out of
 * the low 32 bits of the block may fall inside. */
FI_INLINE void FI_NAME(philox_words)(const FI_NAME(philox) * p, uint32_t block, vq w[4][FI_CHAINS]) {
    const vq m0 = vq_set1(FI_PHILOX_M0), m1 = vq_set1(FI_PHILOX_M1);
    vq c0[FI_CHAINS], c1[FI_CHAINS], c2[FI_CHAINS], c3[FI_CHAINS];
    FI_UNROLL
    for (int i = 0; i < FI_CHAINS; i++) {
        const vq counter = vq_counter(block + (uint32_t)(i / FI_HALVES) * FI_LANES, i % FI_HALVES);
        const vq round1 = vq_mul(counter, m0);
        const vq round2 = vq_mul(vq_xor(vq_high(round1), FI_KEPT(p->constant[0])), m1);
        c0[i] = vq_xor(vq_high(round2), FI_KEPT(p->constant[1]));
        c1[i] = round2;
        c2[i] = vq_xor(round1, FI_KEPT(p->constant[2]));
    }
    FI_UNROLL
    for (int i = 0; i < FI_CHAINS; i++) {
        const vq product0 = vq_mul(c0[i], m0), product1 = vq_mul(c2[i], m1);
        c0[i] = vq_xor3(vq_high(product1), c1[i], FI_KEPT(p->k0[2]));
        c1[i] = product1;
        c2[i] = vq_xor(vq_high(product0), FI_KEPT(p->constant[3]));
        c3[i] = product0;
        FI_SETTLE(c0[i]);
        FI_SETTLE(c1[i]);
        FI_SETTLE(c2[i]);
        FI_SETTLE(c3[i]);
    }
    FI_UNROLL
    for (int r = 3; r < FI_PHILOX_ROUNDS; r++) {
        FI_UNROLL
        for (int i = 0; i < FI_CHAINS; i++) {
            const vq product0 = vq_mul(c0[i], m0), product1 = vq_mul(c2[i], m1);
            c0[i] = vq_xor3(vq_high(product1), c1[i], FI_KEPT(p->k0[r]));
            c1[i] = product1;
            c2[i] = vq_xor3(vq_high(product0), c3[i], FI_KEPT(p->k1[r]));
            c3[i] = product0;
            FI_SETTLE(c0[i]);
            FI_SETTLE(c1[i]);
            FI_SETTLE(c2[i]);
            FI_SETTLE(c3[i]);
        }
    }
    FI_UNROLL
    for (int i = 0; i < FI_CHAINS; i++) {
        w[0][i] = c0[i];
        w[1][i] = c1[i];
        w[2][i] = c2[i];
        w[3][i] = c3[i];
    }
}
#undef FI_KEEP
#undef FI_KEPT
#undef FI_SETTLE
