"""ML-KEM-768 by the text of FIPS 203: slow, not constant time, for test vectors only.

It exists because fixed randomness and the expanded 2400-byte decapsulation key are what the vectors need, and the
`cryptography` package offers neither. generate.py checks it against that package.
"""

import hashlib

Q, N, K, ETA, DU, DV = 3329, 256, 3, 2, 10, 4


def bitrev7(i):
    return int(f"{i:07b}"[::-1], 2)


ZETA = [pow(17, bitrev7(i), Q) for i in range(128)]
GAMMA = [pow(17, 2 * bitrev7(i) + 1, Q) for i in range(128)]


def h(s):
    return hashlib.sha3_256(s).digest()


def g(s):
    out = hashlib.sha3_512(s).digest()
    return out[:32], out[32:]


def j(s):
    return hashlib.shake_256(s).digest(32)


def ntt(f):
    f, i, length = list(f), 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            z, i = ZETA[i], i + 1
            for k in range(start, start + length):
                t = z * f[k + length] % Q
                f[k + length], f[k] = (f[k] - t) % Q, (f[k] + t) % Q
        length //= 2
    return f


def ntt_inverse(f):
    f, i, length = list(f), 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            z, i = ZETA[i], i - 1
            for k in range(start, start + length):
                t = f[k]
                f[k], f[k + length] = (t + f[k + length]) % Q, z * (f[k + length] - t) % Q
        length *= 2
    return [x * 3303 % Q for x in f]


def multiply(a, b):
    c = []
    for i in range(128):
        a0, a1, b0, b1 = a[2 * i], a[2 * i + 1], b[2 * i], b[2 * i + 1]
        c += [(a0 * b0 + a1 * b1 * GAMMA[i]) % Q, (a0 * b1 + a1 * b0) % Q]
    return c


def add(a, b):
    return [(x + y) % Q for x, y in zip(a, b)]


def inner(a, b):
    out = [0] * N
    for x, y in zip(a, b):
        out = add(out, multiply(x, y))
    return out


def sample_ntt(seed):
    stream, out = hashlib.shake_128(seed).digest(3 * 1024), []
    for i in range(0, len(stream), 3):
        b0, b1, b2 = stream[i : i + 3]
        out += [d for d in (b0 + 256 * (b1 % 16), b1 // 16 + 16 * b2) if d < Q]
    assert len(out) >= N
    return out[:N]


def sample_cbd(seed, n):
    bits = [b >> k & 1 for b in hashlib.shake_256(seed + bytes([n])).digest(64 * ETA) for k in range(8)]
    return [
        (sum(bits[2 * i * ETA : 2 * i * ETA + ETA]) - sum(bits[2 * i * ETA + ETA : 2 * (i + 1) * ETA])) % Q
        for i in range(N)
    ]


def encode(f, d):
    return sum(x << (d * i) for i, x in enumerate(f)).to_bytes(32 * d, "little")


def decode(b, d):
    n = int.from_bytes(b, "little")
    return [(n >> (d * i)) % (1 << d) for i in range(N)]


def compress(f, d):
    return [((x << d) * 2 + Q) // (2 * Q) % (1 << d) for x in f]


def decompress(f, d):
    return [(x * Q * 2 + (1 << d)) // (2 << d) for x in f]


def matrix(rho):
    return [[sample_ntt(rho + bytes([col, row])) for col in range(K)] for row in range(K)]


def keygen(d, z):
    """(encapsulation key 1184 B, decapsulation key 2400 B) from two 32-byte seeds."""
    rho, sigma = g(d + bytes([K]))
    a = matrix(rho)
    s = [ntt(sample_cbd(sigma, i)) for i in range(K)]
    e = [ntt(sample_cbd(sigma, K + i)) for i in range(K)]
    t = [add(inner(a[i], s), e[i]) for i in range(K)]
    ek = b"".join(encode(x, 12) for x in t) + rho
    return ek, b"".join(encode(x, 12) for x in s) + ek + h(ek) + z


def pke_encrypt(ek, m, r):
    t, rho = [decode(ek[384 * i : 384 * (i + 1)], 12) for i in range(K)], ek[384 * K :]
    a = matrix(rho)
    y = [ntt(sample_cbd(r, i)) for i in range(K)]
    e1 = [sample_cbd(r, K + i) for i in range(K)]
    e2 = sample_cbd(r, 2 * K)
    u = [add(ntt_inverse(inner([a[k][i] for k in range(K)], y)), e1[i]) for i in range(K)]
    v = add(add(ntt_inverse(inner(t, y)), e2), decompress(decode(m, 1), 1))
    return b"".join(encode(compress(x, DU), DU) for x in u) + encode(compress(v, DV), DV)


def pke_decrypt(dk, c):
    u = [decompress(decode(c[320 * i : 320 * (i + 1)], DU), DU) for i in range(K)]
    v = decompress(decode(c[320 * K :], DV), DV)
    s = [decode(dk[384 * i : 384 * (i + 1)], 12) for i in range(K)]
    w = inner(s, [ntt(x) for x in u])
    return encode(compress(add(v, [-x % Q for x in ntt_inverse(w)]), 1), 1)


def encapsulate(ek, m):
    """(ciphertext 1088 B, shared secret 32 B) from the 32 random bytes m."""
    secret, r = g(m + h(ek))
    return pke_encrypt(ek, m, r), secret


def decapsulate(dk, c):
    """The shared secret; of a ciphertext that does not fit, the implicit rejection's."""
    pke, ek, ek_hash, z = dk[:1152], dk[1152:2336], dk[2336:2368], dk[2368:]
    m = pke_decrypt(pke, c)
    secret, r = g(m + ek_hash)
    return secret if pke_encrypt(ek, m, r) == c else j(z + c)
