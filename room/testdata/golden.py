#!/usr/bin/env python3
"""The golden values of room/golden_test.go, made a second time with nothing of
ours but docs/protocol.md: Python, its hashlib, and the package "cryptography"
(44 or later) for Argon2id and ChaCha20-Poly1305. HKDF-Expand (RFC 5869),
HChaCha20 (draft-irtf-cfrg-xchacha) and Ed25519ctx (RFC 8032) are written out.

Run it to see the values; nothing runs it by itself."""

import base64, hashlib, hmac, struct
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

# Ed25519ctx, after RFC 8032 section 6. Slow and not in constant time: for tests.
p = 2**255 - 19
q = 2**252 + 27742317777372353535851937790883648493
d = -121665 * pow(121666, p - 2, p) % p
I = pow(2, (p - 1) // 4, p)


def add(P, Q):
    A, B = (P[1] - P[0]) * (Q[1] - Q[0]) % p, (P[1] + P[0]) * (Q[1] + Q[0]) % p
    C, D = 2 * P[3] * Q[3] * d % p, 2 * P[2] * Q[2] % p
    E, F, G, H = B - A, D - C, D + C, B + A
    return E * F % p, G * H % p, F * G % p, E * H % p


def mul(s, P):
    Q = (0, 1, 1, 0)
    while s > 0:
        if s & 1:
            Q = add(Q, P)
        P, s = add(P, P), s >> 1
    return Q


def base():
    y = 4 * pow(5, p - 2, p) % p
    x2 = (y * y - 1) * pow(d * y * y + 1, p - 2, p)
    x = pow(x2, (p + 3) // 8, p)
    if (x * x - x2) % p:
        x = x * I % p
    if x & 1:
        x = p - x
    return x, y, 1, x * y % p


def compress(P):
    z = pow(P[2], p - 2, p)
    x, y = P[0] * z % p, P[1] * z % p
    return (y | (x & 1) << 255).to_bytes(32, "little")


def private(seed):
    h = hashlib.sha512(seed).digest()
    a = int.from_bytes(h[:32], "little") & ((1 << 254) - 8) | 1 << 254
    return a, h[32:]


def public(seed):
    return compress(mul(private(seed)[0], base()))


def sign(seed, context, message):
    dom = b"SigEd25519 no Ed25519 collisions" + bytes([0, len(context)]) + context
    a, prefix = private(seed)
    number = lambda b: int.from_bytes(hashlib.sha512(dom + b).digest(), "little") % q
    r = number(prefix + message)
    R = compress(mul(r, base()))
    return R + ((r + number(R + public(seed) + message) * a) % q).to_bytes(32, "little")


# RFC 8032 section 7.2, -----foo
assert sign(bytes.fromhex("0305334e381af78f141cb666f6199f57bc3495335a256a95bd2a55bf546663f6"), b"foo",
            bytes.fromhex("f726936d19c800494e3fdaff20b276a8")).hex().startswith("55a4cc2f70a54e04288c5f4cd1e45a7b")


def expand(prk, info, n):
    out = t = b""
    while len(out) < n:
        t = hmac.new(prk, t + info + bytes([len(out) // 32 + 1]), hashlib.sha256).digest()
        out += t
    return out[:n]


def hchacha20(key, nonce):
    s = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))
    rot = lambda v, c: v << c & 0xFFFFFFFF | v >> 32 - c

    def quarter(a, b, c, e):
        for x, y, z, by in ((a, b, e, 16), (c, e, b, 12), (a, b, e, 8), (c, e, b, 7)):
            s[x] = s[x] + s[y] & 0xFFFFFFFF
            s[z] = rot(s[z] ^ s[x], by)

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<8I", *s[:4], *s[12:])


def xseal(key, nonce, plain, ad):
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).encrypt(bytes(4) + nonce[16:], plain, ad)


# draft-irtf-cfrg-xchacha section 2.2.1
assert hchacha20(bytes(range(32)), bytes.fromhex("000000090000004a0000000031415927"))[:4].hex() == "82413b42"

base32 = lambda b: base64.b32encode(b).decode().lower().rstrip("=")
L = lambda x: struct.pack(">H", len(x)) + x
u32 = lambda n: struct.pack(">I", n)
u64 = lambda n: struct.pack(">Q", n)
run = lambda first, n: bytes(range(first, first + n))


def show(name, b):
    print(f"{name}: {b.hex()}")


# Section 2
show("room_secret", Argon2id(salt=run(0, 32), length=32, iterations=3, lanes=1, memory_cost=65536).derive(b"tea house"))
secret = run(0x40, 32)
room = expand(secret, b"teahouse room id 1", 16)
show("room id", room)
print("room id as text:", base32(room))
show("DHT key", expand(secret, b"teahouse dht 1" + u64(1700000000 // 3600), 32))
topic = base32(expand(secret, b"teahouse topic 1" + u64(1700000000 // 86400), 32))
print("topic:", topic)
beacon_key = expand(secret, b"teahouse beacon 1", 32)
show("door", expand(secret, b"teahouse session 1", 32))

# Sections 5 and 6
epoch = run(0x80, 32)
epoch_tag, epoch_id = expand(epoch, b"teahouse epoch tag 1", 4), expand(epoch, b"teahouse epoch id 1", 16)
roster_key = expand(epoch, b"teahouse roster 1", 32)
show("ratchet", expand(epoch, b"teahouse ratchet 1", 32))
show("epoch tag", epoch_tag)
show("epoch id", epoch_id)
commitment = hashlib.sha256(b"teahouse epoch commitment 1" + room + u32(7) + epoch).digest()
show("commitment", commitment)

member_seed, host_seed, voice_seed = b"\x11" * 32, b"\x22" * 32, b"\x33" * 32
member, voice = public(member_seed), public(voice_seed)
peer = bytes.fromhex("002408011220") + public(host_seed)
salt = run(0xA0, 16)
show("member key", member)
show("peer id", peer)
show("voice key", voice)

key = expand(epoch, b"teahouse frame 1" + room + member + L(peer) + salt, 36)
key, sender_tag = key[:32], key[32:]
show("sender tag", sender_tag)


def frame(flow, counter, media_time, flags, level, opus):
    header = bytes([flow]) + u32(counter)
    body = u32(media_time) + bytes([flags, level]) + opus
    return ChaCha20Poly1305(key).encrypt(bytes(7) + header, body, epoch_tag + sender_tag + header)


older = frame(0, 0x01020303, 0x0A0B090D, 2, 127, b"x")
newer = frame(0, 0x01020304, 0x0A0B0C0D, 1, 30, b"opus!")
show("older frame", older)
show("newer frame", newer)

entry = (member + L(peer) + u64(0x0102030405060708) + salt + u64(9) + b"\x00\x13" + voice + epoch_id + L("茶 Ada".encode()))
entry += (sign(member_seed, b"teahouse/entry/1", room + entry) + sign(host_seed, b"teahouse/entry-host/1", room + entry))
show("entry", entry)
show("proof", sign(member_seed, b"teahouse/proof/1", room + b"\x01" + run(0xC0, 32)))
show("origin", sign(member_seed, b"teahouse/epoch/1", room + u32(7) + bytes(2 + 32) + commitment + bytes(32) + member))

nonce = run(0xE0, 24)
pad = lambda b: b + bytes(512 - len(b))
addrs = b"\x02" + L(b"/ip4/192.0.2.1/udp/7654/quic-v1") + L(b"/ip6/2001:db8::1/tcp/7654")
show("beacon.hex", b"\x01" + nonce + xseal(beacon_key, nonce, pad(L(peer) + addrs), topic.encode() + b"\x01"))
show("sealed_roster.hex", b"\x02" + epoch_tag + nonce + xseal(roster_key, nonce, pad(entry), topic.encode() + b"\x02" + epoch_tag))

bundle = b"\x03" + u32(0x51525354) + epoch_tag + sender_tag + b"\x00" + u32(0x01020303) + b"\x02" + L(older) + L(newer)
show("bundle", sign(voice_seed, b"teahouse/bundle/1", room + bundle))
