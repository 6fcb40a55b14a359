#!/usr/bin/env python3
"""Known-answer vectors for every byte format of key-hierarchy.md, made without any code of this project.

    python3 -m venv V && V/bin/pip install cryptography blake3
    V/bin/python crates/crypto/tests/vectors/generate.py

writes the JSON files beside itself, always the same bytes: all randomness is a stream from fixed seeds. The Rust tests
(src/testing/known_answers.rs) read them and check both directions. Byte strings are in hex. Where an "entropy" stands,
it is what the writer draws, in the order in which it is drawn.
"""

import hashlib
import hmac
import json
import pathlib
import struct
import sys

from blake3 import blake3
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, padding, rsa, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

sys.dont_write_bytecode = True
import mlkem768  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
DER, SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
RAW, RAW_PUBLIC = serialization.Encoding.Raw, serialization.PublicFormat.Raw
POINT = (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


class Stream:
    """SHA-256(seed u64 ‖ counter u64) for counter 0, 1, …; remembers what was drawn."""

    def __init__(self, seed):
        self.seed, self.counter, self.ready, self.drawn = seed, 0, b"", b""

    def take(self, n):
        while len(self.ready) < n:
            self.ready += hashlib.sha256(struct.pack(">QQ", self.seed, self.counter)).digest()
            self.counter += 1
        out, self.ready = self.ready[:n], self.ready[n:]
        self.drawn += out
        return out


def sha256(b):
    return hashlib.sha256(b).digest()


def u8(n):
    return struct.pack(">B", n)


def u16(n):
    return struct.pack(">H", n)


def u32(n):
    return struct.pack(">I", n)


def u64(n):
    return struct.pack(">Q", n)


def f(b):
    """A byte string as a field."""
    return u32(len(b)) + b


def kdf(key, label, fields, n):
    """SP 800-108r1, counter mode, 32-bit counter before the fixed input."""
    fixed = b"quorate/v1/" + label + b"\0" + fields + u32(8 * n)
    out, i = b"", 1
    while len(out) < n:
        out += hmac.new(key, u32(i) + fixed, "sha256").digest()
        i += 1
    return out[:n]


def box(key, label, hdr, aad, pt, entropy):
    r, iv, bound = entropy.take(16), entropy.take(12), f(hdr) + f(aad)
    keys = kdf(key, label, f(r) + f(sha256(bound)), 64)
    return r + iv + keys[32:] + AESGCM(keys[:32]).encrypt(iv, pt, bound)


def box0(key, label, hdr, aad, pt, entropy):
    r, iv, bound = entropy.take(16), entropy.take(12), f(hdr) + f(aad)
    return r + iv + AESGCM(kdf(key, label, f(r) + f(sha256(bound)), 32)).encrypt(iv, pt, bound)


def pad(pt):
    """To 64 B; above 1 KiB by Padmé."""
    block, n = 64, len(pt)
    if n > 1024:
        e = n.bit_length() - 1
        block = 1 << (e - e.bit_length())
    return pt + bytes(-n % block)


# bech32m, after BIP 350.
CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def polymod(values):
    chk = 1
    for v in values:
        top, chk = chk >> 25, (chk & 0x1FFFFFF) << 5 ^ v
        for i, gen in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            chk ^= gen if top >> i & 1 else 0
    return chk


def bech32m(hrp, data):
    bits = "".join(f"{b:08b}" for b in data)
    values = [int(bits[i : i + 5].ljust(5, "0"), 2) for i in range(0, len(bits), 5)]
    expanded = [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp]
    check = polymod(expanded + values + [0] * 6) ^ 0x2BC830A3
    return hrp + "1" + "".join(CHARSET[v] for v in values + [check >> 5 * (5 - i) & 31 for i in range(6)])


# Shamir's scheme over GF(2^8) with x^8 + x^4 + x^3 + x + 1, byte by byte.
def gf_mul(a, b):
    out = 0
    while b:
        out ^= a if b & 1 else 0
        a, b = a << 1 ^ (0x11B if a & 0x80 else 0), b >> 1
    return out


def split(secret, threshold, total, entropy):
    coefficients = [secret] + [entropy.take(32) for _ in range(threshold - 1)]
    shares = []
    for x in range(1, total + 1):
        y = bytes(32)
        for c in reversed(coefficients):
            y = bytes(gf_mul(a, x) ^ b for a, b in zip(y, c))
        shares.append((x, y))
    return shares


def p256(scalar):
    return ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())


def ed_public(seed):
    return ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(RAW, RAW_PUBLIC)


def x_public(seed):
    return x25519.X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(RAW, RAW_PUBLIC)


def x_agree(seed, public):
    peer = x25519.X25519PublicKey.from_public_bytes(public)
    return x25519.X25519PrivateKey.from_private_bytes(seed).exchange(peer)


def hybrid_pair(entropy):
    """(public, secret) as they stand in formats."""
    seed, d, z = entropy.take(32), entropy.take(32), entropy.take(32)
    ek, dk = mlkem768.keygen(d, z)
    theirs = mlkem.MLKEM768PrivateKey.from_seed_bytes(d + z)
    assert theirs.public_key().public_bytes(RAW, RAW_PUBLIC) == ek
    ct, ss = mlkem768.encapsulate(ek, z)
    assert theirs.decapsulate(ct) == ss == mlkem768.decapsulate(dk, ct)
    bad = bytes([ct[0] ^ 1]) + ct[1:]
    assert theirs.decapsulate(bad) == mlkem768.decapsulate(dk, bad) != ss
    return u8(1) + x_public(seed) + ek, u8(1) + seed + dk


def rsa_key(seed, bits=3072, e=65537):
    """A reproducible RSA key."""
    entropy = Stream(seed)

    def prime():
        while True:
            n = int.from_bytes(entropy.take(bits // 16), "big") | 3 << bits // 2 - 2 | 1
            if all(n % p for p in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)) and n % e != 1:
                if all(witness(n, a) for a in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)):
                    return n

    def witness(n, a):
        s = (n - 1 & 1 - n).bit_length() - 1
        x = pow(a, n - 1 >> s, n)
        return x in (1, n - 1) or any((x := x * x % n) == n - 1 for _ in range(s - 1))

    p, q = sorted((prime(), prime()), reverse=True)
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q))
    return numbers.private_key()


def oaep(public, message, seed_entropy, name):
    """RFC 8017 §7.1.1 with an empty label and a given seed."""
    numbers, hlen = public.public_numbers(), hashlib.new(name).digest_size
    k = (numbers.n.bit_length() + 7) // 8

    def mask(seed, n):
        return b"".join(hashlib.new(name, seed + u32(i)).digest() for i in range(n // hlen + 1))[:n]

    seed = seed_entropy.take(hlen)
    db = hashlib.new(name, b"").digest() + bytes(k - len(message) - 2 * hlen - 2) + b"\1" + message
    db = bytes(a ^ b for a, b in zip(db, mask(seed, len(db))))
    em = b"\0" + bytes(a ^ b for a, b in zip(seed, mask(db, hlen))) + db
    return pow(int.from_bytes(em, "big"), numbers.e, numbers.n).to_bytes(k, "big")


def hex_of(v):
    if isinstance(v, bytes):
        return v.hex()
    if isinstance(v, dict):
        return {k: hex_of(x) for k, x in v.items()}
    return [hex_of(x) for x in v] if isinstance(v, (list, tuple)) else v


def write(name, value):
    text = json.dumps(hex_of(value), indent=1, ensure_ascii=False)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


# What the formats below share.
SETUP = Stream(1)
L, C, SET = SETUP.take(16), SETUP.take(16), SETUP.take(4)
UK, RK = SETUP.take(32), SETUP.take(32)
ROOT_SPKI = p256(SETUP.take(32)).public_key().public_bytes(DER, SPKI)
PK_Q, SK_Q = hybrid_pair(SETUP)
PK_AUD, SK_AUD = hybrid_pair(SETUP)
T, LABELS, GENERATION, R = 3, ["Ada", "Ben", "Çelik", "Dee", "Eva"], 1, 1
E1, E2, K_NAME, ANCHOR = SETUP.take(32), SETUP.take(32), SETUP.take(32), SETUP.take(32)
K_MID = Stream(90).take(32)
K_BACKUP = Stream(91).take(32)
SHARES = split(UK, T, len(LABELS), SETUP)
IDS = {"lineage": L, "cluster": C, "set_id": SET}


def primitives():
    write(
        "primitives",
        {
            "fields": [
                {"ints": [1, 2, 3, 4], "bytes": [b"", b"ab"], "out": u8(1) + u16(2) + u32(3) + u64(4) + f(b"") + f(b"ab")}
            ],
            "kdf": [
                {"key": key, "label": label.decode(), "fields": fields, "out": kdf(key, label, fields, n)}
                for key, label, fields, n in [
                    (bytes(32), b"keyring", b"", 32),
                    (UK, b"custodian-sign", f(C) + f(SET) + u8(3) + u8(1), 32),
                    (RK, b"hsm-check", f(b"context"), 16),
                    (RK, b"record", f(bytes(16)), 64),
                ]
            ],
            "boxes": [
                {
                    "key": key, "hdr": hdr, "aad": aad, "pt": pt,
                    "box": box(key, b"ciphertext", hdr, aad, pt, (a := Stream(seed))), "entropy": a.drawn,
                    "box0": box0(key, b"record", hdr, aad, pt, Stream(seed)),
                }
                for seed, key, hdr, aad, pt in [
                    (10, bytes(32), b"", b"", b""),
                    (11, UK, b"header", b"associated", b"plaintext"),
                    (12, RK, b"h" * 100, b"", bytes(range(256)) * 8),
                ]
            ],
            "root_gen": [
                {"purpose": p, "hsm": RK, "entropy": UK, "out": kdf(UK + RK, b"root-gen", f(p.encode()), 32)}
                for p in ("unseal-key", "root-key", "epoch-key", "name-key", "id-key", "anchor-seed", "backup-key", "quorum-x25519", "audit-x25519")
            ],
        },
    )


def seal_config(custodians):
    head = u8(1) + u8(1) + L + C + u32(GENERATION) + SET + u8(T) + u8(len(LABELS))
    for x, label, pk in custodians:
        head += u8(x) + f(label.encode()) + pk
    head += f(PK_Q)
    tail = f(PK_AUD) + ed_public(ANCHOR) + u8(1) + u8(1) + f(ROOT_SPKI) + u8(1) + bytes(32)
    entropy = Stream(20)
    box_q = box(kdf(UK, b"quorum-key", b"", 32), b"quorum-key-box", head + tail, b"", SK_Q, entropy)
    body = head + f(box_q) + tail
    message = b"quorate/v1/seal-config\0" + f(sha256(body))
    signatures = [
        (1, "admin/ada", ed25519.Ed25519PrivateKey.from_private_bytes(UK).sign(message)),
        (2, "n1", ed25519.Ed25519PrivateKey.from_private_bytes(RK).sign(message)),
    ]
    whole = body + u8(len(signatures)) + b"".join(u8(k) + f(s.encode()) + f(v) for k, s, v in signatures)
    write(
        "seal_config",
        {
            **IDS, "generation": GENERATION, "threshold": T, "uk": UK, "sk_q": SK_Q, "entropy": entropy.drawn,
            "custodians": [{"x": x, "label": label, "proof_key": pk} for x, label, pk in custodians],
            "pk_q": PK_Q, "pk_aud": PK_AUD, "pk_anchor": ed_public(ANCHOR), "recovery": [ROOT_SPKI],
            "box_q": box_q, "signing_message": message, "encoded": whole, "hash": sha256(whole),
            "signatures": [{"kind": k, "signer": s, "signature": v} for k, s, v in signatures],
        },
    )
    return whole


def shares():
    fingerprint, out, custodians = sha256(f(C) + f(ROOT_SPKI))[:8], [], []
    node, nonce = "n1", Stream(30).take(32)
    for (x, y), label in zip(SHARES, LABELS):
        seed = kdf(y, b"custodian-sign", f(C) + f(SET) + u8(T) + u8(x), 32)
        message = b"quorate/v1/share-proof\0" + f(C) + f(node.encode()) + f(nonce)
        raw = u8(1) + fingerprint + SET + u8(T) + u8(x) + y
        assert len(raw) == 47 and len(bech32m("qs", raw)) == 85
        custodians.append((x, label, ed_public(seed)))
        out.append(
            {
                "x": x, "y": y, "bytes": raw, "text": bech32m("qs", raw), "seed": seed, "proof_key": ed_public(seed),
                "proof": ed25519.Ed25519PrivateKey.from_private_bytes(seed).sign(message),
            }
        )
    write(
        "shares",
        {
            **IDS, "threshold": T, "root_spki": ROOT_SPKI, "fingerprint": fingerprint, "uk": UK, "node_name": node,
            "nonce": nonce, "shares": out,
        },
    )
    return custodians


def keyring(config):
    pt = u8(2) + u16(2) + u32(1) + E1 + u64(0) + u8(2) + u32(2) + E2 + u64(77) + u8(1) + u32(1) + K_NAME + K_MID + ANCHOR
    pt += u32(1) + K_BACKUP
    v, group, entropy = 2, 0, Stream(40)
    hdr = f(L) + f(C) + u32(group) + u32(R) + u32(v) + f(sha256(config))
    boxed = u8(1) + u8(1) + u32(R) + u32(v)
    boxed += box(kdf(RK, b"keyring", b"", 32), b"keyring-box", hdr, b"", pt, entropy)
    key, saved, drawn = bytes(range(16)), b"a key and its versions", Stream(92)
    backup = b"QBKP" + u8(1) + L + u32(1) + key
    backup += box(kdf(K_BACKUP, b"backup", u32(1), 32), b"backup-box", f(L) + u32(1) + f(key), b"", saved, drawn)
    write(
        "keyring",
        {
            "backup": {"key": key, "plaintext": saved, "entropy": drawn.drawn, "bytes": backup},
            **IDS, "group": group, "root_generation": R, "version": v, "root_key": RK, "seal_config_hash": sha256(config),
            "plaintext": pt, "entropy": entropy.drawn, "boxed": boxed, "anchor_public_key": ed_public(ANCHOR),
        },
    )
    return pt, boxed


def records(keyring_pt):
    group, epoch, origin, boot, seq = 0, 2, 7, 3, 12345
    token = bytes(range(100, 116))
    k_rec, k_mac = (kdf(E2, label, u32(epoch), 32) for label in (b"record-key", b"batch-mac"))
    out, expects, ops = [], [], b""
    for op, (table, prefix, name, suffix, body) in enumerate(
        [
            (4, b"", b"alias/shop", b"", b"a short body"),
            (3, bytes(range(6)), bytes(range(16)), u32(1), E1),
            (2, bytes(range(12, 16)) + bytes(range(6)), bytes(range(16)), b"", b"x" * 3000),
            (6, bytes(6), b"", b"", b""),
        ]
    ):
        blind = blake3(u8(table) + u32(0) + f(name), key=K_NAME).digest()
        key = u8(table) + prefix + blind + suffix
        writer = u64(origin) + u32(boot) + u64(seq) + u16(op)
        hdr = f(L) + u32(group) + f(key) + u32(epoch) + writer
        entropy = Stream(50 + op)
        value = u8(1) + u8(1) + u32(epoch) + writer + box0(k_rec, b"record", hdr, b"", pad(f(name) + f(body)), entropy)
        out.append(
            {
                "table": table, "prefix": prefix, "name": name, "suffix": suffix, "body": body, "op": op, "key": key,
                "blind": blind, "entropy": entropy.drawn, "value": value,
            }
        )
        expects.append(key + u64(100 * op))
        ops += u8(1) + key + f(value)
    gone = u8(4) + blake3(u8(4) + u32(0) + f(b"alias/old"), key=K_NAME).digest()
    expects = b"".join(sorted(expects + [gone + u64(5)]))
    stamp, audit = 1764000000000, sha256(b"audit event")
    batch = u8(1) + L + C + u32(group) + u32(epoch) + u64(origin) + u32(boot) + u64(seq) + u64(stamp) + audit
    batch += u16(len(out) + 1) + expects + u16(len(out) + 1) + ops + u8(2) + gone
    batch += hmac.new(k_mac, batch, "sha256").digest()
    write(
        "records",
        {
            **IDS, "group": group, "keyring": keyring_pt, "epoch": epoch, "origin": origin, "boot": boot, "seq": seq,
            "record_key": k_rec, "records": out, "deleted": {"name": b"alias/old", "key": gone, "rev": 5},
            "stamp_ms": stamp, "audit": audit, "batch": batch,
            "list_tag": blake3(f(b"list") + u32(3) + u8(1), key=K_MID).digest()[:4], "token": token,
            "free_of_token": blake3(f(b"token") + f(b"admin/a") + token + u32(5), key=K_MID).digest()[:8],
        },
    )


def kem_secret(alg, raw, ct_h, spki):
    return kdf(raw, b"hsm-kem", u8(alg) + f(ct_h) + f(spki), 32)


def envelopes():
    entropy = Stream(60)
    node = p256(entropy.take(32))
    spki, identity = node.public_key().public_bytes(DER, SPKI), p256(entropy.take(32)).public_key().public_bytes(DER, SPKI)
    rsa_private = rsa_key(61)
    rsa_spki = rsa_private.public_key().public_bytes(DER, SPKI)
    pkcs8 = (DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    sender, nonce, ceremony = "n2", Stream(62).take(32), Stream(63).take(16)
    out = []
    for i, (kind, alg) in enumerate([(1, 2), (1, 1), (1, 3), (3, 2)]):
        hsm_entropy, x_seed, m, box_entropy = Stream(70 + i), Stream(80 + i).take(32), Stream(90 + i).take(32), Stream(100 + i)
        used_spki = spki if alg == 2 else rsa_spki
        if alg == 2:
            ephemeral = p256(hsm_entropy.take(32))
            ct_h = ephemeral.public_key().public_bytes(*POINT)
            raw = ephemeral.exchange(ec.ECDH(), node.public_key())
        else:
            raw, name = hsm_entropy.take(32), "sha256" if alg == 1 else "sha1"
            ct_h = oaep(rsa_private.public_key(), raw, hsm_entropy, name)
            algorithm = hashes.SHA256() if alg == 1 else hashes.SHA1()
            assert rsa_private.decrypt(ct_h, padding.OAEP(padding.MGF1(algorithm), algorithm, None)) == raw
        ss_h = kem_secret(alg, raw, ct_h, used_spki)
        quorum = kind == 1
        ct_m, ss_m = mlkem768.encapsulate(PK_Q[33:], m)
        ss_x = x_agree(x_seed, PK_Q[1:33])
        ct_q = x_public(x_seed) + ct_m if quorum else b""
        ctx = f(L) + f(C) + u32(GENERATION) + f(SET) + u32(R) + f(b"n1") + f(sha256(used_spki)) + f(sha256(identity))
        ctx += f(sha256(PK_Q)) + f(sha256(ct_h)) + f(sha256(ct_q)) + u8(kind)
        if not quorum:
            ctx += f(sender.encode()) + f(nonce) + f(ceremony)
        check = kdf(ss_h, b"hsm-check", ctx, 16)
        key = kdf(f(ss_h) + f(ss_x) + f(ss_m) if quorum else f(ss_h), b"envelope", ctx, 32)
        boxed = box(key, b"envelope-box", ctx, b"", RK, box_entropy)
        assert len(boxed) == 108 and len(ct_q) in (0, 1120)
        encoded = u8(1) + u8(kind) + u8(alg) + f(ct_h) + u8(quorum) + ct_q + check + boxed
        out.append(
            {
                "kind": kind, "alg": alg, "spki": used_spki, "raw": raw, "ct_h": ct_h, "ss_h": ss_h, "ct_q": ct_q,
                "hsm_entropy": hsm_entropy.drawn, "x25519_seed": x_seed, "ss_x25519": ss_x, "ss_mlkem": ss_m, "context": ctx,
                "box_entropy": box_entropy.drawn, "encoded": encoded, "ack": b"" if quorum else kdf(RK, b"handover-ack", ctx, 32),
            }
        )
    write(
        "envelopes",
        {
            **IDS, "generation": GENERATION, "root_generation": R, "root_key": RK, "node_name": "n1", "pk_q": PK_Q, "sk_q": SK_Q,
            "identity_spki": identity, "p256_private": node.private_numbers().private_value.to_bytes(32, "big"),
            "rsa_pkcs8": rsa_private.private_bytes(*pkcs8), "sender": sender, "nonce": nonce, "ceremony": ceremony,
            "envelopes": out,
        },
    )
    return out[0]["encoded"]


def material():
    key_id, blobs = Stream(110).take(16), []
    contexts = [
        [],
        [["app", "shop"]],
        [["b", "2"], ["a", "1"], ["ü", "ö"], ["𐀀", "astral"], ["｡", "halfwidth"]],
    ]
    for i, (kind, version, pt, context) in enumerate(
        [(1, 1, b"card number", contexts[1]), (2, 3, bytes(range(32)), contexts[0]), (3, 0xFFFFFFFF, b"", contexts[2])]
    ):
        pairs = sorted((k.encode(), v.encode()) for k, v in context)
        aad = sha256(b"".join(f(k) + f(v) for k, v in pairs))
        header = u8(0x51) + u8(1) + u8(1) + u8(kind) + L[:4] + key_id + u32(version)
        entropy = Stream(120 + i)
        blob = header + box(E1, b"ciphertext", header, aad, pt, entropy)
        assert len(header) == 28 and len(blob) == len(pt) + 104
        blobs.append(
            {
                "kind": kind, "version": version, "context": context, "context_hash": aad, "pt": pt,
                "entropy": entropy.drawn, "blob": blob,
            }
        )
    entropy = Stream(130)
    plain = entropy.take(32)
    header = u8(0x51) + u8(1) + u8(1) + u8(2) + L[:4] + key_id + u32(1)
    data_key = header + box(E1, b"ciphertext", header, sha256(b""), plain, entropy)
    write(
        "material",
        {
            **IDS, "key_id": key_id, "material": E1, "blobs": blobs,
            "data_key": {"plaintext": plain, "blob": data_key, "entropy": entropy.drawn},
        },
    )


def genesis(config, envelope, boxed_keyring):
    time_ms = 1764000000000
    entry = u8(1) + u8(3) + L + C + u64(time_ms) + f(config) + f(b"n1") + f(envelope) + f(boxed_keyring) + f(b"")
    write("genesis", {"time_ms": time_ms, "node_name": "n1", "entry": entry})


if __name__ == "__main__":
    primitives()
    config = seal_config(shares())
    keyring_pt, boxed_keyring = keyring(config)
    records(keyring_pt)
    genesis(config, envelopes(), boxed_keyring)
    material()
